"""Simulated bacterial promoters: planted -35 and -10 boxes against background of the same composition.

The truth, in the coordinates of the 81 nt, whose +1 is at index 60:
1. Every letter is drawn with `COMPOSITION`, that of E. coli promoters.
2. A promoter's -10 box ends `DISTANCES` before +1, and its -35 box `SPACERS` before the -10 box. Both lengths are drawn
   anew for every promoter, around those of 263 E. coli promoters (Harley and Reynolds 1987, Nucleic Acids Research
   15:2343): 92 % of spacers are 17 +- 1 nt, and 75 % of starts 7 +- 1 nt behind the -10 box.
3. Each letter of a box is that of TTGACA or TATAAT with the frequency of the same promoters (`MINUS_35`, `MINUS_10`; as
   quoted by Wosten et al. 1998, Journal of Bacteriology 180:594, Table 3), else another one, by composition.
4. Background is other promoters with their letters shuffled. So composition tells nothing, and only the boxes do.
`true_log_odds` is what can be known of a sequence: no model ranks better. Nothing here is a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from scipy.special import logsumexp

from prixfixe.common.errors import InputError
from prixfixe.data.datasets import TEST, Dataset, Split, enough
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import ASCII_TO_CODE, Sequences

VERSION = 1  # goes up when a size and seed give other sequences than before
LENGTH, START = 81, 60  # nt, and the index of +1
COMPOSITION = (0.295, 0.205, 0.205, 0.295)  # A C G T
BOX = 6
MINUS_35 = ("TTGACA", (0.78, 0.82, 0.68, 0.58, 0.51, 0.55))
MINUS_10 = ("TATAAT", (0.82, 0.90, 0.52, 0.59, 0.49, 0.89))
SPACERS = {15: 0.04, 16: 0.23, 17: 0.46, 18: 0.23, 19: 0.04}  # nt between the boxes
DISTANCES = {5: 0.125, 6: 0.25, 7: 0.25, 8: 0.25, 9: 0.125}  # from the last nt of the -10 box to +1


@dataclass(frozen=True)
class SimulatedPromoterSet:
    """n sequences, their labels, and where the boxes begin.

    label: int64 (n,), 1 of a promoter. minus35, minus10: int64 (n,), the index of a box's first letter; -1 of
    background.
    """

    sequences: Sequences
    label: np.ndarray
    minus35: np.ndarray
    minus10: np.ndarray

    def __len__(self) -> int:
        return len(self.sequences)

    def measurements(self) -> Measurements:
        """With the labels as what was measured, and the places of the boxes as columns."""
        columns = {"minus35": self.minus35, "minus10": self.minus10}
        return Measurements(self.sequences, self.label.astype(np.float64), tasks=("label",), columns=columns)


def simulate_promoters(n: int, seed: int) -> SimulatedPromoterSet:
    """n sequences, half of them promoters (one more where n is odd), in a random order. The same n and seed give the
    same sequences."""
    rng = np.random.default_rng(seed)
    codes, minus35, minus10 = _promoters(n, rng)
    label = rng.permutation(n) % 2 == 0
    codes[~label] = rng.permuted(codes[~label], axis=1)
    minus35[~label] = minus10[~label] = -1
    sequences = Sequences.from_padded(codes, np.full(n, LENGTH, dtype=np.int32))
    return SimulatedPromoterSet(sequences, label.astype(np.int64), minus35, minus10)


def true_log_odds(sequences: Sequences) -> np.ndarray:
    """The log of how much more probable each sequence, of 81 nt, is as a promoter than as background: float64 (n,).

    The boxes' place is summed over. Background is taken as letters drawn with the composition of promoters, boxes
    included.
    """
    codes = sequences.padded()
    boxes = box_frequencies(MINUS_35), box_frequencies(MINUS_10)
    in_boxes = BOX * (boxes[0].mean(axis=0) + boxes[1].mean(axis=0))
    background = ((LENGTH - 2 * BOX) * np.array(COMPOSITION) + in_boxes) / LENGTH
    outside = np.log(COMPOSITION / background)[codes]  # (n, 81)
    gain_35, gain_10 = (np.log(box / COMPOSITION) for box in boxes)
    places = []
    for distance, its_share in DISTANCES.items():
        for spacer, share in SPACERS.items():
            minus10 = START - distance - BOX + 1
            minus35 = minus10 - spacer - BOX
            score = np.full(len(codes), np.log(its_share * share))
            for at in range(BOX):
                score += gain_35[at, codes[:, minus35 + at]] + gain_10[at, codes[:, minus10 + at]]
            places.append(score)
    return np.asarray(outside.sum(axis=1) + logsumexp(np.stack(places), axis=0))


def box_frequencies(box: tuple[str, tuple[float, ...]]) -> np.ndarray:
    """The frequency of every letter at every place of a box: float64 (6, 4), rows add up to 1."""
    consensus, shares = box
    frequencies = np.tile(np.array(COMPOSITION), (BOX, 1))
    for at, (code, share) in enumerate(zip(_codes(consensus), shares, strict=True)):
        frequencies[at] *= (1 - share) / (1 - frequencies[at, code])
        frequencies[at, code] = share
    return frequencies


def _promoters(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n promoters: codes uint8 (n, 81), and where their boxes begin, int64 (n,) each."""
    codes = rng.choice(4, size=(n, LENGTH), p=COMPOSITION).astype(np.uint8)
    minus10 = START - rng.choice([*DISTANCES], size=n, p=[*DISTANCES.values()]) - BOX + 1
    minus35 = minus10 - rng.choice([*SPACERS], size=n, p=[*SPACERS.values()]) - BOX
    for box, start in ((MINUS_35, minus35), (MINUS_10, minus10)):
        for at, frequencies in enumerate(box_frequencies(box)):
            codes[np.arange(n), start + at] = rng.choice(4, size=n, p=frequencies)
    return codes, minus35, minus10


