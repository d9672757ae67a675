"""Packages that come with an extra, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from prixfixe.common.errors import InputError


def extra_module(name: str, extra: str, what: str) -> Any:
    """A module of a package that an extra brings. InputError, which says how to get it, where it is not installed.

    what: that needs it, such as a command.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise InputError(f"{what} needs {error.name}: pip install 'prixfixe[{extra}]'") from error
