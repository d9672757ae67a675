"""A baseline that knows no positions: ridge regression on the counts of k-mers, by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.data.sequences import N, Sequences, padded_chunks

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.inference.predictor import Predictor

LONGEST = 5  # nt of a k-mer
MOST_ROWS = 20_000  # trained on; more of them change a model of 692 features little
PENALTIES = 10.0 ** np.arange(0, 6.5, 0.5)  # of which leave-one-out cross-validation takes the best
CHUNK_LETTERS = 1 << 22


def kmer_counts(sequences: Sequences, longest: int = LONGEST) -> np.ndarray:
    """How often each k-mer of 1 to `longest` nt stands in a sequence, one strand or the other: float32 (n, features).

    A k-mer and its reverse complement are one feature. Those with an N are not counted.
    """
    kept = [_canonical(k) for k in range(1, longest + 1)]
    found = np.empty((len(sequences), sum(map(len, kept))), dtype=np.float32)
    for chunk in padded_chunks(np.asarray(sequences.lengths), letters=CHUNK_LETTERS, rows=1 << 14):
        codes = sequences[chunk].padded().astype(np.int64)
        blocks = []
        for k, own in enumerate(kept, 1):
            counts = _counts(codes, k)
            blocks.append((counts + counts[:, _reverse_complements(k)])[:, own])
        found[chunk] = np.concatenate(blocks, axis=1)
    return found


def _counts(codes: np.ndarray, k: int) -> np.ndarray:
    """int64 (n, 4**k), of one strand. codes: (n, L); N is 4."""
    width = codes.shape[1] - k + 1
    if width < 1:
        return np.zeros((len(codes), 4**k), dtype=np.int64)
    number, known = np.zeros((len(codes), width), dtype=np.int64), np.ones((len(codes), width), dtype=bool)
    for offset in range(k):
        letters = codes[:, offset : offset + width]
        number, known = 4 * number + letters, known & (letters < N)
    row = np.broadcast_to(np.arange(len(codes))[:, None], number.shape)
    flat = (row * 4**k + number)[known]
    return np.bincount(flat, minlength=len(codes) * 4**k).reshape(len(codes), 4**k)


def _reverse_complements(k: int) -> np.ndarray:
    """The number of each k-mer's reverse complement: int64 (4**k,)."""
    rest, reverse = np.arange(4**k), np.zeros(4**k, dtype=np.int64)
    for _ in range(k):
        reverse, rest = 4 * reverse + (3 - rest % 4), rest // 4
    return reverse


def _canonical(k: int) -> np.ndarray:
    """The numbers of the k-mers that stand for themselves and their reverse complements."""
    return np.flatnonzero(np.arange(4**k) <= _reverse_complements(k))


class KmerRidge:
    """Linear in standardised k-mer counts. description: what it was trained on, in words."""

    def __init__(self, models: Sequence[Any], description: str) -> None:
        self.models, self.description = models, description

    def predict(self, sequences: Sequences) -> np.ndarray:
        """float64 (n, tasks), in the measurement's own units (of labels: about a probability)."""
        counts = kmer_counts(sequences)
        return np.stack([model.predict(counts).astype(np.float64) for model in self.models], axis=1)


def fit_kmer_ridge(train: Measurements, *, seed: int = 0) -> KmerRidge:
    """A ridge for each task, of the rows in which it is measured: a sample of MOST_ROWS where there are more.
    InputError where nothing is measured."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not train.tasks:
        raise InputError("a baseline is trained on measurements, and the run's data have none")
    rows = np.arange(len(train))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(train), MOST_ROWS, replace=False))
    counts = kmer_counts(train.sequences[rows])
    measured = np.asarray(train.expression, dtype=np.float64).reshape(len(train), -1)[rows]
    models = []
    for column in measured.T:
        there = ~np.isnan(column)
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
        models.append(model.fit(counts[there], column[there]))
    penalties = ", ".join(f"{model[-1].alpha_:.3g}" for model in models)
    features = counts.shape[1]
    return KmerRidge(
        models,
        f"baseline: ridge regression on the counts of {features} k-mers (1 to {LONGEST} nt, both strands) of "
        f"{len(rows):,} training rows, penalty {penalties} by leave-one-out",
    )


def ridge_of(model: Predictor) -> KmerRidge:
    """The ridge of the training rows of a run; of an ensemble, those of its first run. InputError where the data are
    not there any more."""
    from pathlib import Path

    from prixfixe.networks.parts import Origin, judge_all
    from prixfixe.runs.folder import RunFolder
    from prixfixe.training.build import build_dataset

    first = model.members[0]
    if first.run is None:
        raise InputError(f"{first.name} comes from no run folder, which alone says what it was trained on")
    config = RunFolder(Path(first.run)).config()
    origin = Origin(run=Path(first.run))
    judge_all(config, origin)
    try:
        train = build_dataset(config, origin).read().train
    except InputError as error:
        raise InputError(f"a baseline is trained on the data of {printable(first.name)}: {error}") from error
    return fit_kmer_ridge(train)
