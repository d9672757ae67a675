"""Prix Fixe: recipes, first, core and final layers of sequence-to-expression models, combined and compared."""

import os
import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m prixfixe`: Python searches the current folder first, where a torch.py may lie that came from elsewhere.
    # What it has imported until here was imported before. A checkout that is not installed stays, behind all others.
    _here = sys.path.pop(0)
    if os.path.isfile(os.path.join(_here, "prixfixe", "__init__.py")) and os.path.samefile(
        os.path.join(_here, "prixfixe"), os.path.dirname(__file__)
    ):
        sys.path.append(_here)

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prixfixe.inference.load import Name
    from prixfixe.inference.predictor import Predictor

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from prixfixe.common.version import version_of

        return version_of("prixfixe")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(
    runs: "Name | Sequence[Name]", *, device: str = "auto", config_dir: "str | os.PathLike[str] | None" = None
) -> "Predictor":
    """The trained model of a run folder: `prixfixe.load("runs/demo/...").predict(["ACGT..."])` gives a numpy array. Of
    several run folders, or a sweep's, their ensemble.

    device: auto (a GPU where there is one), cpu, cuda or cuda:N. config_dir: your own conf folder, whose YAMLs name the
    packages that a run's classes may come from beside `prixfixe` and `blocks`; None is `conf/` in the current folder.
    Raises InputError where a folder cannot be used. Nothing that it names from elsewhere is imported.
    """
    from prixfixe.inference.load import load as load_model

    return load_model(runs, device=device, config_dir=config_dir)
