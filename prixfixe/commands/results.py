"""`prixfixe results`: the comparison of all combinations of a sweep, or of any runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prixfixe.results import Results

HELP = "compare the combinations of a sweep, best first"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="sweep folders, such as runs/demo, or run folders")
    parser.add_argument("--format", choices=("table", "csv", "md"), default="table", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there, not to standard output")


def run(args: argparse.Namespace) -> int:
    from prixfixe.files import write_text
    from prixfixe.results import as_csv, as_markdown, collect

    results = collect(args.runs)
    if args.format == "table" and args.output is None:
        print_table(results)
    else:
        text = as_csv(results) if args.format == "csv" else as_markdown(results)
        if args.output is None:
            sys.stdout.write(text)
        else:
            write_text(args.output, text)
    return 0


def print_table(results: Results) -> None:
    from rich.table import Table

    from prixfixe.progress import wide_console
    from prixfixe.results import SHOWN, cells, notes, title
    from prixfixe.run_folder import SLOTS

    table = Table(title=title(results), title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("", justify="right")
    for column, name in SHOWN.items():
        table.add_column(name, justify="left" if column in SLOTS else "right", no_wrap=True)
    for rank, row in enumerate(results.done, 1):
        table.add_row(str(rank), *cells(row))
    console = wide_console()
    console.print(table)
    for note in notes(results):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
