"""Prix Fixe: recipes, first, core and final layers of sequence-to-expression models, combined and compared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prixfixe.model import Model

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("prixfixe")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(run: str | os.PathLike[str], *, device: str = "auto") -> Model:
    """The trained model of a run folder: `prixfixe.load("runs/demo/...").predict(["ACGT..."])` gives a numpy array.

    device: auto (a GPU where there is one), cpu, cuda or cuda:N. Raises InputError where the folder cannot be used.
    """
    from prixfixe.model import load as load_model

    return load_model(run, device=device)
