"""A run's own configuration, read to go on with it. It may come from elsewhere: it is values, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from prixfixe.common.inputs import read_bytes
from prixfixe.common.text import printable
from prixfixe.errors import InputError
from prixfixe.run_folder import SafeLoader

LARGEST = 1 << 20  # bytes; a run's configuration has a few thousand
DEEPEST = 50
ELSEWHERE = ("directory", "entity", "tracking_uri")  # where a logger writes to, beside the run's own folder


def plain_configuration(run: Path) -> dict[str, Any]:
    """The configuration in a run folder as plain values: no anchors, no aliases, no tags, no interpolations, nothing of
    Hydra's. InputError where it is not there or is anything else; which settings it may have, `check_settings` says.
    """
    file = run / "config.yaml"
    if not run.is_dir() or not file.exists():
        raise InputError(f"{printable(run)} is no run folder: it has no config.yaml; give one such as runs/single/...")
    content = read_bytes(file, limit=LARGEST)
    try:
        _refuse_references(content, file)
        config = yaml.load(content, Loader=SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{printable(file)} cannot be read: {printable(str(error).splitlines()[0])}") from error
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise InputError(f"{printable(file)} holds no configuration")
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


def _refuse_references(content: bytes, file: Path) -> None:
    """Raises InputError for anchors, aliases and tags, which a few bytes can make endless, and for deep nesting."""
    depth = 0
    for event in yaml.parse(content, Loader=SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        reference = isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)
        if reference or getattr(event, "tag", None) or depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise InputError(f"{printable(file)}, line {line}: no run's configuration has anchors, aliases or tags")


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
