"""What keeps runs that stand in one table, or in one mean, from being comparable: settings that nobody meant to vary,
and other data.

Two runs are scored on the same data where the held-out measurements in their validation.npz are the same, wherever the
tables lie.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prixfixe.analysis.results import LEAK_COLUMN, Row, by_seeds, is_of_evaluation, labels, model_name
from prixfixe.analysis.same_data import SPLIT, data_numbers, differing, frozen, held_out, some_of
from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.runs.bounded import parse_yaml
from prixfixe.runs.folder import SLOTS, RunFolder, decisive, flatten
from prixfixe.runs.reader import read_part, read_text
from prixfixe.sweeps.plan import Plan

MOST_NEAR_DUPLICATES = 0.05  # of validation sequences; beyond that their scores are no forecast for new ones


def remarks(*sides: Sequence[Row], score: str | None = None) -> list[str]:
    """What one has to know before one compares these runs, or their means over seeds, which are of either side.

    score: where all of it is about that one; the scores of an evaluation do not depend on what a run has held out.
    """
    unlike = [line for rows in sides for line in unlike_seeds(rows)]
    if score is None or not is_of_evaluation(score):
        rows = [*itertools.chain(*sides)]
        unlike += [line for line in (unlike_data(rows), near_duplicates(rows)) if line]
    return [*dict.fromkeys(unlike)]


def near_duplicates(rows: Sequence[Row]) -> str | None:
    """A remark where many of the sequences that runs are scored on are nearly training sequences."""
    shares = [row[LEAK_COLUMN] for row in rows if row["state"] == "done" and row.get(LEAK_COLUMN) is not None]
    if not shares or max(shares) <= MOST_NEAR_DUPLICATES:
        return None
    least, most = (f"{100 * share:.3g} %" for share in (min(shares), max(shares)))
    near = [row for row in rows if row["state"] == "done" and (row.get(LEAK_COLUMN) or 0) > MOST_NEAR_DUPLICATES]
    advice = "; with dataset.folds=10 dataset.fold=0, similar sequences stand on one side"
    has_folds = all("dataset.folds" in settings for row in near if (settings := _dataset(row)))
    return (
        f"beware: {most if least == most else f'{least} to {most}'} of the validation sequences share a long stretch "
        f"with a training sequence, so that scores tell of memory as well{advice if has_folds else ''}"
    )


def unlike_seeds(rows: Sequence[Row]) -> list[str]:
    """A remark where runs that are averaged over seeds and folds differ in more than these."""
    names = dict(zip((row["run"] for row in rows), labels(rows, model_name), strict=True))
    unlike: dict[str, list[str]] = defaultdict(list)
    for group in by_seeds(rows, model_name):
        averaged = [row for row in group if row["state"] == "done"] or group
        configs = _readable(averaged) if len({_without_folds(row) for row in averaged}) > 1 else []
        if settings := differing(configs, ("seed", "dataset.fold", "dataset.test_fold", *where_data_lie(configs))):
            unlike[settings].append(names[group[0]["run"]])
    return [
        f"beware: the seeds of {some_of(few, ' and ')} differ in {settings} as well" for settings, few in unlike.items()
    ]


def unlike_data(rows: Iterable[Row], expected: Collection[str] = ()) -> str | None:
    """A remark where the runs that are done are scored on different data. Folds of one table are none; nor is a
    difference in the settings `expected`, by their dotted keys."""
    runs = [(settings, held_out(row["run"])) for row in rows if row["state"] == "done" and (settings := _dataset(row))]
    if len(set(data_numbers(runs, expected))) > 1:
        named = differing([settings for settings, _ in runs], (*SPLIT, *expected))
        if all(measured is not None for _, measured in runs):
            return (
                f"beware: these runs are scored on different data, as they differ in {named}: their scores cannot be "
                "compared"
            )
        return (
            f"beware: these runs differ in {named}: where they are scored on different data, their scores cannot be "
            "compared"
        )
    contents: dict[Hashable, set[Hashable]] = defaultdict(set)
    for settings, measured in runs:
        contents[frozen(settings)] |= set() if measured is None else {measured}
    if any(len(held) > 1 for held in contents.values()):
        return (
            "beware: these runs are scored on different data, though their dataset settings are the same (the "
            "data have changed, or the "
            "same path led to others): their scores cannot be compared"
        )
    return None


def settings_of(row: Row) -> dict[str, Any]:
    """A run's decisive values, and where its data lay, by dotted key: of its config.yaml, or, where it never began, of
    the overrides in its sweep's plan."""
    folder = RunFolder(Path(row["run"]))
    if not is_missing(folder.config_file):
        config = folder.config()
        dataset = config.get("dataset")
        known = dataset if isinstance(dataset, Mapping) else {}
        where = {key: known[key] for key in ("path", "validation") if key in known}
        return flatten(decisive(config)) | flatten({"dataset": where})
    overrides = Plan.read(folder.path.parent).jobs.get(folder.name, [])
    pairs = (override.partition("=") for override in overrides)
    return {**{key: _value(value) for key, _, value in pairs}, **{f"choices.{slot}": row[slot] for slot in SLOTS}}


def _value(text: str) -> Any:
    """The value of an override; the text itself where YAML does not take it."""
    try:
        return parse_yaml(text)
    except ValueError:
        return text


def where_data_lie(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys that say where data lie, and no more: which they are, the held-out measurements say. They do not say
    what was trained on where a table of its own is held out."""
    separate = any(config.get("dataset.validation") is not None for config in configs)
    return ("dataset.validation",) if separate else ("dataset.validation", "dataset.path")


def _readable(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The settings of the runs that have begun, and whose configuration is not damaged."""
    found = []
    for row in rows:
        try:
            found += [] if is_missing(RunFolder(Path(row["run"])).config_file) else [settings_of(row)]
        except InputError:
            continue
    return found


def _without_folds(row: Row) -> str:
    """A configuration's text without the lines of its seed and folds: most are the same, and need not be parsed, which
    takes most of the time."""
    try:
        text = read_text(RunFolder(Path(row["run"])).config_file)
    except InputError:
        return ""
    left_out = ("seed:", "  fold:", "  test_fold:")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(left_out))


def _dataset(row: Row) -> dict[str, Any]:
    """The settings of a run's dataset by dotted key; {} where they cannot be read."""
    try:
        return flatten(read_part(RunFolder(Path(row["run"])).config_file, "dataset"))
    except InputError:
        return {}
