"""What is planted is found, what is not planted is not, and the numbers are those of scipy and statsmodels."""

import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated_runs import CHOICES, EFFECTS
from scipy.stats import wilcoxon
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from prixfixe.analysis.effects import (
    ABOUT_KL,
    OTHERS,
    OVERLAP,
    analyse,
    contexts,
    interactions,
    interval,
    part_effects,
    shares_add_up,
    variance_shares,
)
from prixfixe.analysis.results import Row
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import KL, PEARSON

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks" / "statistics"))

from grids import false_sentences, interval_holds_the_mean, null_grid


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
    effects = {(e.part, e.other): e for e in part_effects(grid(one_effect), PEARSON)}
    assert len(effects) == 4 * (3 + 3)
    found = effects["autosome", OTHERS]
    assert found.low is not None and found.high is not None and found.p_adjusted is not None
    assert found.low < 0.03 < found.high
    assert found.high - found.low < 0.01
    assert (found.pairs, found.better) == (27, 27)
    assert found.p_adjusted < 0.001
    clear = {e.part for e in effects.values() if e.p_adjusted is not None and e.p_adjusted < 0.05}
    assert clear == {"autosome", "bhi", "unlockdna"}, "parts of the recipe only"
    sentences = analyse(grid(one_effect), PEARSON).findings
    assert any(s.startswith("Recipe autosome raises Pearson r by 0.0") and "27 of 27 pairs" in s for s in sentences)
    assert sum("no part is shown to differ" in s for s in sentences) == 3
    assert not any("no part differs" in s for s in sentences), "absence of evidence is not said to be evidence"


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_found_where_nothing_is_planted(seed: int) -> None:
    rows = grid(flat, seed=seed)
    found = [e for e in part_effects(rows, PEARSON) if e.p_adjusted is not None and e.p_adjusted < 0.05]
    assert not found
    shares = {share.term: share.share for share in variance_shares(rows, PEARSON)}
    assert shares["residual"] > 0.35
    assert max(shares[slot] for slot in SLOTS) < 0.15


