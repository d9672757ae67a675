"""What docs/statistics.md quotes is what was measured, and a quick version of each measurement. Those of `--effects`,
`--against` and test sets stand in test_effects, test_against and test_evaluation."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks" / "statistics"))

from measured import as_markdown  # noqa: E402
from testsets import ranks_of_equals, table_intervals_hold_the_truth  # noqa: E402

SECTIONS = {"effects", "intervals", "against", "evaluate", "tables", "ranks", "ceilings"}
MEASURED = json.loads((ROOT / "benchmarks" / "statistics.json").read_text())


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_the_page_quotes_what_was_measured(section: str) -> None:
    assert as_markdown(MEASURED[section]) in (ROOT / "docs" / "statistics.md").read_text()
    assert not MEASURED[section]["quick"]
    assert {"machine", "versions"} <= MEASURED[section].keys()


def test_what_was_measured_keeps_the_promises() -> None:
    effects = {name: numbers["any"] for name, numbers in MEASURED["effects"]["found"].items()}
    assert effects.keys() >= {"1 sweep", "3 sweeps"}
    assert max(effects.values()) < 0.075, "5 %, and two standard errors"
    for kind, numbers in MEASURED["intervals"]["found"].items():
        assert all(share > 0.935 for name, share in numbers.items() if name.endswith("contexts")), kind
    for name, numbers in MEASURED["against"]["found"].items():
        assert numbers["better or worse"] < (1e-9 if name.startswith("1 seed,") else 0.08), name
    for name, numbers in MEASURED["ceilings"]["found"].items():
        assert numbers["ceiling"] > (0.9 if "normal" in name else 0.7), name
    for name in ("pearson_score", "spearman_score"):
        assert 0.92 < MEASURED["evaluate"]["found"][name]["width"] < 1.15


def test_intervals_of_a_plain_table_cover_the_truth() -> None:
    truth = {"r": np.sqrt(0.5), "rho": 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)}
    cases = [table_intervals_hold_the_truth(np.random.default_rng(i), 100, "normal", truth) for i in range(120)]
    for score in ("r", "rho"):
        assert 0.86 < np.mean([case[score] for case in cases]) < 1


def test_equal_models_are_seldom_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prixfixe.analysis.ranks.RANKED_AT_MOST", 0)
    cases = [ranks_of_equals(np.random.default_rng(i), n=1000) for i in range(6)]
    assert np.mean([case["pairs told apart"] for case in cases]) < 0.1
    assert np.mean([case["ranks within"] for case in cases]) > 0.85
    assert np.mean([case["critical difference, any told apart"] for case in cases]) < 0.7
