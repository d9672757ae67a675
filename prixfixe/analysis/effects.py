"""What a part is worth with all else equal, and which parts need each other.

The unit of every statistic here is a context: a choice of everything else. Two parts of one slot are compared by the
differences of their scores over all contexts in which both have finished (27 in the grid of 81), so that what the other
three slots contribute cancels out. Seeds are paired first and then averaged within a context, since runs that differ by
their seed alone are no independent witnesses of what a part is worth.

1. `part_effects`: mean difference, 95 % interval from a paired bootstrap over contexts (scipy.stats.bootstrap, BCa,
   9,999 samples), Wilcoxon's signed-rank test (scipy.stats.wilcoxon), Holm's correction over all tests of a score
   (statsmodels).
2. `variance_shares`: a factorial analysis of variance over combinations, main effects and two-way interactions, type II
   sums of squares (statsmodels), as shares of the total. What is left is interactions of three and four parts, and
   chance.
3. `interactions`: how far the combinations of two parts lie above what a purely additive model says.

An effect holds for the contexts, data and training length of these runs. With one seed a context's difference
contains the chance of two trainings; over the contexts it averages out, and it is part of the interval.
"""

from __future__ import annotations

import itertools
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prixfixe.analysis.results import EVALUATION_COLUMNS, LOWER_IS_BETTER, SCORES, Row, labels, origins
from prixfixe.counting import counted
from prixfixe.run_folder import SLOTS

MIN_PAIRS = 6  # with fewer, a signed-rank test cannot give p < 0.05, and no bootstrap an interval worth its name
SIGNIFICANT = 0.05
OTHERS = "others"
PLURALS = {"recipe": "recipes", "first": "first layers", "core": "cores", "final": "final layers"}

Context = tuple[Any, ...]
Units = dict[str, dict[Context, dict[Any, float]]]  # part -> context -> seed -> score


@dataclass(frozen=True)
class PartEffect:
    """Score of `part` minus score of `other` (another part of the slot, or "others": the mean of all of them), all else
    equal.

    low, high: 95 % interval; p: two-sided; p_adjusted: after correction. All four are None with fewer than MIN_PAIRS
    pairs.
    better: the pairs, of all `pairs`, in which `part` has the better score.
    """

    slot: str
    part: str
    other: str
    score: str
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    pairs: int
    better: int


@dataclass(frozen=True)
class VarianceShare:
    """A term's share of the sum of squares between combinations. df: degrees of freedom; p: None for the residual."""

    term: str
    share: float
    df: int
    p: float | None


@dataclass(frozen=True)
class InteractionCell:
    """How much the combinations with both parts score above (or below) what the parts add up to on their own.

    excess: mean over them of score minus the additive model's; mean: of their scores; combinations: how many.
    """

    slots: tuple[str, str]
    parts: tuple[str, str]
    excess: float
    mean: float
    combinations: int


@dataclass(frozen=True)
class Analysis:
    """What some rows say about parts, each as the function of that name gives it; findings: the same as sentences."""

    effects: list[PartEffect]
    shares: list[VarianceShare]
    interactions: list[InteractionCell]
    findings: list[str]


def analyse(rows: Sequence[Row], score: str) -> Analysis:
    """The whole analysis of the rows that are done; what they cannot say is said in the findings, too."""
    effects, shares, cells = part_effects(rows, score), variance_shares(rows, score), interactions(rows, score)
    return Analysis(effects, shares, cells, _findings(rows, score, effects, shares, cells))


def part_effects(rows: Sequence[Row], score: str) -> list[PartEffect]:
    """Every pair of parts of every slot, and every part against the others of its slot, over the rows that are done."""
    effects = [effect for slot in SLOTS for effect in _slot_effects(rows, slot, score)]
    tested = [effect for effect in effects if effect.p is not None]
    if tested:
        from statsmodels.stats.multitest import multipletests

        adjusted = multipletests([effect.p for effect in tested], method="holm")[1]
        corrected = dict(zip(map(id, tested), adjusted, strict=True))
        effects = [
            replace(effect, p_adjusted=float(corrected[id(effect)])) if id(effect) in corrected else effect
            for effect in effects
        ]
    return effects


