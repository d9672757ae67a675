// The report's table (sort, filter) and heat maps (details of a cell, arrow keys). No library, no network; without it, all is still there to read.
"use strict";

for (const table of document.querySelectorAll("table.runs")) {
  sortable(table);
  filterable(table, document.getElementById(table.id.replace("runs", "filters")));
}

// --- sorting: a button in every heading; the order is said by aria-sort; empty cells always come last
function sortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = heading.querySelector("button");
    if (button) button.addEventListener("click", () => sortBy(table, heading));
  }
}

function sortBy(table, heading) {
  const body = table.tBodies[0];
  const column = heading.cellIndex;
  const first = heading.dataset.first; // the order of the first click: best first for scores
  const descending = heading.ariaSort === "none" || !heading.ariaSort ? first === "descending" : heading.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) if (other.ariaSort) other.ariaSort = "none";
  heading.ariaSort = descending ? "descending" : "ascending";
  const rows = [...body.rows].map((row, place) => ({ row, place, value: row.cells[column].dataset.value ?? row.cells[column].textContent.trim() }));
  const numeric = heading.dataset.kind === "number";
  rows.sort((a, b) => {
    if ((a.value === "") !== (b.value === "")) return a.value === "" ? 1 : -1;
    const order = numeric ? a.value - b.value : a.value.localeCompare(b.value, undefined, { numeric: true });
    return (descending ? -order : order) || a.place - b.place;
  });
  body.append(...rows.map((item) => item.row));
}

// --- filtering: every word must occur in the row; every menu must agree
function filterable(table, form) {
  const words = form.querySelector("input[type=search]");
  const menus = [...form.querySelectorAll("select")];
  const shown = form.querySelector("[role=status]");
  words.addEventListener("input", filter);
  for (const menu of menus) menu.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const headings = [...table.tHead.rows[0].cells];
    const columns = menus.map((menu) => [headings.findIndex((heading) => heading.dataset.column === menu.name), menu.value]);
    const rows = table.tBodies[0].rows;
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        wanted.every((word) => text.includes(word)) && columns.every(([column, value]) => !value || row.cells[column].dataset.value === value)
      );
      if (!row.hidden) count += 1;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  }
}

// --- details of a heat map's cell, on hover and on focus; Escape hides them
const details = JSON.parse(document.getElementById("details").textContent);
const tip = document.getElementById("tip");

function show(cell) {
  const lines = details[cell.dataset.details];
  tip.replaceChildren(
    ...lines.map(([name, value]) => {
      const line = document.createElement("div");
      const label = document.createElement("b");
      label.textContent = name;
      line.append(label, " ", value);
      return line;
    }),
  );
  tip.hidden = false;
  const box = cell.getBoundingClientRect();
  const left = Math.max(4, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 4));
  const below = box.bottom + 6 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${(below ? box.bottom + 6 : Math.max(4, box.top - tip.offsetHeight - 6)) + window.scrollY}px`;
  cell.setAttribute("aria-describedby", "tip");
}

function hide() {
  tip.hidden = true;
  document.querySelector("[aria-describedby=tip]")?.removeAttribute("aria-describedby");
}

for (const map of document.querySelectorAll("table.heat")) {
  const cells = [...map.querySelectorAll("td")].filter((cell) => cell.dataset.details);
  if (cells.length) cells[0].tabIndex = 0; // one stop of the Tab key a map; the arrow keys move in it
  for (const type of ["mouseover", "focusin"])
    map.addEventListener(type, (event) => {
      const cell = event.target.closest("td[data-details]");
      if (cell) show(cell);
    });
  map.addEventListener("mouseleave", hide);
  map.addEventListener("focusout", hide);
  map.addEventListener("click", (event) => event.target.closest("td[data-details]")?.focus());
  const places = new Map(cells.map((cell) => [`${cell.dataset.down},${cell.dataset.across}`, cell]));
  const [height, width] = [Number(map.dataset.down), Number(map.dataset.across)];
  map.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    const cell = event.target.closest("td[data-details]");
    if (!step || !cell) return;
    event.preventDefault();
    let down = Number(cell.dataset.down) + step[0];
    let across = Number(cell.dataset.across) + step[1];
    for (; down >= 0 && down < height && across >= 0 && across < width; down += step[0], across += step[1]) {
      const next = places.get(`${down},${across}`);
      if (!next) continue; // no such combination in this sweep
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      return;
    }
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hide();
});

// --- paper shows everything: what is folded is opened for printing, and folded again
const folded = [];
window.addEventListener("beforeprint", () => {
  hide();
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.open = true;
    folded.push(one);
  }
});
window.addEventListener("afterprint", () => {
  while (folded.length) folded.pop().open = false;
});
