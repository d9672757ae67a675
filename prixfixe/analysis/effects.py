"""What a part is worth with all else equal, and which parts need each other.

The unit of every statistic here is a context: a choice of the parts of all other slots. Two parts of one slot are
compared by the differences of their scores over all contexts in which both have finished (27 in the grid of 81), so
that what the other three slots contribute cancels out. Within a context, runs are paired by seed, variant and sweep,
and their differences averaged: runs of the same parts are no independent witnesses of what a part is worth.

1. `part_effects`: mean difference, 95 % interval over contexts (`interval`), Wilcoxon's signed-rank test
   (scipy.stats.wilcoxon).
2. `variance_shares`: a factorial analysis of variance over combinations, main effects and two-way interactions, type II
   sums of squares (statsmodels), as shares of the total. What is left is interactions of three and four parts, and
   chance.
3. `interactions`: how far the combinations of two parts lie above what a purely additive model says.
4. `analyse`: all of it, with Holm's correction (statsmodels) over the tests of parts and of pairs of slots together,
   and as sentences. A sentence says what is shown; where nothing is, it says how large a difference may still be.

An effect holds for the contexts, validation sequences and training length of these runs. With one seed a context's
difference contains the chance of two trainings; over the contexts it averages out, and it is part of the interval.

Measured (benchmarks/statistics, docs/statistics.md): of 400 grids of 81 without any effect, 3.5 % get a false sentence,
of parts or of interactions; with three sweeps or three seeds 2.0 %, with skewed scores 4.0 %.
"""

from __future__ import annotations

import itertools
import math
import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.analysis.results import Row, labels, model_name, origins
from prixfixe.common.text import counted
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import KL, WEIGHTED, Score

if TYPE_CHECKING:
    import pandas as pd

MIN_PAIRS = 6  # with fewer, a signed-rank test cannot give p < 0.05
MIN_INTERVAL = 9  # with fewer, no interval of a skewed difference covers what it says
WIDEST = 2.0  # times as far as Student's t, a limit of the bootstrap at most
RESAMPLES = 9999
SIGNIFICANT = 0.05
MOST_NAMED = 3  # pairs of parts that are missing, in a sentence
OTHERS = "others"
OVERLAP = "combinations are missing, so that terms overlap and the shares do not add up to 100 %"
ABOUT_KL = (
    "KL tells final layers apart by what they predict, too: one that predicts bins is scored by its own, one that "
    "predicts a number by a normal distribution of one width around it."
)
PLURALS = {"recipe": "recipes", "first": "first layers", "core": "cores", "final": "final layers"}

Parts = tuple[str, ...]
Setting = tuple[Any, ...]  # variant, test fold and sweep
Scores = dict[Setting, dict[Any, float]]  # of one combination: setting -> seed and fold -> score
Units = dict[str, dict[Parts, Scores]]  # part -> context -> scores


@dataclass(frozen=True)
class PartEffect:
    """Score of `part` minus score of `other` (another part of the slot, or "others": the mean of all of them), all else
    equal.

    low, high: 95 % interval, None with fewer than MIN_INTERVAL pairs. p: two-sided; p_adjusted: after correction for
    all tests of the same call; None with fewer than MIN_PAIRS pairs.
    better: the pairs, of all `pairs`, in which `part` has the better score.
    """

    slot: str
    part: str
    other: str
    score: Score
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    pairs: int
    better: int


@dataclass(frozen=True)
class VarianceShare:
    """A term's share of the sum of squares between combinations.

    df: degrees of freedom; p: None for the residual. p_adjusted: of an interaction, after correction for all tests of
    the same call.
    """

    term: str
    share: float
    df: int
    p: float | None
    p_adjusted: float | None = None


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


def analyse(rows: Sequence[Row], score: Score) -> Analysis:
    """The whole analysis of the rows that are done; what they cannot say is said in the findings, too."""
    effects, shares = _corrected(_effects(rows, score), _shares(rows, score))
    cells = interactions(rows, score)
    return Analysis(effects, shares, cells, _findings(rows, score, effects, shares, cells))


def part_effects(rows: Sequence[Row], score: Score) -> list[PartEffect]:
    """Every pair of parts of every slot, and every part against the others of its slot, over the rows that are done."""
    return _corrected(_effects(rows, score), [])[0]


