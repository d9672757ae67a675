"""Versions of packages, for what is written down about a run."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def version_of(package: str) -> str:
    """The version of an installed package; of `prixfixe` in a checkout that is not installed, that of its
    pyproject.toml; `unknown` where there is neither."""
    try:
        return version(package)
    except PackageNotFoundError:
        project = Path(__file__).resolve().parents[2] / "pyproject.toml"
        if package != "prixfixe" or not project.is_file():
            return "unknown"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
