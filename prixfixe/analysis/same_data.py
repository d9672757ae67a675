"""Which runs are scored on the same data: by the settings of their datasets, and by what they have held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prixfixe.common.text import printable
from prixfixe.runs.folder import RunFolder, flatten
from prixfixe.runs.reader import held_out_checksum

# how a table is split: its folds are one data set, each with held-out rows of its own; and how much is trained on
SPLIT = (
    *("dataset.validation_fraction", "dataset.split_seed", "dataset.fold", "dataset.folds", "dataset.test_fold"),
    "dataset.training_fraction",
)
MOST_NAMED = 3  # settings, and rows of a table
MOST_VALUES = 4

Settings = Mapping[str, Any]  # by dotted key


def data_numbers(runs: Sequence[tuple[Settings, Hashable]], ignored: Collection[str] = ()) -> list[int]:
    """Each run's data as a number from 0 on, the same for the same data.

    runs: the settings of a run's dataset, and what tells its held-out measurements apart, None where that is not known.
    Runs of the same settings, but for SPLIT and `ignored`, have the same data, and so do settings that have held-out
    measurements in common, wherever the tables lie.
    """
    sources = [
        frozen({key: settings[key] for key in settings if key not in (*SPLIT, *ignored)}) for settings, _ in runs
    ]
    held: dict[Hashable, set[Hashable]] = defaultdict(set)
    for source, (_, measured) in zip(sources, runs, strict=True):
        held[source] |= {("settings", source), measured or ("settings", source)}
    groups: list[set[Hashable]] = []
    for members in held.values():
        joined = members.union(*(group for group in groups if group & members))
        groups = [*(group for group in groups if not group & members), joined]
    return [next(i for i, group in enumerate(groups) if ("settings", source) in group) for source in sources]


def dataset_settings(dataset: Mapping[str, Any]) -> Settings:
    return flatten({"dataset": dataset})


def held_out(run: str) -> Hashable:
    """What tells a run's held-out measurements apart: the length and checksum that the archive has of them, which needs
    no reading of them; None where there are none."""
    return held_out_checksum(RunFolder(Path(run)).validation_file)


def differing(configs: Sequence[Settings], ignored: Collection[str]) -> str:
    """`training.epochs (1, 2), seed (0, 1)`: the keys in which some flattened configurations differ, with their values;
    '' for none.

    ignored: keys that may differ, and all below them.
    """
    found = []
    for key, values in varying(configs, ignored).items():
        named = [*(printable(text, 100) for text in values[:MOST_VALUES]), *(["..."] * (len(values) > MOST_VALUES))]
        found.append(f"{printable(key, 100)} ({', '.join(named)})")
    return some_of(found, ", ")


def varying(configs: Sequence[Settings], ignored: Collection[str]) -> dict[str, list[str]]:
    """The keys in which some flattened configurations differ, each with its values, numbers first."""
    found = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        if not any(key == prefix or key.startswith(f"{prefix}.") for prefix in ignored):
            texts = {text_of(config.get(key)) for config in configs}
            if len(texts) > 1:
                found[key] = sorted(texts, key=_numbers_first)
    return found


def text_of(value: Any) -> str:
    return "none" if value is None else str(value)


def frozen(settings: Settings) -> Hashable:
    return tuple(sorted((key, str(value)) for key, value in settings.items()))


def some_of(texts: Sequence[str], last: str, most: int = MOST_NAMED) -> str:
    """a, b and c; a, b, c and 5 more. last: what stands before the last one where all are named."""
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most} more"
    return last.join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def _numbers_first(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text
