"""What a site does to the predicted profile (marginal footprints, Pampari et al. 2023): whether predictions that are
said to be free of the enzyme's bias are. A high correlation of counts does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from prixfixe.inference.predictor import Predictor

BACKGROUNDS = 100  # random sequences
REACH = 100  # positions to either side of a site in which its footprint is sought
SAMPLES = 1000  # of the bootstrap
ORDERS = 5


def footprints(model: Predictor, sites: Mapping[str, str], *, seed: int = 0) -> pd.DataFrame:
    """How far a site in the middle of random sequences changes the mean predicted profile.

    sites: letters, by name; see `strongest_site`. Columns: site, output (profile; profile_without_bias where there is
    one), footprint, low, high, shuffled. footprint: the largest change of a position's probability, in shares of a flat
    profile, with its 95 % interval over BACKGROUNDS random sequences. shuffled: the same of the site's letters in other
    orders, the mean over ORDERS of them, which is what chance gives. InputError where the model predicts no profile.
    """
    import pandas as pd

    random = np.random.default_rng(seed)
    letters = random.choice(list("ACGT"), (BACKGROUNDS, _length(model)))
    before, rows = _profiles(model, letters), []
    for name, site in sites.items():
        orders = ["".join(random.permutation(list(site))) for _ in range(ORDERS)]
        after, *others = (_profiles(model, _with_site(letters, one)) for one in (site, *orders))
        for output, profile in before.items():
            change, *chance = ((one[output] - profile)[:, _middle(profile)] for one in (after, *others))
            at = int(np.abs(change.mean(axis=0)).argmax())
            drawn = change[random.integers(0, BACKGROUNDS, (SAMPLES, BACKGROUNDS)), at].mean(axis=1)
            sign = np.sign(change[:, at].mean())
            low, high = np.sort(np.percentile(drawn, (2.5, 97.5)) * sign)
            largest = [np.abs(one.mean(axis=0)).max() for one in (change, *chance)]
            values = np.array([largest[0], low, high, np.mean(largest[1:])]) * profile.shape[1]
            rows.append((name, output, *values.tolist()))
    return pd.DataFrame(rows, columns=["site", "output", "footprint", "low", "high", "shuffled"])


def strongest_site(model: Predictor, *, width: int = 11, seed: int = 0) -> str:
    """The letters around the positions where a run's bias model adds most to the profile: the most frequent letter at
    each, of one position in a hundred. InputError where no run has a bias model."""
    letters = np.random.default_rng(seed).choice(list("ACGT"), (BACKGROUNDS, _length(model)))
    found = _profiles(model, letters)
    if len(found) < 2:
        raise InputError(f"{model.name} has no bias model: name the sites")
    added = np.log(found["profile"]) - np.log(found["profile_without_bias"])
    first = (letters.shape[1] - added.shape[1]) // 2
    rows, places = np.nonzero(added >= np.quantile(added, 0.99))
    around = places[:, None] + first + np.arange(width) - width // 2
    inside = (around >= 0).all(axis=1) & (around < letters.shape[1]).all(axis=1)
    seen = letters[rows[inside, None], around[inside]]  # (positions, width)
    return "".join(max("ACGT", key=lambda letter: int((column == letter).sum())) for column in seen.T)


def _profiles(model: Predictor, letters: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities of positions by output, (n, positions), float64."""
    rows = model.rows_of(["".join(row) for row in letters])
    outputs: dict[str, Any] = model.combined(next(iter(model.output_chunks([rows]))))
    found: dict[str, np.ndarray] = {}
    for name in ("profile", "profile_without_bias"):
        if name in outputs:
            found[name] = np.exp(outputs[name])
    if not found:
        raise InputError(f"{model.name} predicts no profile, in which a site could leave a footprint")
    return found


def _with_site(letters: np.ndarray, site: str) -> np.ndarray:
    changed = letters.copy()
    start = letters.shape[1] // 2 - len(site) // 2
    changed[:, start : start + len(site)] = list(site.upper())
    return changed


def _middle(profile: np.ndarray) -> slice:
    middle = profile.shape[1] // 2
    return slice(max(middle - REACH, 0), middle + REACH)


def _length(model: Predictor) -> int:
    return min(model.longest, 1 << 16)