def variance_shares(rows: Sequence[Row], score: Score) -> list[VarianceShare]:
    """Terms such as `recipe`, `recipe x core`, and last `residual`, by an analysis of variance over finished
    combinations.

    Seeds, variants and sweeps are averaged first. A slot with one choice is left out, and so is an interaction with an
    empty cell. Interactions are left out altogether where the combinations that are done do not tell them all apart;
    where they do not tell the main effects apart either, the list is empty. Where no combination is missing, the shares
    add up to 1; otherwise the terms overlap, and they do not.
    """
    return _corrected([], _shares(rows, score))[1]


def paired_differences(rows: Sequence[Row], slot: str, score: Score, part: str, others: Sequence[str]) -> np.ndarray:
    """Score of `part` minus the mean score of `others` in every context where all of them are done: (contexts,).

    Within a context, each variant and sweep that all of them have gives one difference, and these are averaged. Seeds
    that all of them have are paired; where they share none, each one's are averaged.
    """
    return _differences(_units(rows, slot, score), part, others)


def _differences(units: Units, part: str, others: Sequence[str]) -> np.ndarray:
    differences = []
    for context, of_part in units.get(part, {}).items():
        paired = _paired([of_part, *(units.get(other, {}).get(context, {}) for other in others)])
        if paired and others:
            differences.append(statistics.fmean(mine - statistics.fmean(theirs) for mine, *theirs in paired))
    return np.array(differences)


def contexts(rows: Sequence[Row], slot: str, score: Score) -> tuple[list[str], np.ndarray]:
    """The parts of a slot, and their scores, averaged as in `paired_differences`, in every context that all of them
    share: (contexts, parts)."""
    units = _units(rows, slot, score)
    parts = sorted(units)
    table = []
    for context in units[parts[0]] if parts else ():
        if paired := _paired([units[part].get(context, {}) for part in parts]):
            table.append(np.mean(paired, axis=0))
    return parts, np.array(table).reshape(len(table), len(parts))


