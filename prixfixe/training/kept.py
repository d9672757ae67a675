"""What a run keeps at its end so that runs can be averaged: the predictions of its test parts, and a sample of its
training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from prixfixe.common.files import write_arrays
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import strand_hash
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.lock import check_held
from prixfixe.runs.reader import COLUMN, OUTPUT
from prixfixe.tasks.ceiling import noise_ceiling, row_keys
from prixfixe.tasks.expression import residual_sd
from prixfixe.tasks.task import Task, per_task

SAMPLE_ROWS = 10_000  # of training, at most
ALL = np.uint64(2**64 - 1)


def save_test_predictions(
    folder: RunFolder, part: str, task: Task, rows: Measurements, outputs: Mapping[str, np.ndarray]
) -> None:
    """Writes predictions_<part>.npz: `measured` and `predicted` as in validation.npz, `rows`, a hash of each sequence,
    and what else the task scores an average by: its outputs `kept` as output_<name>, its `columns` as column_<name>.
    Nothing of a task that predicts nothing a row."""
    if task.predicts is None:
        return
    arrays: dict[str, Any] = {"measured": task.measured(rows), "predicted": outputs[task.predicts].astype(np.float32)}
    arrays["rows"] = strand_hash(rows.sequences)
    arrays |= {f"{OUTPUT}{name}": outputs[name].astype(np.float32) for name in task.kept if name in outputs}
    for name in task.columns:
        column = rows.columns[name]
        if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "biufU":
            arrays[f"{COLUMN}{name}"] = column
    check_held(folder.path)
    write_arrays(folder.test_part_file(part), follow=False, **arrays)


def kept_rows(arrays: Mapping[str, Any], task: Task) -> tuple[Measurements, dict[str, np.ndarray]]:
    """The rows and outputs of a predictions_<part>.npz, as `Task.score_kept` takes them."""
    n = len(arrays["measured"])
    nothing = Sequences.from_padded(np.zeros((n, 1), dtype=np.uint8), np.ones(n, dtype=np.int32))
    columns = {name.removeprefix(COLUMN): array for name, array in arrays.items() if name.startswith(COLUMN)}
    outputs = {name.removeprefix(OUTPUT): array for name, array in arrays.items() if name.startswith(OUTPUT)}
    outputs = {str(task.predicts): arrays["predicted"], **outputs}
    return Measurements(nothing, arrays["measured"], task.spec.tasks, columns=columns), outputs


def sample_of(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.uint64]:
    """Of n training rows, by the hashes of their sequences, SAMPLE_ROWS at most: their numbers, int64 (m,), their
    hashes, and the hash below which all are there.

    They are those with the least hashes, so that samples of training sets that overlap do so, too.
    """
    if len(hashes) <= SAMPLE_ROWS:
        return np.arange(len(hashes)), hashes, ALL
    below = np.partition(hashes, SAMPLE_ROWS)[SAMPLE_ROWS]
    rows = np.flatnonzero(hashes < below)
    return rows, hashes[rows], below


def save_training_sample(
    folder: RunFolder,
    hashes: np.ndarray,
    below: np.uint64,
    measured: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
) -> None:
    """Writes training_sample.npz: `rows`, hashes of sequences, and `below`; of a network that predicts numbers alone
    `measured` and `predicted`, whose residuals give the deviation of an ensemble."""
    arrays = {"rows": hashes, "below": np.array([below])}
    if measured is not None and predicted is not None:
        arrays |= {"measured": measured.astype(np.float32), "predicted": predicted.astype(np.float32)}
    check_held(folder.path)
    write_arrays(folder.training_sample_file, follow=False, **arrays)


def ceilings(task: Task, rows: Measurements, takes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The noise ceiling of each task of held-out rows whose sequences repeat, as metrics.json holds it. takes: the
    columns that the network is given, or told by: rows that differ in them are not the same."""
    if task.correlated is None:
        return {}
    keys = row_keys(strand_hash(rows.sequences), takes)
    found: dict[str, dict[str, Any]] = {}
    if keys is None:
        return found
    for name, measured in per_task(task.measured(rows), task.spec.tasks):
        if ceiling := noise_ceiling(keys, measured):
            found[name] = asdict(ceiling)
    return found


def residual_sd_of_mean(samples: Sequence[Mapping[str, Any]]) -> tuple[float, ...] | None:
    """The root mean square of the residuals of several networks' averaged prediction on training rows, a task each;
    None where one of them has kept no predictions of such rows, or no row is common ground.

    samples: of each network, as `read_training_sample` gives it. A row, told by the hash of its sequence and what was
    measured, is predicted by those networks that were trained on it. Rows beyond the hash up to which every sample is
    whole do not count: who was trained on them is not known.
    """
    if any("predicted" not in sample for sample in samples):
        return None
    below = min(sample["below"] for sample in samples)
    rows, measured, predicted = [], [], []
    for sample in samples:
        known = sample["rows"] < below
        rows.append(sample["rows"][known])
        measured.append(sample["measured"][known].reshape(known.sum(), -1))
        predicted.append(sample["predicted"][known].reshape(known.sum(), -1))
    if not sum(map(len, rows)) or len({each.shape[1] for each in measured}) > 1:
        return None
    values = np.concatenate(measured)
    identity = np.column_stack([np.concatenate(rows), values.view(np.uint64)])
    _, first, row = np.unique(identity, axis=0, return_index=True, return_inverse=True)
    row = row.ravel()
    sums = np.zeros((len(first), values.shape[1]))
    np.add.at(sums, row, np.concatenate(predicted))
    return residual_sd(values[first], sums / np.bincount(row)[:, None])