def paired_differences(rows: Sequence[Row], slot: str, score: str, part: str, others: Sequence[str]) -> np.ndarray:
    """Score of `part` minus the mean score of `others` in every context where all of them are done: (contexts,).

    Seeds that all of them have are paired and averaged within a context.
    """
    units = _units(rows, slot, score)
    differences = []
    for context, of_part in units.get(part, {}).items():
        of_others = [units.get(other, {}).get(context, {}) for other in others]
        seeds = [seed for seed in of_part if all(seed in other for other in of_others)]
        if seeds and others:
            differences.append(
                statistics.fmean(of_part[seed] - statistics.fmean(other[seed] for other in of_others) for seed in seeds)
            )
    return np.array(differences)


def contexts(rows: Sequence[Row], slot: str, score: str) -> tuple[list[str], np.ndarray]:
    """The parts of a slot, and their scores, averaged over seeds, in every context that all of them share: (contexts,
    parts)."""
    units = _units(rows, slot, score)
    parts = sorted(units)
    shared = [context for context in units[parts[0]] if all(context in units[part] for part in parts)] if parts else []
    values = [[statistics.fmean(units[part][context].values()) for part in parts] for context in shared]
    return parts, np.array(values).reshape(len(shared), len(parts))


def interval(differences: np.ndarray) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean, or None with fewer than MIN_PAIRS."""
    from scipy.stats import bootstrap

    if len(differences) < MIN_PAIRS:
        return None
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    limits = bootstrap(
        (differences,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(limits.low), float(limits.high)


def variance_shares(rows: Sequence[Row], score: str) -> list[VarianceShare]:
    """Terms such as `recipe`, `recipe x core`, and last `residual`, by an analysis of variance over finished
    combinations.

    Seeds are averaged first. A slot with one choice is left out, and so is an interaction with an empty cell.
    Interactions are left out altogether where there are not more combinations than terms need; then, without enough for
    the main effects either, the list is empty. Where no combination is missing, the shares add up to 1.
    """
    table = _table(rows, score)
    factors = _factors(table)
    interactions = [
        pair for pair in itertools.combinations([f for f in factors if f in SLOTS], 2) if _is_full(table, pair)
    ]
    for pairs in (interactions, []) if interactions else ([],):
        needed = (
            1
            + sum(_levels(table, f) - 1 for f in factors)
            + sum((_levels(table, a) - 1) * (_levels(table, b) - 1) for a, b in pairs)
        )
        if factors and len(table) > needed:
            return _anova(table, factors, pairs)
    return []


def interactions(rows: Sequence[Row], score: str) -> list[InteractionCell]:
    """Every pair of parts of two slots, the largest deviation from additivity first.

    The additive model is least squares on all slots' parts; where no combination is missing, the excess is the cell's
    mean minus the two parts' means plus the grand mean.
    """
    table = _table(rows, score)
    factors = _factors(table)
    slots = [factor for factor in factors if factor in SLOTS]
    if len(slots) < 2:
        return []
    design = np.column_stack(
        [np.ones(len(table))]
        + [[float(unit[f] == level) for unit in table] for f in factors for level in sorted({u[f] for u in table})[1:]]
    )
    values = np.array([unit["score"] for unit in table])
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    cells = []
    for pair in itertools.combinations(slots, 2):
        members: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, unit in enumerate(table):
            members[unit[pair[0]], unit[pair[1]]].append(index)
        cells += [
            InteractionCell(pair, parts, float(residual[i].mean()), float(values[i].mean()), len(i))
            for parts, i in sorted(members.items())
        ]
    return sorted(cells, key=lambda cell: -abs(cell.excess))


def no_score(score: str) -> str:
    """What is said where no finished run has a score, and what gives it."""
    gives = ": prixfixe evaluate RUNS TESTSET gives it" if score in EVALUATION_COLUMNS else ""
    return f"No finished run has a {SCORES.get(score, score)} yet{gives}."


def _findings(
    rows: Sequence[Row],
    score: str,
    effects: Sequence[PartEffect],
    shares: Sequence[VarianceShare],
    cells: Sequence[InteractionCell],
) -> list[str]:
    label = SCORES.get(score, score)
    planned, scored = labels(rows), defaultdict(list)
    for name, row in zip(planned, rows, strict=True):
        if _scored([row], score):
            scored[name].append(row[score])
    if not scored:
        return [no_score(score)]
    best = (min if score in LOWER_IS_BETTER else max)(scored, key=lambda name: statistics.fmean(scored[name]))
    if len(scored) == 1:
        sentences = [f"The only finished combination has a {label} of {statistics.fmean(scored[best]):.3f}: {best}."]
    else:
        sentences = [
            f"The best {label} of {counted(len(scored), 'finished combination')} is "
            f"{statistics.fmean(scored[best]):.3f}: {best}."
        ]
    if without := len(set(planned)) - len(scored):
        sentences.append(
            f"{without} of {counted(len(set(planned)), 'combination')} {'is' if without == 1 else 'are'} not "
            f"done, or without a {label}: "
            "every comparison is over those that have one."
        )
    of_slots = {slot: [effect for effect in effects if effect.slot == slot] for slot in SLOTS}
    for slot, some in of_slots.items():
        sentences += _about_slot(slot, some, label) if some else []
    if alone := [slot for slot, some in of_slots.items() if not some]:
        about = "" if len(alone) == len(SLOTS) else f" of {', '.join(alone)}"
        sentences.append(
            f"Nothing can be said about the parts{about}: no two of one slot have finished with all else equal."
        )
    return sentences if len(alone) == len(SLOTS) else [*sentences, *_about_variance(shares, cells, score, label)]


def _about_slot(slot: str, effects: Sequence[PartEffect], label: str) -> list[str]:
    """The parts that differ from the others beyond chance, the best first; where none does, pairs of parts that do."""
    against_others = [effect for effect in effects if effect.other == OTHERS] or list(effects)
    for some in (against_others, [effect for effect in effects if effect.other != OTHERS]):
        if clear := [effect for effect in some if effect.p_adjusted is not None and effect.p_adjusted < SIGNIFICANT]:
            return [_sentence(effect, label) for effect in sorted(clear, key=_merit, reverse=True)]
    pairs = max(effect.pairs for effect in effects)
    if pairs < MIN_PAIRS:
        return [
            f"{slot.capitalize()}: {counted(pairs, 'pair')} with all else equal, too few to tell parts from chance."
        ]
    largest = max(effects, key=lambda effect: abs(effect.mean))
    return [
        f"{slot.capitalize()}: no part differs from the others beyond chance; the largest difference in {label} is "
        f"{abs(largest.mean):.{_digits(largest)}f}, of {largest.part} against {_rest(largest)} "
        f"({counted(pairs, 'pair')})."
    ]


def _sentence(effect: PartEffect, label: str) -> str:
    assert effect.low is not None and effect.high is not None and effect.p_adjusted is not None
    digits = _digits(effect)
    low, high = sorted(
        math.copysign(1.0, effect.mean) * limit for limit in (effect.low, effect.high)
    )  # of the amount, not the difference
    verb = "raises" if effect.mean > 0 else "lowers"
    return (
        f"{effect.slot.capitalize()} {effect.part} {verb} {label} by {abs(effect.mean):.{digits}f} against "
        f"{_rest(effect)}, with all else "
        f"equal (95 % interval {low:.{digits}f} to {high:.{digits}f}; better in {effect.better} of "
        f"{effect.pairs} pairs; "
        f"{p_text(effect.p_adjusted)} after correction)."
    )


def _about_variance(
    shares: Sequence[VarianceShare], cells: Sequence[InteractionCell], score: str, label: str
) -> list[str]:
    if not shares:
        return [f"Too few finished combinations for an analysis of variance of {label}."]
    main = sorted((share for share in shares if share.term in _FACTORS), key=lambda share: -share.share)
    pairs = [share for share in shares if " x " in share.term]
    named = [f"{share.term} {_percent(share.share)}" for share in main]
    if pairs:
        named.append(f"interactions of two parts {_percent(sum(share.share for share in pairs))}")
    rest = "further interactions and chance" if pairs else "interactions and chance"
    sentences = [
        f"Shares of the variance in {label} between combinations: {', '.join(named)}; {rest} "
        f"{_percent(shares[-1].share)}."
    ]

    from statsmodels.stats.multitest import multipletests

    tested = [share for share in pairs if share.p is not None and not math.isnan(share.p)]
    adjusted = multipletests([share.p for share in tested], method="holm")[1] if tested else []
    for share, p in zip(tested, adjusted, strict=True):
        if p < SIGNIFICANT:
            best = (min if score in LOWER_IS_BETTER else max)(
                (cell for cell in cells if " x ".join(cell.slots) == share.term), key=lambda cell: cell.excess
            )
            sentences.append(
                f"{best.slots[0].capitalize()} and {best.slots[1]} depend on each other ({_percent(share.share)} "
                "of the variance, "
                f"{p_text(float(p))} after correction): {best.parts[0]} with {best.parts[1]} has a {label} "
                f"{abs(best.excess):.3f} "
                f"{'higher' if best.excess > 0 else 'lower'} than the two add up to "
                f"({counted(best.combinations, 'combination')})."
            )
    if tested and not any(p < SIGNIFICANT for p in adjusted):
        sentences.append("No two slots depend on each other beyond chance: parts add up.")
    return sentences


def p_text(p: float | None) -> str:
    """p = 0.012, p < 0.001."""
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


_FACTORS = (*SLOTS, "variant", "sweep")


def _slot_effects(rows: Sequence[Row], slot: str, score: str) -> list[PartEffect]:
    parts = sorted({row[slot] for row in _scored(rows, score)})
    comparisons: list[tuple[str, str, list[str]]] = [(a, b, [b]) for a, b in itertools.combinations(parts, 2)]
    if len(parts) > 2:
        comparisons += [(part, OTHERS, [other for other in parts if other != part]) for part in parts]
    effects = []
    for part, other, others in comparisons:
        differences = paired_differences(rows, slot, score, part, others)
        if not len(differences):
            continue
        low, high = interval(differences) or (None, None)
        better = int((differences < 0).sum() if score in LOWER_IS_BETTER else (differences > 0).sum())
        p = None if low is None else signed_rank(differences)
        effects.append(
            PartEffect(
                slot, part, other, score, float(differences.mean()), low, high, p, None, len(differences), better
            )
        )
    return effects


def signed_rank(differences: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _units(rows: Sequence[Row], slot: str, score: str) -> Units:
    units: Units = defaultdict(lambda: defaultdict(dict))
    done = _scored(rows, score)
    for row, origin in zip(done, origins(done), strict=True):
        context = (*(row[other] for other in SLOTS if other != slot), row["variant"], origin)
        units[row[slot]][context][row["seed"]] = row[score]
    return units


def _scored(rows: Iterable[Row], score: str) -> list[Row]:
    return [row for row in rows if row["state"] == "done" and row.get(score) is not None]


def _table(rows: Sequence[Row], score: str) -> list[dict[str, Any]]:
    """One entry a combination, variant and origin: its parts, and its score averaged over seeds."""
    done = _scored(rows, score)
    groups: dict[Context, list[float]] = defaultdict(list)
    for row, origin in zip(done, origins(done), strict=True):
        groups[(*(row[slot] for slot in SLOTS), row["variant"] or "", origin)].append(row[score])
    return [
        dict(zip(_FACTORS, key, strict=True)) | {"score": statistics.fmean(values)} for key, values in groups.items()
    ]


def _levels(table: Sequence[Mapping[str, Any]], factor: str) -> int:
    return len({unit[factor] for unit in table})


def _factors(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """What varies. Variants and sweeps, where there are several, are factors without interactions."""
    return [factor for factor in _FACTORS if _levels(table, factor) > 1]


def _is_full(table: Sequence[Mapping[str, Any]], pair: tuple[str, str]) -> bool:
    return len({(unit[pair[0]], unit[pair[1]]) for unit in table}) == _levels(table, pair[0]) * _levels(table, pair[1])


def _anova(
    table: Sequence[Mapping[str, Any]], factors: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> list[VarianceShare]:
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    frame = pd.DataFrame(table)
    total = float(np.square(frame["score"] - frame["score"].mean()).sum())
    if total == 0:
        return []
    names = {f"C({factor})": factor for factor in factors} | {f"C({a}):C({b})": f"{a} x {b}" for a, b in pairs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a residual of exactly 0 gives p = 0
        fitted = anova_lm(ols(f"score ~ {' + '.join(names)}", frame).fit(), typ=2)
    shares = [
        VarianceShare(
            label,
            float(fitted.loc[name, "sum_sq"]) / total,
            int(fitted.loc[name, "df"]),
            float(fitted.loc[name, "PR(>F)"]),
        )
        for name, label in names.items()
    ]
    left = fitted.loc["Residual"]
    return [*shares, VarianceShare("residual", float(left["sum_sq"]) / total, int(left["df"]), None)]


def _merit(effect: PartEffect) -> float:
    return -effect.mean if effect.score in LOWER_IS_BETTER else effect.mean


def _digits(effect: PartEffect) -> int:
    """Enough for two digits of the smaller of the effect and its interval's width, three at least."""
    size = abs(effect.mean) or 1.0
    if effect.low is not None and effect.high is not None and effect.high > effect.low:
        size = min(size, effect.high - effect.low)
    return min(6, max(3, 1 - math.floor(math.log10(size)))) if size < 1 else 3


def _rest(effect: PartEffect) -> str:
    return f"the other {PLURALS[effect.slot]}" if effect.other == OTHERS else effect.other


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
