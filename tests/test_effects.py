"""What is planted is found, what is not planted is not, and the numbers are those of scipy and statsmodels."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from fabricated_runs import CHOICES, EFFECTS
from scipy.stats import wilcoxon
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from prixfixe.analysis.effects import OTHERS, analyse, contexts, interactions, interval, part_effects, variance_shares
from prixfixe.analysis.results import Row
from prixfixe.run_folder import SLOTS


def grid(
    planted: Callable[[Mapping[str, str]], float],
    *,
    noise: float = 0.005,
    seeds: int = 1,
    seed: int = 0,
    choices: Mapping[str, tuple[str, ...]] = CHOICES,
    score: str = "pearson_r",
) -> list[Row]:
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for values in itertools.product(*(choices[slot] for slot in SLOTS), range(seeds)):
        parts: dict[str, Any] = dict(zip(SLOTS, values[:-1], strict=True))
        number = float(planted(parts) + generator.normal(0, noise))
        rows.append(
            {**parts, "variant": None, "seed": values[-1], "state": "done", "run": f"runs/x/{values}", score: number}
        )
    return rows


def flat(parts: Mapping[str, str]) -> float:
    return 0.6


def one_effect(parts: Mapping[str, str]) -> float:
    return 0.6 + 0.03 * (parts["recipe"] == "autosome")


def one_interaction(parts: Mapping[str, str]) -> float:
    return 0.6 + 0.04 * (parts["core"] == "proformer" and parts["final"] == "expression_heads")


def test_a_planted_effect_is_found_with_its_size() -> None:
    effects = {(e.part, e.other): e for e in part_effects(grid(one_effect), "pearson_r")}
    assert len(effects) == 4 * (3 + 3)
    found = effects["autosome", OTHERS]
    assert found.low is not None and found.high is not None and found.p_adjusted is not None
    assert found.low < 0.03 < found.high
    assert found.high - found.low < 0.01
    assert (found.pairs, found.better) == (27, 27)
    assert found.p_adjusted < 0.001
    clear = {e.part for e in effects.values() if e.p_adjusted is not None and e.p_adjusted < 0.05}
    assert clear == {"autosome", "bhi", "unlockdna"}, "parts of the recipe only"
    sentences = analyse(grid(one_effect), "pearson_r").findings
    assert any(s.startswith("Recipe autosome raises Pearson r by 0.0") and "27 of 27 pairs" in s for s in sentences)
    assert sum("no part differs" in s for s in sentences) == 3


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_found_where_nothing_is_planted(seed: int) -> None:
    rows = grid(flat, seed=seed)
    found = [e for e in part_effects(rows, "pearson_r") if e.p_adjusted is not None and e.p_adjusted < 0.05]
    assert not found
    shares = {share.term: share.share for share in variance_shares(rows, "pearson_r")}
    assert shares["residual"] > 0.35
    assert max(shares[slot] for slot in SLOTS) < 0.15


def test_intervals_cover_in_about_95_of_100_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).normal(0.03, 0.01, 2000)
    half = 1.96 * values.std() / np.sqrt(2000)  # of many values: the normal distribution's
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)

    bootstrap = scipy.stats.bootstrap
    fewer = {"n_resamples": 499}  # the same on average, in a fraction of the time
    monkeypatch.setattr("scipy.stats.bootstrap", lambda *data, **settings: bootstrap(*data, **{**settings, **fewer}))
    generator = np.random.default_rng(5)
    limits = [interval(generator.normal(0.03, 0.01, 27)) for _ in range(600)]
    covered = np.mean([low <= 0.03 <= high for low, high in filter(None, limits)])
    assert 0.905 < covered < 0.965, (
        "of 27 values, 93 of 100: Student's t has wider tails; an interval of 90 % would cover 88, one of 99 % 98"
    )
    assert interval(np.arange(5.0)) is None


def test_a_planted_interaction_is_found() -> None:
    rows = grid(one_interaction)
    first = interactions(rows, "pearson_r")[0]
    assert (first.slots, first.parts, first.combinations) == (("core", "final"), ("proformer", "expression_heads"), 9)
    assert first.excess == pytest.approx(
        0.04 * 4 / 9, abs=0.003
    )  # a third of it goes to each part, a ninth to the mean
    shares = {share.term: share for share in variance_shares(rows, "pearson_r")}
    assert shares["core x final"].p is not None and shares["core x final"].p < 1e-6
    assert all(
        share.p > 0.01
        for term, share in shares.items()
        if " x " in term and term != "core x final" and share.p is not None
    )
    sentences = analyse(rows, "pearson_r").findings
    assert any(
        s.startswith("Core and final depend on each other") and "proformer with expression_heads" in s
        for s in sentences
    )
    assert any("No two slots depend on each other" in s for s in analyse(grid(one_effect), "pearson_r").findings)


def test_the_numbers_are_those_of_scipy_and_statsmodels() -> None:
    def planted(parts: Mapping[str, str]) -> float:
        return one_interaction(parts) + sum(EFFECTS.get(part, 0.0) for part in parts.values())

    rows = grid(planted, noise=0.01)
    frame = pd.DataFrame(rows)
    effects = part_effects(rows, "pearson_r")
    ps = []
    for effect in effects:
        wide = frame.pivot_table(index=[s for s in SLOTS if s != effect.slot], columns=effect.slot, values="pearson_r")
        others = [p for p in CHOICES[effect.slot] if p != effect.part] if effect.other == OTHERS else [effect.other]
        differences = wide[effect.part] - wide[others].mean(axis=1)
        assert effect.mean == pytest.approx(differences.mean())
        assert effect.p == pytest.approx(wilcoxon(differences).pvalue)
        ps.append(wilcoxon(differences).pvalue)
    np.testing.assert_allclose([e.p_adjusted for e in effects], multipletests(ps, method="holm")[1])

    formula = " + ".join(
        [*(f"C({s})" for s in SLOTS), *(f"C({a}):C({b})" for a, b in itertools.combinations(SLOTS, 2))]
    )
    fitted = anova_lm(ols(f"pearson_r ~ {formula}", frame).fit(), typ=2)
    shares = variance_shares(rows, "pearson_r")
    np.testing.assert_allclose([share.share for share in shares], fitted["sum_sq"] / fitted["sum_sq"].sum(), rtol=1e-6)
    np.testing.assert_allclose([share.p for share in shares[:-1]], fitted["PR(>F)"][:-1], rtol=1e-6)
    assert [share.df for share in shares] == fitted["df"].astype(int).tolist()
    assert sum(share.share for share in shares) == pytest.approx(1.0)

    cell = next(c for c in interactions(rows, "pearson_r") if c.parts == ("autosome", "bilstm"))
    means = frame.groupby("recipe")["pearson_r"].mean(), frame.groupby("core")["pearson_r"].mean()
    both = frame[(frame["recipe"] == "autosome") & (frame["core"] == "bilstm")]["pearson_r"].mean()
    assert cell.excess == pytest.approx(both - means[0]["autosome"] - means[1]["bilstm"] + frame["pearson_r"].mean())


def test_less_is_better_where_it_is() -> None:
    rows = grid(lambda parts: 2.0 - one_effect(parts), score="kl")
    found = next(e for e in part_effects(rows, "kl") if (e.part, e.other) == ("autosome", OTHERS))
    assert found.mean < 0
    assert found.better == 27
    assert any(s.startswith("Recipe autosome lowers KL by 0.0") for s in analyse(rows, "kl").findings)


def test_seeds_are_paired_and_are_no_further_witnesses() -> None:
    rows = grid(one_effect, seeds=3)
    effect = next(e for e in part_effects(rows, "pearson_r") if (e.part, e.other) == ("autosome", "bhi"))
    assert effect.pairs == 27
    means = pd.DataFrame(rows).groupby("recipe")["pearson_r"].mean()
    assert effect.mean == pytest.approx(means["autosome"] - means["bhi"])
    # an offset of a seed that only one of the two has must not count
    alone = [{**row, "seed": 9, "pearson_r": 0.0} for row in rows if row["recipe"] == "bhi" and row["seed"] == 0]
    again = next(e for e in part_effects([*rows, *alone], "pearson_r") if (e.part, e.other) == ("autosome", "bhi"))
    assert again.mean == pytest.approx(effect.mean)


def test_missing_combinations_leave_the_comparison_paired() -> None:
    rows = grid(one_effect, noise=0.0)
    hard = {
        ("autosome", "kmer", "bilstm", "mlp"),
        ("bhi", "conv", "bilstm", "mlp"),
        ("bhi", "conv", "proformer", "mlp"),
    }
    rows = [row for row in rows if tuple(row[slot] for slot in SLOTS) not in hard]
    effect = next(e for e in part_effects(rows, "pearson_r") if (e.part, e.other) == ("autosome", "bhi"))
    assert (effect.pairs, effect.mean) == (24, pytest.approx(0.03))
    assert len(contexts(rows, "recipe", "pearson_r")[1]) == 24
    assert {share.term for share in variance_shares(rows, "pearson_r")} >= {"recipe x core", "residual"}


def test_an_interaction_with_an_empty_cell_is_left_out() -> None:
    rows = [row for row in grid(one_effect) if (row["core"], row["final"]) != ("bilstm", "mlp")]
    terms = {share.term for share in variance_shares(rows, "pearson_r")}
    assert "core x final" not in terms
    assert "recipe x core" in terms


def test_what_the_data_do_not_allow_is_not_said() -> None:
    few = grid(one_effect, choices={**CHOICES, "first": ("conv",), "core": ("bilstm",), "final": ("mlp",)})
    effects = part_effects(few, "pearson_r")
    assert {e.pairs for e in effects} == {1}
    assert all(e.low is e.high is e.p is e.p_adjusted is None for e in effects)
    assert variance_shares(few, "pearson_r") == []
    assert interactions(few, "pearson_r") == []
    sentences = analyse(few, "pearson_r").findings
    assert "Recipe: 1 pair with all else equal, too few to tell parts from chance." in sentences
    assert (
        "Nothing can be said about the parts of first, core, final: no two of one slot have finished with all "
        "else equal." in sentences
    )
    assert any(s.startswith("Too few finished combinations") for s in sentences)
    assert not any(" raises " in s or " lowers " in s for s in sentences)


def test_rows_without_a_score_or_not_done_do_not_count() -> None:
    rows = grid(one_effect)
    spoilt = [{**rows[0], "state": "failed", "pearson_r": 9.0}, {**rows[1], "pearson_r": None}, *rows[2:]]
    assert max(e.pairs for e in part_effects(spoilt, "pearson_r")) == 27
    assert abs(part_effects(spoilt, "pearson_r")[0].mean) < 0.1
    assert analyse(spoilt, "pearson_r").findings[1].startswith("2 of 81 combinations are not done, or without")


def test_equal_scores_are_no_effect_and_no_crash() -> None:
    rows = grid(flat, noise=0.0)
    assert all((e.mean, e.low, e.high, e.p) == (0.0, 0.0, 0.0, 1.0) for e in part_effects(rows, "pearson_r"))
    assert variance_shares(rows, "pearson_r") == []
    assert analyse(rows, "pearson_r").findings
