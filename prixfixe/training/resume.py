"""A run's own configuration, read to go on with it. It may come from elsewhere: it is values, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.runs.reader import read_config

ELSEWHERE = ("directory", "entity", "tracking_uri")  # where a logger writes to, beside the run's own folder


def plain_configuration(run: Path) -> dict[str, Any]:
    """The configuration in a run folder as plain values: no anchors, no aliases, no tags, no interpolations, nothing of
    Hydra's. InputError where it is not there or is anything else; which settings it may have, `check_settings` says.
    """
    file = run / "config.yaml"
    if not run.is_dir() or not file.exists():
        raise InputError(f"{printable(run)} is no run folder: it has no config.yaml; give one such as runs/single/...")
    config = read_config(file)
    for key in ("hydra", "defaults"):
        if key in config:
            raise InputError(f"{printable(file)}: {key} is no setting of a run: it was not written by prixfixe train")
    for text in _texts(config):
        if "${" in text:
            raise InputError(
                f"{printable(file)}: {printable(text, 200)} refers to something; a run's configuration is plain values"
            )
    node = config.get("logger")
    logger: Mapping[str, Any] = node if isinstance(node, Mapping) else {}
    for key in ELSEWHERE:
        if logger.get(key) is not None:
            raise InputError(
                f"{printable(file)}: logger.{key}={printable(logger[key], 200)} names a place outside of the run; to "
                f"log there, train it by its first command, or else set it to null in this file"
            )
    return config


def _texts(node: Any) -> Iterator[str]:
    """Every text in a tree, keys included."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