def _codes(letters: str) -> np.ndarray:
    return ASCII_TO_CODE[np.frombuffer(letters.encode(), dtype=np.uint8)]


class SimulatedPromoters(Dataset):
    """Simulated bacterial promoters in folds of similar sequences: one to validate on, one to test on, the others to
    train on."""

    def __init__(
        self,
        *,
        size: Annotated[int, Ge(50), Le(10**7)],
        seed: Annotated[int, Ge(0)],
        folds: Annotated[int, Ge(3), Le(100)],
        fold: Annotated[int, Ge(0)],
        test_fold: Annotated[int, Ge(0)],
    ) -> None:
        for name, value in (("fold", fold), ("test_fold", test_fold)):
            if value >= folds:
                raise InputError(f"dataset.{name}={value}: of {folds} folds, choose one from 0 to {folds - 1}")
        if fold == test_fold:
            raise InputError(f"dataset.fold={fold} and dataset.test_fold={test_fold} are the same: choose another one")
        self.size, self.seed, self.folds, self.fold, self.test_fold = size, seed, folds, fold, test_fold

    def read(self) -> Split:
        from prixfixe.data.near_duplicates import near_duplicates
        from prixfixe.data.splits import cluster_folds

        measurements = simulate_promoters(self.size, self.seed).measurements()
        folds = cluster_folds(measurements, self.folds, seed=self.seed)
        validated, tested = folds == self.fold, folds == self.test_fold
        train, validation = measurements[~(validated | tested)], measurements[validated]
        enough(validation, f"dataset.fold={self.fold} of dataset.size={self.size}", "validate")
        enough(measurements[tested], f"dataset.test_fold={self.test_fold} of dataset.size={self.size}", "test")
        content = (
            f"simulated promoters version={VERSION} size={self.size} seed={self.seed} folds={self.folds} "
            f"fold={self.fold} test_fold={self.test_fold}"
        )
        return Split(
            train,
            validation,
            content=content,
            simulated=True,
            near_duplicates=near_duplicates(validation.sequences, train.sequences).share,
            tests={TEST: measurements[tested]},
        )
