"""`prixfixe study`: the table and the tests of a study that sweeps over values, from its run folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prixfixe.common.files import format_by_ending, keep_inputs, output_file

HELP = "the table and the tests of a study: proformer_ablation, proformer_heads, soft_classification"

DESCRIPTION = """\
Lays a study's runs out as its table and tests what it asks, from the run folders alone, finished or not.
The runs are made by `prixfixe train -m experiment=STUDY`; docs/studies.md says what each study is.
"""

EPILOG = """\
examples:
  prixfixe study proformer_ablation runs/proformer_ablation
  prixfixe study proformer_heads runs/proformer_heads
  prixfixe study soft_classification runs/soft_classification --score spearman_rho -o study.md
  prixfixe study proformer_ablation runs/proformer_ablation --tests --format csv
"""

SUFFIXES = {".txt": "table", ".csv": "csv", ".md": "md"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("study", metavar="STUDY", help="proformer_ablation, proformer_heads or soft_classification")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="sweep folders, or run folders")
    parser.add_argument("--score", metavar="COLUMN", help="what chose the epochs where nothing is said")
    parser.add_argument(
        "--tests", action="store_true", help="the tests alone; a CSV file holds the table, or with this the tests"
    )
    parser.add_argument("--format", choices=(*SUFFIXES.values(),), help="default: by FILE's ending, or else table")
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="write there, not to standard output")


def run(args: argparse.Namespace) -> int:
    from prixfixe.analysis.studies import answer_table, panels, read_study, score_table
    from prixfixe.analysis.tables import as_csv, as_markdown, as_text
    from prixfixe.common.files import write_text
    from prixfixe.dream.studies import find_study

    keep_inputs(args.output, *args.runs)
    form = args.format or format_by_ending(args.output, SUFFIXES, "table")
    study = find_study(args.study)
    runs = read_study(study, args.runs)
    score = runs.results.score(args.score)
    if form == "csv":
        text = as_csv((answer_table if args.tests else score_table)(study, runs, score))
    else:
        scores = [] if args.tests else panels(study, score_table(study, runs, score))
        tables = [*scores, answer_table(study, runs, score)]
        text = "\n".join((as_markdown if form == "md" else as_text)(table) for table in tables)
    if args.output is None:
        sys.stdout.write(text)
    else:
        write_text(args.output, text)
    return 0
