"""How often `--effects` says something where there is nothing, and how often its intervals hold the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from prixfixe.analysis.effects import SIGNIFICANT, analyse, interval, shares_add_up
from prixfixe.analysis.ranks import part_cd
from prixfixe.analysis.results import Row
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import PEARSON

Draw = Callable[[np.random.Generator, int], np.ndarray]

# of mean 0 and, but for `heavy tails`, of standard deviation 1
DISTRIBUTIONS: Mapping[str, Draw] = {
    "normal": lambda generator, n: generator.normal(size=n),
    "skewed": lambda generator, n: 1 - generator.exponential(size=n),
    "heavy tails": lambda generator, n: generator.standard_t(3, size=n),
}
OF_COMBINATION, OF_RUN = 0.02, 0.005  # standard deviations in r: what a combination has of its own; training again


def null_grid(
    generator: np.random.Generator, *, sweeps: int = 1, seeds: int = 1, variants: int = 1, kind: str = "normal"
) -> list[Row]:
    """A grid of 81 in which no part does anything: a combination has a score of its own, which is the same in all of
    its runs, and each run's chance is added."""
    rows: list[Row] = []
    own = OF_COMBINATION * DISTRIBUTIONS[kind](generator, 81)
    for value, choices in zip(own, itertools.product("abc", repeat=4), strict=True):
        parts = {slot: f"{slot}_{letter}" for slot, letter in zip(SLOTS, choices, strict=True)}
        for sweep, seed, variant in itertools.product(range(sweeps), range(seeds), range(variants)):
            score = 0.6 + value + generator.normal(0, OF_RUN)
            run = {"run": f"runs/sweep{sweep}/{'+'.join(parts.values())}+{variant}+{seed}", "state": "done"}
            rows.append(
                {**parts, **run, "seed": seed, "variant": f"v{variant}" if variant else None, "pearson_r": score}
            )
    return rows


def false_sentences(rows: list[Row]) -> dict[str, bool]:
    """Whether anything is called an effect or an interaction in a grid that has none, and whether it is a sentence."""
    found = analyse(rows, PEARSON)
    effect = any(one.p_adjusted is not None and one.p_adjusted < SIGNIFICANT for one in found.effects)
    interaction = any(one.p_adjusted is not None and one.p_adjusted < SIGNIFICANT for one in found.shares)
    said = any(word in line for line in found.findings for word in (" raises ", " lowers ", "depend on each other ("))
    assert said == (effect or interaction) and shares_add_up(found.shares)
    return {"any": said, "of parts": effect, "of pairs of slots": interaction}


def false_differences(rows: list[Row]) -> bool:
    """Whether Friedman's test finds that the parts of a given slot differ."""
    found = part_cd(rows, SLOTS[0], PEARSON)
    return found is not None and found.p is not None and found.p < SIGNIFICANT


def interval_holds_the_mean(generator: np.random.Generator, n: int, kind: str) -> bool:
    limits = interval(DISTRIBUTIONS[kind](generator, n))
    assert limits is not None
    return limits[0] <= 0 <= limits[1]