def interval(differences: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the mean, or None with fewer than MIN_INTERVAL values.

    Each limit is the outer one of two: Student's t, which is right for normal values and careful with heavy tails, and
    the bootstrap-t (Efron 1979; 9,999 samples), which follows a skewed distribution; the latter at most WIDEST times as
    far as the former, since a single value far from all others would send it anywhere.

    Measured (benchmarks/statistics): of 9, 18 and 27 values it covers the mean in 97, 96 and 95 % of cases where they
    are normal, in 94, 95 and 96 % where they are exponential, in 97, 96 and 96 % where they have Student's t with 3
    degrees of freedom. (The BCa bootstrap covers 87 to 91 % there, Student's t alone 89 to 92 % of exponential ones.)
    """
    from scipy.stats import t

    n = len(differences)
    if n < MIN_INTERVAL:
        return None
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    drawn = differences[np.random.default_rng(0).integers(0, n, (RESAMPLES, n))]
    spread = drawn.std(axis=1, ddof=1)
    varies = spread > 1e-9 * deviation  # a sample of one value again and again has no t
    low, high = np.percentile((drawn.mean(axis=1) - mean)[varies] / spread[varies], [2.5, 97.5])
    student = float(t.ppf(0.975, n - 1)) / math.sqrt(n)
    below, above = (float(np.clip(limit, student, WIDEST * student)) * deviation for limit in (high, -low))
    return mean - below, mean + above


def interactions(rows: Sequence[Row], score: Score) -> list[InteractionCell]:
    """Every pair of parts of two slots, the largest deviation from additivity first; a pair of parts of which no
    combination is done is left out.

    The additive model is least squares on all slots' parts; where no combination is missing, the excess is the cell's
    mean minus the two parts' means plus the grand mean.
    """
    table = _table(rows, score)
    slots = _factors(table)
    if len(slots) < 2:
        return []
    model = _model(table, slots, [])
    table["excess"] = model.endog - model.exog @ np.linalg.lstsq(model.exog, model.endog, rcond=None)[0]
    cells = [
        InteractionCell(
            pair, (str(parts[0]), str(parts[1])), float(some["excess"].mean()), float(some["score"].mean()), len(some)
        )
        for pair in itertools.combinations(slots, 2)
        for parts, some in table.groupby(list(pair))
    ]
    return sorted(cells, key=lambda cell: -abs(cell.excess))


def no_score(score: Score) -> str:
    """What is said where no finished run has a score, and what gives it."""
    gives = ": prixfixe evaluate RUNS TESTSET gives it" if score in WEIGHTED else ""
    return f"No finished run has a {score.label} yet{gives}."


def _findings(
    rows: Sequence[Row],
    score: Score,
    effects: Sequence[PartEffect],
    shares: Sequence[VarianceShare],
    cells: Sequence[InteractionCell],
) -> list[str]:
    label = score.label
    planned, scored = labels(rows, model_name), defaultdict(list)
    for name, row in zip(planned, rows, strict=True):
        if _scored([row], score):
            scored[name].append(row[score.name])
    if not scored:
        return [no_score(score)]
    best = min(scored, key=lambda name: score.loss(statistics.fmean(scored[name])))
    done, value = _scored(rows, score), f"{statistics.fmean(scored[best]):.3f}: {best}."
    combinations = len(_by_combination(rows, score))
    apart = f" ({len(scored)} with variants and sweeps apart)" if len(scored) > combinations else ""
    sentences = [f"The best {label} of {counted(combinations, 'finished combination')}{apart} is {value}"]
    if len(scored) == 1:
        sentences = [f"The only finished combination has a {label} of {value}"]
    if without := len(set(planned)) - len(scored):
        sentences.append(
            f"{without} of {counted(len(set(planned)), 'combination')} {'is' if without == 1 else 'are'} not done, or "
            f"without a {label}: every comparison is over those that have one."
        )
    for slot in SLOTS:
        if unscored := sorted({row[slot] for row in rows if row["state"] == "done"} - {row[slot] for row in done}):
            sentences.append(f"No run of {slot} {', '.join(unscored)} has a {label}: nothing is said about it.")
    of_slots = {slot: [effect for effect in effects if effect.slot == slot] for slot in SLOTS}
    if any(of_slots.values()):
        sentences.append(_about_evidence(done))
    if score.name == KL.name and of_slots["final"]:
        sentences.append(ABOUT_KL)
    for slot, some in of_slots.items():
        sentences += _about_slot(slot, some, label) if some else []
    if alone := [slot for slot, some in of_slots.items() if not some]:
        about = "" if len(alone) == len(SLOTS) else f" of {', '.join(alone)}"
        sentences.append(
            f"Nothing can be said about the parts{about}: no two of one slot have finished with all else equal."
        )
    if len(alone) == len(SLOTS):
        return sentences
    return [*sentences, *_about_variance(shares, label), *_about_interactions(rows, score, shares, cells)]


def _about_evidence(done: Sequence[Row]) -> str:
    """On how many runs all that follows rests, and what they cannot tell."""
    of_combinations = Counter(tuple(row[slot] for slot in SLOTS) for row in done)
    text = f"All that follows rests on {counted(len(done), 'run')} of {counted(len(of_combinations), 'combination')}"
    counts = {
        "seed": len({row["seed"] for row in done}),
        "variant": len({row["variant"] for row in done}),
        "sweep": len(set(origins(done))),
        "fold": len({(row.get("test_fold"), row.get("fold")) for row in done}),
    }
    several = [counted(count, word) for word, count in counts.items() if count > 1]
    if several:
        text += f" ({', '.join(several)}), averaged before anything is tested: a pair is two parts in one context"
    fewest, most = min(of_combinations.values()), max(of_combinations.values())
    if counts["seed"] == counts["fold"] == 1:
        return (
            f"{text}, with one seed: how far training again would change a single combination is not known; chance is "
            "in the intervals as the spread over contexts alone."
        )
    return f"{text}; {fewest if fewest == most else f'{fewest} to {most}'} runs a combination."


def _about_slot(slot: str, effects: Sequence[PartEffect], label: str) -> list[str]:
    """The parts that are shown to differ from the others, the best first; where none is, pairs of parts that are."""
    against_others = [effect for effect in effects if effect.other == OTHERS] or list(effects)
    for some in (against_others, [effect for effect in effects if effect.other != OTHERS]):
        if clear := [effect for effect in some if effect.p_adjusted is not None and effect.p_adjusted < SIGNIFICANT]:
            return [_sentence(effect, label) for effect in sorted(clear, key=_merit, reverse=True)]
    pairs, name = max(effect.pairs for effect in effects), slot.capitalize()
    if pairs < MIN_PAIRS:
        return [f"{name}: {counted(pairs, 'pair')} with all else equal, too few to tell parts from chance."]
    largest = max(effects, key=lambda effect: abs(effect.mean))
    return [
        f"{name}: no part is shown to differ from the others, which does not show that they are equal; the largest "
        f"difference in {label} is {_amount(largest)}, of {largest.part} against {_rest(largest)} "
        f"({_room(largest)}{counted(largest.pairs, 'pair')})."
    ]


def _sentence(effect: PartEffect, label: str) -> str:
    verb = "raises" if effect.mean > 0 else "lowers"
    return (
        f"{effect.slot.capitalize()} {effect.part} {verb} {label} by {_amount(effect)} against {_rest(effect)}, with "
        f"all else equal ({_room(effect)}better in {effect.better} of {effect.pairs} pairs; "
        f"{p_text(effect.p_adjusted)} after correction)."
    )


def _amount(effect: PartEffect) -> str:
    return f"{abs(effect.mean):.{_digits(effect)}f}"


def _room(effect: PartEffect) -> str:
    """The interval of the amount, not of the difference; '' where there is none."""
    if effect.low is None or effect.high is None:
        return ""
    low, high = sorted(math.copysign(1.0, effect.mean) * limit for limit in (effect.low, effect.high))
    return f"95 % interval {low:.{_digits(effect)}f} to {high:.{_digits(effect)}f}; "


def _about_variance(shares: Sequence[VarianceShare], label: str) -> list[str]:
    if not shares:
        return [f"Too few finished combinations for an analysis of variance of {label}."]
    main = sorted((share for share in shares if share.term in SLOTS), key=lambda share: -share.share)
    pairs = [share for share in shares if " x " in share.term]
    named = [f"{share.term} {_percent(share.share)}" for share in main]
    if pairs:
        named.append(f"interactions of two parts {_percent(sum(share.share for share in pairs))}")
    rest = "further interactions and chance" if pairs else "interactions and chance"
    overlap = "" if shares_add_up(shares) else f" ({OVERLAP})"
    return [
        f"Shares of the variance in {label} between combinations: {', '.join(named)}; {rest} "
        f"{_percent(shares[-1].share)}{overlap}."
    ]


def shares_add_up(shares: Sequence[VarianceShare]) -> bool:
    """Whether the shares sum to 1, as they do where no combination is missing."""
    return abs(sum(share.share for share in shares) - 1) < 1e-6


def _about_interactions(
    rows: Sequence[Row], score: Score, shares: Sequence[VarianceShare], cells: Sequence[InteractionCell]
) -> list[str]:
    """The pairs of slots that are shown to depend on each other; what was tested and found nothing; what was not
    tested, and why."""
    label = score.label
    tested = [share for share in shares if share.p_adjusted is not None]
    shown = [share for share in tested if share.p_adjusted is not None and share.p_adjusted < SIGNIFICANT]
    sentences = []
    for share in shown:
        of_slots = [cell for cell in cells if " x ".join(cell.slots) == share.term]
        best = min(of_slots, key=lambda cell: score.loss(cell.excess))
        sentences.append(
            f"{best.slots[0].capitalize()} and {best.slots[1]} depend on each other ({_percent(share.share)} "
            f"of the variance, {p_text(share.p_adjusted)} after correction): {best.parts[0]} with {best.parts[1]} "
            f"has a {label} {abs(best.excess):.3f} {'higher' if best.excess > 0 else 'lower'} than the two add up to "
            f"({counted(best.combinations, 'combination')})."
        )
    if tested and not shown:
        names = [share.term for share in tested]
        largest = next(cell for cell in cells if " x ".join(cell.slots) in names)
        sentences.append(
            f"Of {counted(len(tested), 'pair')} of slots tested ({', '.join(names)}), none is shown to depend on each "
            f"other, which does not show that none does: the largest deviation from a sum of parts is "
            f"{largest.excess:+.3f} in {label}, of {' with '.join(largest.parts)} "
            f"({counted(largest.combinations, 'combination')})."
        )
    return [*sentences, *_about_untested(_table(rows, score), tested, label)]


def _about_untested(table: pd.DataFrame, tested: Sequence[VarianceShare], label: str) -> list[str]:
    """Pairs of slots whose dependence was not tested, with the pairs of parts that are missing."""
    done = {share.term for share in tested}
    left = [pair for pair in itertools.combinations(_factors(table), 2) if " x ".join(pair) not in done]
    sentences = []
    for pair in left:
        if empty := _empty_cells(table, pair):
            named = [" with ".join(parts) for parts in empty[:MOST_NAMED]]
            named += [f"{len(empty) - len(named)} more"] if len(empty) > len(named) else []
            sentences.append(
                f"Whether {pair[0]} and {pair[1]} depend on each other was not tested: nothing with a {label} has "
                f"{', '.join(named)}."
            )
    if others := [" x ".join(pair) for pair in left if not _empty_cells(table, pair)]:
        sentences.append(f"Not tested, as too few combinations are done: {', '.join(others)}.")
    return sentences


def p_text(p: float | None) -> str:
    """p = 0.012, p < 0.001."""
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _effects(rows: Sequence[Row], score: Score) -> list[PartEffect]:
    return [effect for slot in SLOTS for effect in _slot_effects(rows, slot, score)]


def _shares(rows: Sequence[Row], score: Score) -> list[VarianceShare]:
    table = _table(rows, score)
    factors = _factors(table)
    interactions = [pair for pair in itertools.combinations(factors, 2) if not _empty_cells(table, pair)]
    for pairs in (interactions, []) if factors else ():
        model = _model(table, factors, pairs)
        if np.linalg.matrix_rank(model.exog) == model.exog.shape[1] < len(table):
            return _anova(model, [*factors, *map(" x ".join, pairs)])
    return []


def _corrected(
    effects: Sequence[PartEffect], shares: Sequence[VarianceShare]
) -> tuple[list[PartEffect], list[VarianceShare]]:
    """Both with p_adjusted: Holm's correction over all parts and all interactions that have a p."""
    # main effects of the analysis of variance ask nothing of their own, but what the parts do
    of_shares = [share.p if " x " in share.term else None for share in shares]
    adjusted = holm([*(effect.p for effect in effects), *of_shares])
    return (
        [replace(effect, p_adjusted=p) for effect, p in zip(effects, adjusted, strict=False)],
        [replace(share, p_adjusted=p) for share, p in zip(shares, adjusted[len(effects) :], strict=True)],
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values after Holm's correction over all that there are; None and NaN stay None."""
    from statsmodels.stats.multitest import multipletests

    tested = [index for index, p in enumerate(ps) if p is not None and not math.isnan(p)]
    adjusted: list[float | None] = [None] * len(ps)
    if tested:
        for index, p in zip(tested, multipletests([ps[index] for index in tested], method="holm")[1], strict=True):
            adjusted[index] = float(p)
    return adjusted


def _slot_effects(rows: Sequence[Row], slot: str, score: Score) -> list[PartEffect]:
    units = _units(rows, slot, score)
    parts = sorted(units)
    comparisons: list[tuple[str, str, list[str]]] = [(a, b, [b]) for a, b in itertools.combinations(parts, 2)]
    if len(parts) > 2:
        comparisons += [(part, OTHERS, [other for other in parts if other != part]) for part in parts]
    tested = [(part, other, _differences(units, part, others)) for part, other, others in comparisons]
    return [
        PartEffect(slot=slot, part=part, other=other, score=score, p_adjusted=None, **paired_test(differences, score))
        for part, other, differences in tested
        if len(differences)
    ]


def paired_test(differences: np.ndarray, score: Score) -> dict[str, Any]:
    """What paired differences of a score say, one or more: mean, low, high, p, pairs and better of `PartEffect`."""
    from scipy.stats import wilcoxon

    low, high = interval(differences) or (None, None)
    p = None
    if len(differences) >= MIN_PAIRS:
        p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    better = int((score.loss(differences) < 0).sum())
    about = {"mean": float(differences.mean()), "low": low, "high": high, "p": p}
    return {**about, "pairs": len(differences), "better": better}


def _units(rows: Sequence[Row], slot: str, score: Score) -> Units:
    units: Units = defaultdict(dict)
    for parts, scores in _by_combination(rows, score).items():
        place = SLOTS.index(slot)
        units[parts[place]][parts[:place] + parts[place + 1 :]] = scores
    return units


def _by_combination(rows: Sequence[Row], score: Score) -> dict[Parts, Scores]:
    """The scores of every combination of parts; by variant, test fold and sweep, and by seed and fold."""
    groups: dict[Parts, dict[Setting, dict[Any, list[float]]]] = {}
    done = _scored(rows, score)
    for row, origin in zip(done, origins(done), strict=True):
        of_setting = groups.setdefault(tuple(row[slot] for slot in SLOTS), {})
        seeds = of_setting.setdefault((row["variant"], row.get("test_fold"), origin), {})
        seeds.setdefault((row["seed"], row.get("fold")), []).append(row[score.name])
    return {
        parts: {
            setting: {seed: statistics.fmean(values) for seed, values in seeds.items()}
            for setting, seeds in settings.items()
        }
        for parts, settings in groups.items()
    }


def _paired(combinations: Sequence[Scores]) -> list[list[float]]:
    """A line for every setting that all of some combinations have: their scores, averaged over the seeds that all of
    them have there, or over each one's own where they share none."""
    lines = []
    for setting in combinations[0]:
        if all(setting in scores for scores in combinations):
            seeds = [scores[setting] for scores in combinations]
            shared = set(seeds[0]).intersection(*seeds[1:])
            lines.append([statistics.fmean(own[seed] for seed in shared or own) for own in seeds])
    return lines


def _scored(rows: Iterable[Row], score: Score) -> list[Row]:
    return [row for row in rows if row["state"] == "done" and row.get(score.name) is not None]


def _table(rows: Sequence[Row], score: Score) -> pd.DataFrame:
    """One row a combination: its parts, and its score averaged over seeds, and then over variants and sweeps.

    What a variant or sweep adds to all that it holds is taken off first (least squares on combinations and settings),
    so that a longer sweep of a few combinations does not raise just these.
    """
    import pandas as pd

    cells = pd.DataFrame(
        [
            (*parts, str(setting), statistics.fmean(seeds.values()))
            for parts, settings in _by_combination(rows, score).items()
            for setting, seeds in settings.items()
        ],
        columns=[*SLOTS, "setting", "score"],
    )
    if cells["setting"].nunique() > 1:
        both = pd.get_dummies(cells["setting"], dtype=float).assign(score=cells["score"])
        within = (both - both.groupby([cells[slot] for slot in SLOTS]).transform("mean")).to_numpy()
        of_setting = np.linalg.lstsq(within[:, :-1], within[:, -1], rcond=None)[0]
        cells["score"] -= both.to_numpy()[:, :-1] @ of_setting
    return cells.groupby(list(SLOTS), sort=False)["score"].mean().reset_index()


def _model(table: pd.DataFrame, factors: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Any:
    """The linear model (statsmodels) of the score by some factors and interactions of two."""
    from statsmodels.formula.api import ols

    return ols("score ~ " + " + ".join([*map("C({})".format, factors), *(f"C({a}):C({b})" for a, b in pairs)]), table)


def _factors(table: pd.DataFrame) -> list[str]:
    """The slots with more than one part."""
    return [slot for slot in SLOTS if table[slot].nunique() > 1]


def _empty_cells(table: pd.DataFrame, pair: tuple[str, str]) -> list[tuple[str, ...]]:
    """The pairs of parts of two slots that no combination has."""
    there = set(zip(table[pair[0]], table[pair[1]], strict=True))
    return [cell for cell in itertools.product(*(sorted(set(table[slot])) for slot in pair)) if cell not in there]


def _anova(model: Any, terms: Sequence[str]) -> list[VarianceShare]:
    from statsmodels.stats.anova import anova_lm

    total = float(np.square(model.endog - model.endog.mean()).sum())
    if total == 0:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a residual of exactly 0 gives p = 0
        fitted = anova_lm(model.fit(), typ=2)
    return [
        VarianceShare(term, float(square) / total, int(df), None if term == "residual" else float(p))
        for term, square, df, p in zip(
            [*terms, "residual"], fitted["sum_sq"], fitted["df"], fitted["PR(>F)"], strict=True
        )
    ]


def _merit(effect: PartEffect) -> float:
    return -effect.score.loss(effect.mean)


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
