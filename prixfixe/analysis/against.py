"""Two sets of runs side by side: what changed, per combination, beyond the noise; and where a new block ranks in its
slot."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prixfixe.analysis.effects import contexts
from prixfixe.analysis.ranks import RANKED, VALIDATION, bootstrap_scores, read_source
from prixfixe.analysis.results import COMBINATION, Results, Row, combination
from prixfixe.runs.folder import SLOTS, RunFolder
from prixfixe.tasks.scores import Score

SAMPLES = 1000
ONE_SEED = "one seed"


def compare(new: Results, old: Results, score: Score) -> list[Row]:
    """A row a combination of either: its old and new score (means over seeds), the difference, and whether it is beyond
    the noise.

    noise: half the width of a 95 % interval of the difference. It comes from the sequences (a paired bootstrap of the
    kept validation predictions, 1,000 samples as large as the validation set), where both sides have them for the same
    sequences; from the seeds, where both sides have two or more (Welch's t with Welch's and Satterthwaite's degrees of
    freedom, since the two sides need not vary alike); from both, the root of the sum of their squares; or it is None
    (`noise_from` says which).

    change: better, worse and within noise compare the difference with the noise. One seed on a side says nothing of
    training again: a difference beyond the noise of the sequences is then called `one seed`, never better or worse.
    unknown: no noise at all. only new, only old: nothing to compare. The largest improvements come first.

    Measured (benchmarks/statistics): where nothing has changed, better or worse is said of none of 500 changes with one
    seed a side, of 0.2 % with two and 3.8 % with five; where the runs of one side vary three times as much, of none,
    2.8 % and 5.2 %. The noise of the sequences alone would have said it of 28 % and 61 % with one seed.
    """
    sides = _by_combination(new, score), _by_combination(old, score)
    resampled = _from_predictions(sides[0], sides[1], score)
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        values = [[run[score.name] for run in side.get(name, [])] for side in sides]
        means = [statistics.fmean(some) if some else None for some in values]
        example = (sides[0].get(name) or sides[1][name])[0]
        row: Row = {column: example[column] for column in COMBINATION} | {"old": means[1], "new": means[0]}
        row |= {"test_fold": example.get("test_fold"), "difference": None, "noise": None, "noise_from": None}
        if means[0] is None or means[1] is None:
            rows.append(row | {"change": "only new" if means[1] is None else "only old"})
            continue
        row["difference"] = difference = means[0] - means[1]
        sequences, seeds = resampled.get(name), _from_seeds(*values)
        sources = {"sequences": sequences is not None, "seeds": seeds is not None}
        if not any(sources.values()):
            rows.append(row | {"change": "unknown"})
            continue
        row |= {"noise": math.hypot(sequences or 0.0, seeds or 0.0)}
        row |= {"noise_from": " and ".join(filter(sources.get, sources))}
        rows.append(row | {"change": _change(difference, row["noise"], score, several_seeds=seeds is not None)})
    return sorted(rows, key=lambda row: math.inf if row["difference"] is None else score.loss(row["difference"]))


def together(new: Results, old: Results) -> Results:
    """Both as one grid: where both have a run of the same combination and seed, the new one."""
    have = {(combination(row), row.get("fold"), row["seed"]) for row in new.done}
    further = [row for row in old.rows if (combination(row), row.get("fold"), row["seed"]) not in have]
    return replace(new, rows=[*new.rows, *further], damaged=[*new.damaged, *old.damaged])


def new_parts(new: Results, old: Results) -> dict[str, list[str]]:
    """slot -> the parts that finished in `new` and that `old` has not got at all; only slots with such parts."""
    found = {slot: sorted({row[slot] for row in new.done} - {row[slot] for row in old.rows}) for slot in SLOTS}
    return {slot: parts for slot, parts in found.items() if parts}


def slot_ranking(results: Results, slot: str, score: Score) -> list[Row]:
    """The parts of a slot by average rank over the contexts (the other slots' parts) that all of them share, best
    first.

    Rows: part, average_rank, best_in (in how many contexts it is the best), contexts, and its mean score there. Empty
    without a shared context.
    """
    from scipy.stats import rankdata

    parts, table = contexts(results.rows, slot, score)
    if not len(table):
        return []
    ranks = rankdata(score.loss(table), axis=1)
    best = (ranks == ranks.min(axis=1)[:, None]).sum(axis=0)
    rows = [
        {"slot": slot, "part": part, "average_rank": float(ranks[:, i].mean()), "best_in": int(best[i])}
        | {"contexts": len(table), score.name: float(table[:, i].mean())}
        for i, part in enumerate(parts)
    ]
    return sorted(rows, key=lambda row: row["average_rank"])


def _by_combination(results: Results, score: Score) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in results.done:
        if row.get(score.name) is not None:
            groups[combination(row)].append(row)
    return dict(groups)


def _change(difference: float, noise: float, score: Score, *, several_seeds: bool) -> str:
    if abs(difference) <= noise:
        return "within noise"
    if not several_seeds:
        return ONE_SEED
    return "better" if score.loss(difference) < 0 else "worse"


def _from_seeds(new: Sequence[float], old: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of a difference of means, from the spread of each side over its seeds; None
    without two on both sides.

    Welch's and Satterthwaite's degrees of freedom go with these variances alone: with that of the sequences in one sum,
    a spread that two seeds happen to underestimate would leave most of it to the sequences, and 6 to 13 % of changes
    would be false.
    """
    from scipy.stats import ttest_ind

    if min(len(new), len(old)) < 2:
        return None
    if max(statistics.variance(new), statistics.variance(old)) == 0:
        return 0.0
    low, high = ttest_ind(new, old, equal_var=False).confidence_interval()
    return float(high - low) / 2


def _from_predictions(new: Mapping[str, list[Row]], old: Mapping[str, list[Row]], score: Score) -> dict[str, float]:
    """The same from a paired bootstrap over the validation sequences, for the combinations where it can be made."""
    scores = next((names for names in RANKED if score.name in names), None)
    if scores is None:
        return {}
    shared = [name for name in new if name in old]
    labelled = [((side, name), row) for side, runs in enumerate((new, old)) for name in shared for row in runs[name]]
    folders = [RunFolder(Path(row["run"])) for _, row in labelled]
    kept = read_source(folders, [f"{side} {name}" for (side, name), _ in labelled], VALIDATION, scores)
    if kept is None:
        return {}
    sampled = bootstrap_scores(kept, SAMPLES, 1.0, 0)[:, :, scores.index(score.name)]
    members: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(kept.names):
        members[label].append(index)
    noise = {}
    for name in shared:
        both = members.get(f"0 {name}"), members.get(f"1 {name}")
        if both[0] and both[1]:
            noise[name] = 1.96 * float(np.std(sampled[:, both[0]].mean(axis=1) - sampled[:, both[1]].mean(axis=1)))
    return noise
