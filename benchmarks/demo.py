"""The demo's numbers where they are quoted: docs/demo/ (table and pictures) and the README's lines about it.

    make demo
    python benchmarks/demo.py [RUNS]      # runs/demo, on the machine that trained it

Writes docs/demo/results.md, grid_pearson_r.png, effects.png and costs.png, and in README.md what stands between
`<!-- demo -->` and `<!-- /demo -->`. All of it names the processor: the same seed gives the same numbers on the same
kind of processor, and some others on another.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime
from pathlib import Path

import torch
from machine import machine

from prixfixe.analysis.results import Results, collect
from prixfixe.cli import main as prixfixe_command
from prixfixe.common.files import write_text
from prixfixe.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ("grid_pearson_r", "effects", "costs")
ROWS = 5  # of the table, in the README
BEGIN, END = "<!-- demo -->\n", "<!-- /demo -->\n"
SAME_PROCESSOR = (
    "The seed is fixed: on the same kind of processor these numbers come out again. On another, sums are made in "
    "another\norder, and about a third of the combinations differ, by at most 0.07 in Pearson r between an Intel Xeon "
    "and an AMD EPYC."
)


def where() -> str:
    """The machine and the versions, as they stand in a sentence."""
    measured = machine("torch")
    processor, versions = measured["machine"], measured["versions"]
    instructions = torch.backends.cpu.get_cpu_capability()
    return (
        f"{processor['cores']} CPU cores ({processor['processor']}, {instructions}), Python {versions['python']}, "
        f"torch {versions['torch']}"
    )


def prixfixe(*arguments: str) -> None:
    if code := prixfixe_command(arguments):
        raise SystemExit(code)


def minutes(results: Results) -> int:
    """From the first job's start to the last one's end."""
    statuses = [RunFolder(Path(row["run"])).status() for row in results.rows]
    times = [[datetime.fromisoformat(status[key]) for status in statuses] for key in ("started", "ended")]
    return round((max(times[1]) - min(times[0])).total_seconds() / 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=Path, default=ROOT / "runs" / "demo", metavar="RUNS")
    arguments = parser.parse_args()

    results = collect([arguments.runs])
    done = [row for row in results.rows if row["state"] == "done"]
    if len(done) < 81:
        parser.error(f"{arguments.runs}: {len(done)} of 81 combinations are done; make demo trains the others")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prixfixe("results", str(arguments.runs), "-o", str(folder / "results.md"))
        report = ("-o", str(folder / "report.html"), "--samples", "0", "--figures", str(folder), "--format", "png")
        prixfixe("report", str(arguments.runs), *report)
        table = (folder / "results.md").read_text(encoding="utf-8")
        for name in PICTURES:
            (ROOT / "docs" / "demo" / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())

    sizes = "6,500 simulated promoters, one epoch, networks of a few thousand parameters"
    head = f"# The demo's table\n\n`make demo` on {where()}: {sizes}.\n{SAME_PROCESSOR}\n\n"
    write_text(ROOT / "docs" / "demo" / "results.md", head + table)

    lines = [line for line in table.splitlines() if line.startswith("|")]
    lowest, highest = (choose(row["pearson_r"] for row in done) for choose in (min, max))
    text = (
        f"`make demo` on {where()}: 81 of 81 done, {minutes(results)} minutes after installation, with\n"
        f"validation Pearson r between {lowest:.2f} and {highest:.2f}. **Simulated assay, demo size**: {sizes}.\n"
        "It shows that everything runs, and says nothing about which part is better on real data.\n"
        f"{SAME_PROCESSOR}\n"
        "The first rows of [the table](docs/demo/results.md), made by `python benchmarks/demo.py`:\n\n"
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    shown = "\n".join(lines[: 2 + ROWS])
    write_text(ROOT / "README.md", f"{before}{BEGIN}{text}{shown}\n{END}{after}")


if __name__ == "__main__":
    main()
