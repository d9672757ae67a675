"""`prixfixe train`: one combination, or a sweep."""

from __future__ import annotations

import argparse

HELP = "train one combination, or with -m a sweep"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs=argparse.REMAINDER, help="as Hydra takes them: recipe=bhi core=bilstm training.epochs=10")


def run(args: argparse.Namespace) -> int:
    from prixfixe.app import train

    train(args.overrides)
    return 0
