"""Where the configuration files are: the framework's and the user's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def conf_folder() -> Path:
    """The framework's `conf/`: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def own_conf(named: Path | None = None) -> Path | None:
    """The user's own conf folder: the one named, or `conf/` in the current folder, unless it is the framework's.

    Classes in the current folder become importable.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    own = named or Path("conf")
    return own if own.is_dir() and own.resolve() != conf_folder() else None
