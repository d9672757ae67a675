"""`prixfixe data simulate`: training and test data from the simulated assay."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make training and test data with the simulated assay"

DESCRIPTION = """\
Makes random yeast promoters, their expression by a mechanistic model, and its measurement by sorting cells into 18
bins; and a test set with the eight subsets of the published one. All of it is simulated, and labelled so. Expression
without noise is kept beside the measured one: score true_expression.tsv as predictions to see the ceiling.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="new folder for the files")
    parser.add_argument(
        "--size", metavar="N", type=int, default=100_000, help="training promoters (%(default)s); published: 6739258"
    )
    parser.add_argument(
        "--test-size", metavar="N", type=int, default=71_103, help="test sequences (%(default)s, as published)"
    )
    parser.add_argument(
        "--seed", metavar="S", type=int, default=1, help="the same seed makes the same data (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from prixfixe.simulation.export import export

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating promoters", total=args.size + args.test_size)
        export(
            args.output,
            size=args.size,
            test_size=args.test_size,
            seed=args.seed,
            progress=lambda promoters: progress.advance(task, promoters),
        )
    print(f"simulated, not measured: {args.size:,} training promoters and {args.test_size:,} test sequences")
    for path in ("train.tsv", "true_expression.tsv", "test", "about.json"):
        print(args.output / path)
    return 0
