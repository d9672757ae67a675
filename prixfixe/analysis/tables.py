"""Tables of results as text, Markdown, LaTeX, CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prixfixe.analysis.results import AGREEMENT, CEILING, COSTS, SO_FAR, Results, test_column
from prixfixe.common.progress import duration
from prixfixe.common.text import csv_cell, printable, printable_lines
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import Score

LABELS = {  # of columns that are not called by their name
    "samples_per_second": "samples/s",
    "training_seconds": "training",
    "inference_per_second": "predicted/s",
    "gpu_memory_bytes": "GPU memory",
    "p_adjusted": "p corrected",
    AGREEMENT: "r of models",
    CEILING: "ceiling of r",
    test_column("test", CEILING): "ceiling of r (test)",
}
TEXT_COLUMNS = {
    *(*SLOTS, "variant", "state", "sweep", "run", "command", "reason", "device", "task", "dataset", "data"),
    *("slot", "part", "other", "term", "name", "best", "combination", "change", "front", "parts", "noise", "test"),
    "loss",
}


@dataclass(frozen=True)
class Table:
    """rows: of which `columns` are shown, under their labels; notes: lines below it; numbered: show each row's number.

    labels: what columns are called. scores: the columns that are scores, each with its label and digits.
    simulated: whether numbers of the simulated assay are among them. The title says so to readers, a column to
    programs.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    numbered: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False
    scores: Mapping[str, Score] = field(default_factory=dict)

    def header(self) -> list[str]:
        known = {**LABELS, **{column: score.label for column, score in self.scores.items()}, **self.labels}
        names = [printable(known.get(column) or column.replace("_", " ")) for column in self.columns]
        return ["", *names] if self.numbered else names

    def body(self) -> list[list[str]]:
        lines = [[cell(row, column, self.scores.get(column)) for column in self.columns] for row in self.rows]
        return [[str(number), *line] for number, line in enumerate(lines, 1)] if self.numbered else lines

    def left(self) -> list[bool]:
        """Which columns are text, and stand to the left."""
        flags = [column in TEXT_COLUMNS for column in self.columns]
        return [False, *flags] if self.numbered else flags

    def for_programs(self) -> tuple[list[str], list[Mapping[str, Any]]]:
        """Columns and rows, with a column `simulated` where it is needed."""
        if not self.simulated or "simulated" in self.columns:
            return [*self.columns], [*self.rows]
        return [*self.columns, "simulated"], [{"simulated": True, **row} for row in self.rows]


def cell(row: Mapping[str, Any], column: str, score: Score | None = None) -> str:
    """A value as people read it: with its spread over seeds, `~` where it is not final, `-` where there is none.

    score: the one that stands in the column, where it is one.
    """

    def text(value: Any) -> str:
        return format_value(value, column) if score is None or isinstance(value, str) else score.text(value)

    value, so_far, spread = (row.get(f"{column}{ending}") for ending in ("", SO_FAR, "_sd"))
    if value is None:
        return "-" if so_far is None else f"~{text(so_far)}"
    return text(value) if spread is None else f"{text(value)} ± {text(spread)}"


