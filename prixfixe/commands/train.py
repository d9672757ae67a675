"""`prixfixe train`: one combination, or a sweep."""

from __future__ import annotations

import argparse

HELP = "train one combination, or with -m a sweep"
EXAMPLES = """\
examples:
  prixfixe train recipe=bhi first=conv core=bilstm final=mlp dataset=table dataset.path=promoters.tsv
  prixfixe train -m experiment=grid81 dataset=table dataset.path=promoters.tsv core=bilstm,proformer seed=0,1,2
  prixfixe train experiment=dream_rnn training.epochs=10 --cfg job

The same command again goes on where it was left, and runs what is missing. prixfixe blocks lists the parts."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    # what Hydra reads; here for the help alone
    parser.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="a sweep: every combination of the choices, those with commas included",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace a run of another configuration in its folder, begin an unfinished one anew",
    )
    parser.add_argument("--cfg", metavar="job", help="show the whole configuration, and train nothing")
    parser.add_argument(
        "--config-dir", metavar="FOLDER", help="where your own YAMLs are; default: conf/ in this folder"
    )
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="SETTING=VALUE",
        help="any setting or choice, as Hydra takes them",
    )


def run(args: argparse.Namespace) -> int:
    from prixfixe.app import train

    train(args.overrides)
    return 0
