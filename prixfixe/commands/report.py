"""`prixfixe report`: everything that a sweep says, in one HTML file that needs no network."""

from __future__ import annotations

import argparse
from pathlib import Path

from prixfixe.common.errors import InputError
from prixfixe.common.files import format_by_ending, keep_inputs, output_file
from prixfixe.common.options import whole_number
from prixfixe.common.text import printable

HELP = "write one HTML file with the table, the figures, the statistics and the methods of a sweep"
FORMATS = ("svg", "pdf", "png")


def configure(parser: argparse.ArgumentParser) -> None:
    folders = "sweep folders, such as runs/demo, or run folders"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help=folders)
    where, default = "- is standard output; default: %(default)s", "report.html"
    parser.add_argument("-o", "--output", type=output_file, default=default, metavar="FILE", help=where)
    about = "column that effects, costs and curves are about; heat maps show all (default: what chose the epochs)"
    parser.add_argument("--score", metavar="COLUMN", help=about)
    samples = "bootstrap samples for the ranks, 0 for no ranks (default: %(default)s)"
    number = whole_number("--samples", "0 for no ranks, or how many samples, such as 10000")
    parser.add_argument("--samples", type=number, default=10_000, metavar="N", help=samples)
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write every figure there, too")
    formats = f"of the figures, among {','.join(FORMATS)} (default: %(default)s)"
    parser.add_argument("--format", default="svg,pdf", metavar="LIST", help=formats)


def run(args: argparse.Namespace) -> int:
    from prixfixe.report import write_report

    keep_inputs(args.output, *args.runs)
    format_by_ending(args.output, {".html": "html", ".htm": "html"}, "html")
    formats = [kind.strip() for kind in args.format.split(",") if kind.strip()]
    if unknown := [kind for kind in formats if kind not in FORMATS]:
        raise InputError(f"--format {args.format}: {unknown[0]} is none of {', '.join(FORMATS)}")
    written = write_report(
        args.runs,
        args.output or Path("/dev/stdout"),
        score=args.score,
        samples=args.samples,
        figures=args.figures,
        formats=formats,
    )
    if args.output:
        print(printable(written[0]))
    if len(written) > 1 and args.output:
        print(f"{len(written) - 1} figures in {printable(args.figures)}")
    return 0
