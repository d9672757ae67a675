"""`prixfixe results`: the comparison of all combinations of a sweep, or of any runs, and what can be learnt from it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prixfixe.common.files import format_by_ending, keep_inputs, output_file

HELP = "compare the combinations of a sweep, best first; what each part is worth, ranks, costs, two sweeps"

DESCRIPTION = """\
Compares runs by their folders alone, finished or not, best first; combinations that failed or never ran are named, with
the command that runs just these. Seeds are averaged (value ± standard deviation) where a combination has several.
Where runs differ in dataset.fold and dataset.test_fold there is one row a model: the predictions of a test fold's
models are averaged and scored, then the mean over test folds is taken.
Runs of different tasks or data are never averaged or compared: each task and data have a table of their own.
With --effects, --ranks, --pareto or --against, that is shown in place of the comparison.
"""

EPILOG = """\
examples:
  prixfixe results runs/grid81 --where core=bilstm,proformer --where 'pearson_r>0.5' --sort parameters
  prixfixe results runs/grid81 --columns slots,scores,subsets --format csv -o results.csv
  prixfixe results runs/grid81 --effects --ranks
  prixfixe results runs/resnet --against runs/grid81
"""

SUFFIXES = {".txt": "table", ".csv": "csv", ".md": "md", ".tex": "latex", ".parquet": "parquet"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    folders = "sweep folders, such as runs/demo, or run folders"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help=folders)
    parser.add_argument("--format", choices=(*SUFFIXES.values(),), help="default: by FILE's ending, or else table")
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="write there, not to standard output")
    table = parser.add_argument_group("which rows and columns")
    table.add_argument("--sort", metavar="COLUMN", help="best or least first (default: what chose the epochs)")
    where = "only runs such as core=bilstm or 'pearson_r>0.5'"
    table.add_argument("--where", metavar="CONDITION", action="append", default=[], help=where)
    columns = "these; slots, scores, tasks, tests, weighted, subsets, costs name several"
    table.add_argument("--columns", metavar="A,B,...", help=columns)
    seeds = "one row a run, seeds apart; CSV and Parquet always have it so"
    table.add_argument("--seeds", action="store_true", help=seeds)
    folds = "one row a test fold, its models' predictions averaged, in every format"
    table.add_argument("--folds", action="store_true", help=folds)
    analyses = parser.add_argument_group("what can be learnt")
    for name, what in (
        ("--effects", "what each part is worth with all else equal; interactions"),
        ("--ranks", "ranks over 10,000 bootstrap samples; who cannot be told apart"),
        ("--pareto", "what no other combination beats in both score and cost"),
    ):
        analyses.add_argument(name, action="store_true", help=what)
    against = "what changed from these runs, beyond the noise"
    analyses.add_argument("--against", nargs="+", type=Path, metavar="RUNS", help=against)
    analyses.add_argument("--score", metavar="COLUMN", help="that these ask about (default: what chose the epochs)")


def run(args: argparse.Namespace) -> int:
    from prixfixe.analysis.filter import keep, parse_condition
    from prixfixe.analysis.results import collect
    from prixfixe.analysis.tables import as_csv, as_latex, as_markdown, as_text, write_parquet
    from prixfixe.analysis.views import analyses, comparison, comparisons
    from prixfixe.common.errors import InputError
    from prixfixe.common.files import write_text

    keep_inputs(args.output, *args.runs, *(args.against or ()))
    form = args.format or format_by_ending(args.output, SUFFIXES, "table")
    asked = sum((args.effects, args.ranks, args.pareto, bool(args.against)))
    if asked > 1 and form not in ("table", "md"):
        raise InputError(f"{form} holds one table: ask for one of --effects, --ranks, --pareto and --against at a time")
    if args.folds and args.seeds:
        raise InputError("--folds averages the runs of a test fold, and --seeds keeps them apart: choose one of them")
    if asked and args.folds:
        raise InputError("--folds is for the comparison: leave it out, or --effects, --ranks, --pareto and --against")
    if asked and (args.columns or args.sort):
        raise InputError(
            "--columns and --sort are for the comparison: leave them out, or --effects, --ranks, --pareto and --against"
        )
    everything = collect([*args.runs, *(args.against or ())])
    conditions = [parse_condition(text, everything) for text in args.where]
    sides = [keep(everything.of_folders(folders), conditions) for folders in (args.runs, args.against) if folders]
    if asked:
        if form not in ("table", "md") and len(groups := sides[0].groups()) > 1:
            raise InputError(f"{form} holds one table, and these are {len(groups)} tasks or data: choose with --where")
        tables = analyses(sides, args.score, effects_=args.effects, ranks_=args.ranks, pareto_=args.pareto)
    elif form in ("csv", "parquet"):
        tables = [
            comparison(
                sides[0], args.columns, args.sort, by_run=not args.folds, by_test_fold=args.folds, all_columns=True
            )
        ]
    else:
        tables = comparisons(sides[0], args.columns, args.sort, by_run=args.seeds, by_test_fold=args.folds)
    if form == "parquet":
        if args.output is None:
            raise InputError("a Parquet table is no text: say where to write it, -o results.parquet")
        write_parquet(tables[0], args.output)
        return 0
    if form == "csv":  # the first table of a view is the one that its name promises; further ones are for reading
        text = as_csv(tables[0])
    elif form == "latex":
        text = "\n".join(map(as_latex, tables[:1] if asked else tables))
    elif form == "md":
        text = "\n".join(map(as_markdown, tables))
    else:
        width = _terminal_width() if args.output is None and not args.columns else None
        text = "\n".join(as_text(table, width) for table in tables)
    if args.output is None:
        sys.stdout.write(text)
    else:
        write_text(args.output, text)
    return 0


def _terminal_width() -> int | None:
    """The width of the terminal; None where standard output is none, since there is no edge to fit."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
