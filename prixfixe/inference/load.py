"""From run folders, sweeps and bundles to a model that predicts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import counted, printable
from prixfixe.inference.ensemble import Ensemble
from prixfixe.inference.model import Model, load_run
from prixfixe.inference.predictor import Predictor
from prixfixe.runs.bundle import Bundle, digest, is_bundle, open_bundle
from prixfixe.runs.folder import RunFolder

Name = str | os.PathLike[str]


def load(
    runs: Name | Sequence[Name], *, device: str = "auto", config_dir: str | os.PathLike[str] | None = None
) -> Predictor:
    """The model of a run folder, with the weights of its best epoch; of several, of a sweep, or of a
    bundle of several, their ensemble. `hf://owner/name[@revision]` is a bundle on the Hugging Face hub.

    config_dir: the user's own conf folder, whose YAMLs name the packages that a run's classes may come from beside
    `prixfixe` and `blocks`; None is `conf/` in the current folder. Raises InputError where a folder, its configuration
    or its weights cannot be used, and where it names a class of another package: nothing is imported then.
    """
    given = [runs] if isinstance(runs, (str, os.PathLike)) else list(runs)
    if not given:
        raise InputError("no run is named: give a run folder, several of them, a sweep's folder or a bundle")
    places = [place_of(name) for name in given]
    folders = [folder for place in places for folder in place.folders]
    if len(set(map(os.path.realpath, folders))) < len(folders) or twice(folders):
        raise InputError("a run is named twice: an ensemble's members are different runs")
    members = [model for place in places for model in place.load(device, config_dir)]
    return members[0] if len(members) == 1 else Ensemble(members)


def twice(folders: Sequence[Path]) -> bool:
    """Whether two folders hold the weights of one run, such as a run and its bundle."""
    files = [RunFolder(folder).weights_file for folder in folders]
    known = [digest(file) for file in files if len(files) > 1 and not is_missing(file)]
    return len(set(known)) < len(known)


@dataclass(frozen=True)
class Place:
    """What a name stands for: run folders, and the bundle that they are of. name: of the hub, with its commit."""

    folders: list[Path]
    bundle: Bundle | None = None
    name: str | None = None

    def load(self, device: str, config_dir: str | os.PathLike[str] | None) -> list[Model]:
        """Its models. Those of a bundle are compared with its examples."""
        try:
            models = [load_run(folder, device=device, config_dir=config_dir) for folder in self.folders]
        except InputError as error:
            if self.bundle is None or not (needed := self.bundle.code_needed()):
                raise
            raise InputError(f"{error}; {needed}") from error
        for model in models if self.name else ():
            model.name = str(self.name)
        if self.bundle is not None:
            self.bundle.check_predictions(models)
        return models


def place_of(name: Name) -> Place:
    """The run folders of a run, a sweep, a bundle or hf://owner/name[@revision], which is downloaded."""
    if is_on_hub(name):
        from prixfixe.inference.hub import download

        folder, blobs, commit = download(str(name))
        if not is_bundle(folder):
            raise InputError(f"{commit} is no bundle: it has no bundle.json")
        bundle = open_bundle(folder, blobs)
        return Place(bundle.members, bundle, commit)
    path = Path(name)
    if is_bundle(path):
        bundle = open_bundle(path)
        return Place(bundle.members, bundle)
    return Place(runs_of(path))


def run_folders(path: Name) -> list[Path]:
    """The run folders that a name stands for; see `place_of`."""
    return place_of(path).folders


def is_on_hub(name: Name) -> bool:
    """Whether a name is of the Hugging Face hub; as a path it has lost a slash."""
    return isinstance(name, (str, Path)) and str(name).startswith(("hf://", "hf:/"))


def runs_of(path: Path) -> list[Path]:
    """A run folder itself, or those runs of a sweep that are done. What is left out is said on standard error."""
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
