"""From run folders, sweeps and bundles to a model that predicts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import counted, printable
from prixfixe.inference.ensemble import Ensemble
from prixfixe.inference.model import load_run
from prixfixe.inference.predictor import Predictor
from prixfixe.runs.folder import RunFolder

Name = str | os.PathLike[str]


def load(
    runs: Name | Sequence[Name], *, device: str = "auto", config_dir: str | os.PathLike[str] | None = None
) -> Predictor:
    """The model of a run folder, with the weights of its best epoch; of several, or of a sweep, their ensemble.

    config_dir: the user's own conf folder, whose YAMLs name the packages that a run's classes may come from beside
    `prixfixe` and `blocks`; None is `conf/` in the current folder. Raises InputError where a folder, its configuration
    or its weights cannot be used, and where it names a class of another package: nothing is imported then.
    """
    given = [runs] if isinstance(runs, (str, os.PathLike)) else list(runs)
    if not given:
        raise InputError("no run is named: give a run folder, several of them, a sweep's folder or a bundle")
    folders: list[Path] = []
    for name in given:
        folders += run_folders(Path(name))
    if len(set(map(os.path.realpath, folders))) < len(folders):
        raise InputError("a run is named twice: an ensemble's members are different runs")
    members = [load_run(folder, device=device, config_dir=config_dir) for folder in folders]
    return members[0] if len(members) == 1 else Ensemble(members)


def run_folders(path: Path) -> list[Path]:
    """The run folders that a path stands for: itself, or those runs of a sweep that are done. What is left out is said
    on standard error."""
    if not path.is_dir() or not is_missing(path / "config.yaml"):
        return [path]
    runs = list(_runs_in(path))
    done = [run.path for run in runs if run.state() == "done"]
    if not runs:
        return [path]  # which loading names as no run folder
    if not done:
        raise InputError(f"{printable(path)}: none of its {counted(len(runs), 'run')} is done yet")
    if len(done) < len(runs):
        print(
            f"warning: {printable(path)}: {len(done)} of {counted(len(runs), 'run')} are done and used", file=sys.stderr
        )
    return done


def _runs_in(sweep: Path) -> Iterator[RunFolder]:
    for folder in sorted(sweep.iterdir()):
        if folder.is_dir() and not is_missing(folder / "config.yaml"):
            yield RunFolder(folder)
