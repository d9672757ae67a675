"""`prixfixe data check`: what is in a table of sequences and expression, and what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "say what is in a table, what is wrong with it, and what it shares with another"

DESCRIPTION = """\
Reads a table of sequences and expression and reports rows, lengths, alphabet, flanks, repeated and conflicting
sequences, and the distribution of expression; with --against, also how many rows stand in another table, as they are,
as reverse complements or nearly so. Exits with 0 when the file can be read as a table, whatever is reported of it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("file", metavar="FILE", type=Path, help="TSV, CSV (plain or compressed) or Parquet")
    parser.add_argument("--against", metavar="OTHER", type=Path, help="another table, such as the one trained on")
    parser.add_argument(
        "--mismatches",
        metavar="K",
        type=_count,
        default=2,
        help="how many make a near-duplicate (default: %(default)s)",
    )
    parser.add_argument("--sequence", metavar="NAME", help="the column of sequences")
    parser.add_argument(
        "--expression",
        metavar="NAME",
        action="append",
        help="the column of expression; give it again for further tasks",
    )
    parser.add_argument("--json", action="store_true", help="print the same facts as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from prixfixe.data.check import check

    report = check(
        args.file, against=args.against, mismatches=args.mismatches, sequence=args.sequence, expression=args.expression
    )
    print(
        json.dumps(report.to_dict(), indent=2, allow_nan=False) if args.json else report.text(),
        end="\n" if args.json else "",
    )
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of mismatches: give 0, 1, 2, ...")
    return int(text)
