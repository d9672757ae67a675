"""Whether held-out rows were trained on before, by the run whose weights another one starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import printable
from prixfixe.data.datasets import Split
from prixfixe.networks.network import BLOCKS
from prixfixe.networks.parts import LOADED, Origin, networks_in, training_of
from prixfixe.runs.folder import RunFolder, identity
from prixfixe.training.build import build_dataset


def started_from(config: Mapping[str, Any]) -> Iterator[RunFolder]:
    """The run folders whose weights a configuration's parts start from, and those that these started from."""
    known: set[Path] = set()
    left = [config]
    while left:
        current = left.pop()
        for slot in BLOCKS:
            for node in (current[slot], *networks_in(current[slot]).values()):
                weights = training_of(node)["weights"]
                path = None if weights is None else Path(str(weights))
                folder = path if path is None or path.is_dir() else path.parent
                if folder is None or folder in known or is_missing(RunFolder(folder).config_file):
                    continue
                known.add(folder)
                yield RunFolder(folder)
                left.append(RunFolder(folder).config())


def check_unseen(config: Mapping[str, Any], split: Split, *, allowed: bool, origin: Origin = LOADED) -> list[str]:
    """Raises InputError where rows that are scored were trained on by a run that this one starts from; remarks where
    that cannot be known, or is allowed.

    Its data are read again by its own configuration, and are its own only where its identity says so. A row is known
    by its sequence, its reverse complement, its insert between constant flanks or a window that overlaps it
    (`prixfixe.data.splits.straddling`).
    """
    from prixfixe.data.splits import straddling

    said = []
    for folder in started_from(config):
        name = printable(folder.path)
        source = folder.config()
        try:
            before = build_dataset(source, Origin(run=folder.path, conf=origin.conf)).read()
        except (InputError, OSError) as error:
            said.append(
                f"what {name} was trained on cannot be read again ({printable(error, 200)}), so it is not known "
                "whether it has seen rows that are scored here"
            )
            continue
        if identity(source, before.content) != folder.status().get("configuration_hash"):
            said.append(
                f"the data of {name} have changed since, so it is not known whether it has seen rows that are "
                "scored here"
            )
            continue
        for part, rows in {"validation": split.validation, **split.tests}.items():
            same_data = before.content.split()[0] == split.content.split()[0]
            train = (
                before.train if same_data else replace(before.train, regions=None)
            )  # which name chromosomes by number
            seen = straddling(train, rows)
            if not seen:
                continue
            found = (
                f"{seen:,} of the {len(rows):,} {part} sequences were trained on by {name}, from which this run starts"
            )
            if not allowed:
                raise InputError(f"{found}: hold out others, or say training.allow_seen=true")
            said.append(found)
    return said
