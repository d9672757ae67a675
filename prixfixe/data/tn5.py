"""Whether insertions were moved as they are said to be: from the Tn5 motif around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from prixfixe.data.measurements import Measurements
from prixfixe.data.prepared import remembered
from prixfixe.data.sequences import NUCLEOTIDES

# A-GNTYWRANC-T around the middle of the 9 nt that a transposition doubles (Goryshin et al. 1998, PNAS 95:10716)
MOTIF = ("A", "G", "ACGT", "T", "CT", "AT", "AG", "A", "ACGT", "C", "T")
HALF = 4  # nt from either end of the 9, where the 5' ends of the two strands stand, to their middle
COMMON = ((4, -4), (4, -5), (5, -4), (5, -5), (0, 0), (4, 4))  # shifts of plus and minus strand that are told apart
REACH = 14  # positions on either side of an insertion
ROWS = 2000  # that are looked at
CLEAR = 0.5  # correlation from which on the motif is said to be there
BETTER = 0.05  # by which another shift must fit better, to be named


def check_shift(train: Measurements, shift: tuple[int, int], content: str) -> list[str]:
    """What to say of the shift that the data are said to have, (4, -4): one remark, or none where the motif agrees.

    1. Of each letter: the logarithm of how much more often it stands at a distance from an insertion than elsewhere.
    2. Moved by (a, b), the 5' ends of both strands lie 4 - a to the left, and 4 + b to the right, of the middle of a
       motif that is its own reverse complement. So a pair of shifts predicts where the motif is seen, once or twice.
    3. The correlation of both is compared with that of the other `COMMON` shifts. Without strands in the bigWig others
       may predict the same: it can contradict what is stated, and does not prove it.
    """

    def look() -> dict[str, Any]:
        enriched = enrichment(train)
        return {f"{a},{b}": correlation(enriched, a, b) for a, b in {*COMMON, shift}}

    fits = remembered({"tn5": 1, "content": content, "shift": list(shift)}, look)
    stated, best = f"{shift[0]},{shift[1]}", max(fits, key=lambda pair: fits[pair])
    if fits[best] < CLEAR:
        return [f"no Tn5 motif around the insertions (r = {fits[best]:.2f}): their shift could not be checked"]
    if fits[stated] >= fits[best] - BETTER:
        return []
    return [
        f"dataset.shift=[{stated}]: the Tn5 motif around the insertions (r = {fits[stated]:.2f}) fits [{best}] better "
        f"(r = {fits[best]:.2f}); a bias model of data that were moved otherwise does not fit these"
    ]


def enrichment(train: Measurements) -> np.ndarray:
    """float64 (2 * REACH + 1, 4): log of a letter's share at each distance from an insertion, against all positions."""
    rows = train[np.unique(np.linspace(0, len(train) - 1, ROWS).astype(np.int64))]
    counts, codes = rows.columns["profile"][:].astype(np.float64), rows.sequences.padded()
    first, width = (codes.shape[1] - counts.shape[1]) // 2, counts.shape[1]
    found = np.empty((2 * REACH + 1, 4))
    for place, distance in enumerate(range(-REACH, REACH + 1)):
        at = np.arange(REACH, width - REACH)  # letters and counts of every distance lie within both
        letters, weights = codes[:, first + at + distance].ravel(), counts[:, at].ravel()
        around, everywhere = (np.bincount(letters, weights=w, minlength=5)[:4] + 1 for w in (weights, None))
        found[place] = np.log(around / around.sum()) - np.log(everywhere / everywhere.sum())
    return found


def correlation(enriched: np.ndarray, a: int, b: int) -> float:
    """Of an `enrichment` with what shifts (a, b) predict."""
    allowed = np.array([[nucleotide in letters for nucleotide in NUCLEOTIDES[:4]] for letters in MOTIF])
    motif = allowed / allowed.sum(axis=1, keepdims=True) - 0.25
    expected = np.zeros_like(enriched)
    for middle in (HALF - a, -HALF - b):
        first = REACH + middle - len(motif) // 2
        if 0 <= first <= len(expected) - len(motif):
            expected[first : first + len(motif)] += motif
    if not expected.any() or not enriched.std():
        return 0.0
    return float(np.corrcoef(expected.ravel(), enriched.ravel())[0, 1])
