"""`prixfixe train`: one combination, or a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from prixfixe.common.text import printable

HELP = "train one combination, or with -m a sweep"
EXAMPLES = """\
examples:
  prixfixe train recipe=bhi first=conv core=bilstm final=mlp dataset=table dataset.path=promoters.tsv
  prixfixe train -m experiment=grid81 dataset=table dataset.path=promoters.tsv core=bilstm,proformer seed=0,1,2
  prixfixe train experiment=dream_rnn training.epochs=10 --cfg job

  prixfixe train --resume runs/single/bhi+conv+bilstm+mlp

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
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with the run in this folder, by its own configuration, which is read as plain values",
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
    words = list(args.overrides)
    if any(word == "--resume" or word.startswith("--resume=") for word in words):
        return resume(words)
    from prixfixe.sweeps.app import train

    train(words)
    return 0


def resume(words: list[str]) -> int:
    from prixfixe.common.errors import InputError

    parser = argparse.ArgumentParser(prog="prixfixe train", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--resume", type=Path, required=True)
    parser.add_argument("--config-dir", "-cd", type=Path)
    try:
        known, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}: give one, as in prixfixe train --resume runs/single/NAME") from error
    if others:
        raise InputError(
            f"--resume goes on with a run as it is, and takes no settings: {printable(' '.join(others), 200)}"
        )
    if known.config_dir is not None and not known.config_dir.is_dir():
        raise InputError(f"--config-dir {printable(known.config_dir)} is no folder")
    from prixfixe.sweeps.app import resume as go_on

    go_on(known.resume, known.config_dir)
    return 0