@pytest.mark.parametrize(("kind", "n", "least"), [("normal", 9, 0.93), ("normal", 27, 0.93), ("skewed", 27, 0.925)])
def test_intervals_cover_what_they_say(kind: str, n: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prixfixe.analysis.effects.RESAMPLES", 499)  # the same on average, in a fraction of the time
    generator = np.random.default_rng(5)
    covered = np.mean([interval_holds_the_mean(generator, n, kind) for _ in range(1500)])
    assert least < covered < 0.98, "an interval of 90 % would cover 0.90, one of 99 % 0.99"


def test_an_interval_of_many_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(6).normal(0.03, 0.01, 2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_an_interval_is_as_skewed_as_its_values_and_no_single_one_sends_it_anywhere() -> None:
    generator = np.random.default_rng(0)
    values = generator.exponential(size=27)
    limits = interval(values)
    assert limits is not None
    assert limits[1] - values.mean() > 1.2 * (values.mean() - limits[0])
    for far in (10.0, 1e6):  # one context far from all others, which a sample may lack altogether
        values = np.append(generator.normal(0, 0.001, 26), far)
        limits = interval(values)
        student = 2.056 * values.std(ddof=1) / np.sqrt(27)
        assert limits is not None and limits[1] == pytest.approx(values.mean() + 2 * student, rel=0.01)


def test_no_interval_of_a_few_contexts() -> None:
    assert interval(np.arange(8.0)) is None
    assert interval(np.arange(9.0)) is not None
    assert interval(np.repeat([0.0, 1.0], [8, 1])) is not None, "half of the samples hold one value only"
    few = grid(one_effect, choices={**CHOICES, "recipe": ("autosome", "bhi"), "first": ("conv",), "core": ("bilstm",)})
    twice = [{**row, "first": first, "pearson_r": row["pearson_r"] + 0.1} for row in few for first in ("conv", "kmer")]
    effect = next(e for e in part_effects(twice, PEARSON) if e.slot == "recipe")
    assert (effect.pairs, effect.low, effect.high) == (6, None, None)
    assert effect.p == pytest.approx(1 / 32)
    alone = [row for row in twice if row["final"] in CHOICES["final"]]
    assert not any("interval" in s for s in analyse(alone, PEARSON).findings if s.startswith("Recipe"))


def test_a_planted_interaction_is_found() -> None:
    rows = grid(one_interaction)
    first = interactions(rows, PEARSON)[0]
    assert (first.slots, first.parts, first.combinations) == (("core", "final"), ("proformer", "expression_heads"), 9)
    assert first.excess == pytest.approx(
        0.04 * 4 / 9, abs=0.003
    )  # a third of it goes to each part, a ninth to the mean
    shares = {share.term: share for share in variance_shares(rows, PEARSON)}
    assert shares["core x final"].p is not None and shares["core x final"].p < 1e-6
    assert all(
        share.p > 0.01
        for term, share in shares.items()
        if " x " in term and term != "core x final" and share.p is not None
    )
    sentences = analyse(rows, PEARSON).findings
    assert any(
        s.startswith("Core and final depend on each other") and "proformer with expression_heads" in s
        for s in sentences
    )
    nothing = next(s for s in analyse(grid(one_effect), PEARSON).findings if "slots tested" in s)
    assert nothing.startswith("Of 6 pairs of slots tested (recipe x first, ")
    assert "none is shown to depend on each other, which does not show that none does" in nothing
    assert "the largest deviation from a sum of parts is " in nothing


def test_the_numbers_are_those_of_scipy_and_statsmodels() -> None:
    def planted(parts: Mapping[str, str]) -> float:
        return one_interaction(parts) + sum(EFFECTS.get(part, 0.0) for part in parts.values())

    rows = grid(planted, noise=0.01)
    frame = pd.DataFrame(rows)
    effects = part_effects(rows, PEARSON)
    ps = []
    for effect in effects:
        wide = frame.pivot_table(index=[s for s in SLOTS if s != effect.slot], columns=effect.slot, values="pearson_r")
        others = [p for p in CHOICES[effect.slot] if p != effect.part] if effect.other == OTHERS else [effect.other]
        differences = wide[effect.part] - wide[others].mean(axis=1)
        assert effect.mean == pytest.approx(differences.mean())
        assert effect.p == pytest.approx(wilcoxon(differences).pvalue)
        ps.append(wilcoxon(differences).pvalue)
    np.testing.assert_allclose([e.p_adjusted for e in effects], multipletests(ps, method="holm")[1])
    everything = analyse(rows, PEARSON)
    interactions_too = [*ps, *(share.p for share in everything.shares if " x " in share.term)]
    np.testing.assert_allclose(
        [one.p_adjusted for one in (*everything.effects, *everything.shares) if one.p_adjusted is not None],
        multipletests(interactions_too, method="holm")[1],
    )

    formula = " + ".join(
        [*(f"C({s})" for s in SLOTS), *(f"C({a}):C({b})" for a, b in itertools.combinations(SLOTS, 2))]
    )
    fitted = anova_lm(ols(f"pearson_r ~ {formula}", frame).fit(), typ=2)
    shares = variance_shares(rows, PEARSON)
    np.testing.assert_allclose([share.share for share in shares], fitted["sum_sq"] / fitted["sum_sq"].sum(), rtol=1e-6)
    np.testing.assert_allclose([share.p for share in shares[:-1]], fitted["PR(>F)"][:-1], rtol=1e-6)
    assert [share.df for share in shares] == fitted["df"].astype(int).tolist()
    assert sum(share.share for share in shares) == pytest.approx(1.0)

    cell = next(c for c in interactions(rows, PEARSON) if c.parts == ("autosome", "bilstm"))
    means = frame.groupby("recipe")["pearson_r"].mean(), frame.groupby("core")["pearson_r"].mean()
    both = frame[(frame["recipe"] == "autosome") & (frame["core"] == "bilstm")]["pearson_r"].mean()
    assert cell.excess == pytest.approx(both - means[0]["autosome"] - means[1]["bilstm"] + frame["pearson_r"].mean())


def test_less_is_better_where_it_is() -> None:
    rows = grid(lambda parts: 2.0 - one_effect(parts), score="kl")
    found = next(e for e in part_effects(rows, KL) if (e.part, e.other) == ("autosome", OTHERS))
    assert found.mean < 0
    assert found.better == 27
    assert any(s.startswith("Recipe autosome lowers KL by 0.0") for s in analyse(rows, KL).findings)


def test_seeds_are_paired_and_are_no_further_witnesses() -> None:
    rows = grid(one_effect, seeds=3)
    effect = next(e for e in part_effects(rows, PEARSON) if (e.part, e.other) == ("autosome", "bhi"))
    assert effect.pairs == 27
    means = pd.DataFrame(rows).groupby("recipe")["pearson_r"].mean()
    assert effect.mean == pytest.approx(means["autosome"] - means["bhi"])
    # an offset of a seed that only one of the two has must not count
    alone = [{**row, "seed": 9, "pearson_r": 0.0} for row in rows if row["recipe"] == "bhi" and row["seed"] == 0]
    again = next(e for e in part_effects([*rows, *alone], PEARSON) if (e.part, e.other) == ("autosome", "bhi"))
    assert again.mean == pytest.approx(effect.mean)


def test_missing_combinations_leave_the_comparison_paired() -> None:
    rows = grid(one_effect, noise=0.0)
    hard = {
        ("autosome", "kmer", "bilstm", "mlp"),
        ("bhi", "conv", "bilstm", "mlp"),
        ("bhi", "conv", "proformer", "mlp"),
    }
    rows = [row for row in rows if tuple(row[slot] for slot in SLOTS) not in hard]
    effect = next(e for e in part_effects(rows, PEARSON) if (e.part, e.other) == ("autosome", "bhi"))
    assert (effect.pairs, effect.mean) == (24, pytest.approx(0.03))
    assert len(contexts(rows, "recipe", PEARSON)[1]) == 24
    assert {share.term for share in variance_shares(rows, PEARSON)} >= {"recipe x core", "residual"}


def test_an_interaction_with_an_empty_cell_is_left_out_and_named() -> None:
    rows = [row for row in grid(one_interaction) if (row["core"], row["final"]) != ("bilstm", "mlp")]
    terms = {share.term for share in variance_shares(rows, PEARSON)}
    assert "core x final" not in terms
    assert "recipe x core" in terms
    findings = " ".join(analyse(rows, PEARSON).findings)
    assert (
        "Whether core and final depend on each other was not tested: nothing with a Pearson r has bilstm with mlp."
        in findings
    )
    assert "Of 5 pairs of slots tested" in findings
    assert "parts add up" not in findings and "No two slots" not in findings


def test_shares_that_do_not_add_up_are_said_to() -> None:
    rows = grid(lambda parts: one_interaction(parts) + one_effect(parts), noise=0.002)
    complete = analyse(rows, PEARSON)
    assert shares_add_up(complete.shares)
    assert OVERLAP not in " ".join(complete.findings)
    holes = [row for i, row in enumerate(rows) if i % 5 and (row["recipe"], row["core"]) != ("autosome", "bilstm")]
    found = analyse(holes, PEARSON)
    assert not shares_add_up(found.shares)
    assert any(s.startswith("Shares of the variance") and s.endswith(f"({OVERLAP}).") for s in found.findings)


def test_pairs_that_are_too_few_to_be_tested_are_named() -> None:
    rows = grid(one_effect, choices={**CHOICES, "first": ("conv",)})
    latin = [row for i, row in enumerate(rows) if (i + i // 3 + i // 9) % 3]  # 18 of 27, no pair of parts missing
    assert all(" x " not in share.term for share in variance_shares(latin, PEARSON))
    findings = analyse(latin, PEARSON).findings
    assert "Not tested, as too few combinations are done: recipe x core, recipe x final, core x final." in findings
    assert not any("slots tested" in s for s in findings)


def test_parts_that_only_occur_together_are_not_told_apart() -> None:
    tied = {("autosome", "bilstm"), ("bhi", "proformer"), ("unlockdna", "efficientnet")}
    rows = [row for row in grid(one_effect) if (row["recipe"], row["core"]) in tied]
    assert variance_shares(rows, PEARSON) == []
    assert any(s.startswith("Too few finished combinations") for s in analyse(rows, PEARSON).findings)


SEVERAL = [{"sweeps": 3}, {"seeds": 3}, {"variants": 3}]


@pytest.mark.parametrize("several", SEVERAL, ids=str)
def test_runs_of_the_same_parts_are_no_further_witnesses(several: dict[str, int]) -> None:
    """Sweeps, seeds and variants of a grid leave the number of pairs, of combinations and of degrees of freedom."""
    rows = null_grid(np.random.default_rng(0), **several)
    assert len(rows) == 243
    assert {effect.pairs for effect in part_effects(rows, PEARSON)} == {27}
    assert [share.df for share in variance_shares(rows, PEARSON)] == [*[2] * 4, *[4] * 6, 48]
    assert {cell.combinations for cell in interactions(rows, PEARSON)} == {9}
    assert contexts(rows, "core", PEARSON)[1].shape == (27, 3)
    means = pd.DataFrame(rows).groupby([*SLOTS])["pearson_r"].mean().reset_index()
    once = [{**row, "variant": None, "seed": 0, "state": "done", "run": "runs/x/y"} for row in means.to_dict("records")]
    for found, expected in zip(part_effects(rows, PEARSON), part_effects(once, PEARSON), strict=True):
        assert found.mean == pytest.approx(expected.mean) and found.p == expected.p


@pytest.mark.parametrize("several", [{}, *SEVERAL], ids=str)
def test_a_grid_without_any_effect_seldom_says_that_it_has_one(
    several: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole measurement is benchmarks/statistics. Runs of a combination as witnesses of their own: half of them."""
    monkeypatch.setattr("prixfixe.analysis.effects.RESAMPLES", 9)  # no sentence depends on an interval
    generator = np.random.default_rng(3)
    assert sum(false_sentences(null_grid(generator, **several))["any"] for _ in range(8)) <= 3


def test_a_sweep_of_a_few_combinations_does_not_raise_these() -> None:
    """A second sweep, of one recipe alone and trained longer, is no reason to think better of that recipe."""
    rows = [{**row, "run": row["run"].replace("runs/x", "runs/short")} for row in grid(flat, noise=0.001)]
    longer = [
        {**row, "run": row["run"].replace("runs/short", "runs/long"), "pearson_r": row["pearson_r"] + 0.2}
        for row in rows
        if row["recipe"] == "autosome"
    ]
    effect = next(e for e in part_effects([*rows, *longer], PEARSON) if (e.part, e.other) == ("autosome", OTHERS))
    assert abs(effect.mean) < 0.001
    shares = {share.term: share.share for share in variance_shares([*rows, *longer], PEARSON)}
    assert shares["recipe"] < 0.1
    assert abs(interactions([*rows, *longer], PEARSON)[0].excess) < 0.002


def test_sweeps_that_complete_each_other_are_one_grid() -> None:
    rows = [
        {**row, "run": row["run"].replace("runs/x", f"runs/{row['recipe']}")} for row in grid(one_effect, noise=0.001)
    ]
    effect = next(e for e in part_effects(rows, PEARSON) if (e.part, e.other) == ("autosome", "bhi"))
    assert (effect.pairs, effect.mean) == (27, pytest.approx(0.03, abs=0.001))


def test_what_the_sentences_rest_on_is_said() -> None:
    generator = np.random.default_rng(0)
    one = " ".join(analyse(null_grid(generator), PEARSON).findings)
    assert "rests on 81 runs of 81 combinations, with one seed: how far training again would change" in one
    several = " ".join(analyse(null_grid(generator, seeds=3, sweeps=2), PEARSON).findings)
    assert "rests on 486 runs of 81 combinations (3 seeds, 2 sweeps), averaged before anything is tested" in several
    assert "6 runs a combination." in several and "one seed" not in several


def test_kl_of_final_layers_is_said_to_compare_what_they_predict() -> None:
    rows = grid(flat, score="kl")
    assert ABOUT_KL in analyse(rows, KL).findings
    assert ABOUT_KL not in analyse([{**row, "pearson_r": row["kl"]} for row in rows], PEARSON).findings
    # as in runs of version 0.1, where a number has no KL
    blank = [{**row, "kl": row["kl"] if row["final"] == "soft_bins" else None} for row in rows]
    findings = analyse(blank, KL).findings
    assert "No run of final expression_heads, mlp has a KL: nothing is said about it." in findings
    assert ABOUT_KL not in findings
    assert not any(effect.slot == "final" for effect in part_effects(blank, KL))


def test_what_the_data_do_not_allow_is_not_said() -> None:
    few = grid(one_effect, choices={**CHOICES, "first": ("conv",), "core": ("bilstm",), "final": ("mlp",)})
    effects = part_effects(few, PEARSON)
    assert {e.pairs for e in effects} == {1}
    assert all(e.low is e.high is e.p is e.p_adjusted is None for e in effects)
    assert variance_shares(few, PEARSON) == []
    assert interactions(few, PEARSON) == []
    sentences = analyse(few, PEARSON).findings
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
    assert max(e.pairs for e in part_effects(spoilt, PEARSON)) == 27
    assert abs(part_effects(spoilt, PEARSON)[0].mean) < 0.1
    assert analyse(spoilt, PEARSON).findings[1].startswith("2 of 81 combinations are not done, or without")


def test_equal_scores_are_no_effect_and_no_crash() -> None:
    rows = grid(flat, noise=0.0)
    assert all((e.mean, e.low, e.high, e.p) == (0.0, 0.0, 0.0, 1.0) for e in part_effects(rows, PEARSON))
    assert variance_shares(rows, PEARSON) == []
    assert analyse(rows, PEARSON).findings