def format_value(value: Any, column: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(value)
    if column in ("p", "p_adjusted"):
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if column == "training_seconds":
        return duration(value)
    if column == "gpu_memory_bytes":
        return f"{value / 2**30:.2f} GiB"
    if column in ("share", "validation_near_duplicates"):
        return f"{value:.1%}"
    if column in ("samples_per_second", "inference_per_second"):
        return f"{value:,.0f}"
    if column.endswith("_rank"):
        return f"{value:.1f}"
    if column == "noise":
        return f"{value:.4f}"
    if column == "difference" or column in ("mean", "low", "high", "excess"):
        return signed(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def signed(value: float) -> str:
    """+0.0123, -0.0123, and 0.0000 without a sign."""
    text = f"{value:+.4f}"
    return text if float(text) else text[1:]


def as_text(table: Table, width: int | None = None) -> str:
    """Aligned columns. width: where it is given, columns that it does not hold are left out from the right, and
    named."""
    header, body, left = table.header(), table.body(), table.left()
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    shown = len(header)
    while width is not None and shown > 1 and sum(widths[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    lines = [printable_lines(table.title), ""] if table.title else []
    lines += aligned([cells[:shown] for cells in (header, *body)], left[:shown])
    if not body:
        lines = [printable_lines(table.title)]
    if shown < len(header):
        lines += ["", f"This terminal is too narrow for {', '.join(header[shown:])}: --columns chooses what is shown."]
    return "\n".join([*lines, *([""] if table.notes else []), *map(printable, table.notes)]) + "\n"


def aligned(rows: Sequence[Sequence[str]], left: Sequence[bool]) -> Iterator[str]:
    """Lines of columns side by side, each of which stands to the left or to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, left, strict=True)
        yield "  ".join(cell.ljust(w) if to_left else cell.rjust(w) for cell, w, to_left in cells).rstrip()


def as_markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_markdown, cells)) + " |"

    rule = "|" + "".join("---|" if to_left else "---:|" for to_left in table.left())
    head = [line(table.header()).replace("|  |", "| |", 1), rule] if table.rows else []
    notes = [f"- {printable(note)}" for note in table.notes]
    parts = [printable_lines(table.title)], [*head, *(line(cells) for cells in table.body())], notes
    return "\n\n".join("\n".join(part) for part in parts if any(part)) + "\n"


def _markdown(text: str) -> str:
    """A cell as it stands: neither the table nor HTML takes any of it for its own."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def as_latex(table: Table) -> str:
    """A tabular for LaTeX with booktabs; title and notes stand in comments."""
    comments = [f"% {line}" for line in (*printable_lines(table.title).split("\n"), *map(printable, table.notes))]
    rows = [" & ".join(map(_latex, cells)) + r" \\" for cells in table.body()]
    form = "".join("l" if to_left else "r" for to_left in table.left())
    head = [rf"\begin{{tabular}}{{{form}}}", r"\toprule", " & ".join(map(_latex, table.header())) + r" \\", r"\midrule"]
    return "\n".join([*comments, *head, *rows, r"\bottomrule", r"\end{tabular}"]) + "\n"


LATEX_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"$\sim$",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
}


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in text)


def as_csv(table: Table) -> str:
    """The values as they are, unrounded; text in one line, and none that a spreadsheet takes for a formula."""
    columns, rows = table.for_programs()
    return csv_lines(rows, columns)


def csv_lines(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, columns))
    writer.writerows([csv_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def write_parquet(table: Table, path: Path) -> None:
    """The values as they are, with their types."""
    import pandas as pd

    from prixfixe.common.files import atomic_path

    columns, rows = table.for_programs()
    frame = pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)
    with atomic_path(path) as temporary:
        temporary.write_bytes(frame.convert_dtypes().to_parquet(index=False))  # which a pipe takes, too


def default_columns(results: Results) -> list[str]:
    """What is shown without --columns: what tells the rows apart, the parts, the scores of their task and that of a
    test part which chose the epoch, the costs; of all but the parts and scores what at least one row has. Of rows that
    are averaged over folds the test scores come first, and how many models they rest on."""
    rows, own, tests = results.rows, results.of_kind("scores"), results.of_kind("tests")

    def present(columns: Iterable[str]) -> list[str]:
        return [column for column in columns if any(row.get(column) is not None for row in rows)]

    apart = [column for column in ("sweep", "task", "dataset") if len({row.get(column) for row in rows}) > 1]
    costs = present((*results.of_kind("weighted"), *COSTS))
    if present(["models"]):
        parts = dict.fromkeys(column.removesuffix("_n") for row in rows for column in row if column.endswith("_n"))
        scored = sorted(own, key=lambda name: name != results.select.name)
        of_tests = [column for part in parts for column in with_ceiling([test_column(part, name) for name in scored])]
        first, *others = present(of_tests) or [results.select.name]
        named = ["variant", *(["test_fold"] if not present(["test_folds"]) else [])]
        counts = present(["test_folds", "models", AGREEMENT])
        return [*apart, *SLOTS, *present(named), first, *counts, *others, *present(with_ceiling([*own])), *costs]
    tested = [column for column in tests if column.endswith(f"_{results.select.name}")]
    named = present(["variant", "test_fold"])
    seeds = ["seeds"] if any(row.get("seeds", 1) > 1 for row in rows) else ["seed"]
    folds = ["folds"] if any(row.get("folds", 1) > 1 for row in rows) else []
    folds += present(["fold"])
    shown = [column for column in with_ceiling([*own]) if column in own or present([column])]
    return [*apart, *SLOTS, *named, *folds, *seeds, *shown, *present(with_ceiling(tested)), *costs]


def with_ceiling(columns: Sequence[str]) -> list[str]:
    """Columns of scores of the validation rows, or of one test part, with that of its noise ceiling behind Pearson
    r."""
    found: list[str] = []
    for column in columns:
        correlated = next((name for name in ("count_pearson_r", "pearson_r") if column.endswith(name)), None)
        found += [column, *([f"{column.removesuffix(correlated)}{CEILING}"] if correlated else [])]
    return found
