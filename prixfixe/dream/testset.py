"""Test sets: sequences, their measured expression, and the subsets that they are scored in (Rafi et al. 2024, Methods).

A test set is a folder in one of two layouts:

1. `test_sequences.tsv` (columns sequence and expression) and one CSV a subset, `high.csv`, `SNVs.csv`, ...: `SUBSETS`.
2. The published one: `filtered_test_data_with_MAUDE_expression.txt` (sequence and expression, no header), the
   subsets in `test_subset_ids/`, and the part of them that was public during the challenge in
   `public_leaderboard_ids/`.

A subset's CSV holds 0-based row numbers of the test sequences: a column `pos`, or `alt_pos` and `ref_pos` for pairs
that are scored by their difference in expression. Other columns and other files are not looked at. A row number or pair
that occurs more than once counts once, as in the published evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import read_bytes
from prixfixe.common.text import printable
from prixfixe.data.measurements import Measurements, check_expression
from prixfixe.data.tables import read_measurements, read_texts
from prixfixe.data.testset import ABOUT_SIMULATION, TestSet

TEST_SEQUENCES = "test_sequences.tsv"
PUBLISHED_TEST_SEQUENCES = "filtered_test_data_with_MAUDE_expression.txt"

# subset -> its file in test_subset_ids/ and in public_leaderboard_ids/
PUBLISHED_FILES = {
    "high": ("high_exp_seqs.csv", "high_exp_indices.json"),
    "low": ("low_exp_seqs.csv", "low_exp_indices.json"),
    "native": ("yeast_seqs.csv", "yeast_exp_indices.json"),
    "random": ("all_random_seqs.csv", "random_exp_indices.json"),
    "challenging": ("challenging_seqs.csv", "challenging_exp_indices.json"),
    "SNVs": ("all_SNVs_seqs.csv", "SNVs_exp_indices.json"),
    "motif_perturbation": ("motif_perturbation_seqs.csv", "motif_perturbation_exp_indices.json"),
    "motif_tiling": ("motif_tiling_seqs.csv", "motif_tiling_exp_indices.json"),
}
SUBSETS = tuple(PUBLISHED_FILES)

WEIGHTS = {
    "all": 1.0,
    "high": 0.3,
    "low": 0.3,
    "native": 0.3,
    "random": 0.3,
    "challenging": 0.5,
    "SNVs": 1.25,
    "motif_perturbation": 0.3,
    "motif_tiling": 0.4,
}  # Rafi et al. 2024, Table 1

LARGEST_IDS = 1 << 28  # bytes of a JSON file of rows


def read_test_set(folder: str | Path, *, without_leaderboard: bool = False) -> TestSet:
    """Reads a test-set folder in either layout; a subset without a file is left out, `all` is always there.

    without_leaderboard: leave out what the challenge's public leaderboard showed, as the published evaluation does by
    default: rows that occur there, alone or in a pair, leave `all` and the subsets of rows; pairs leave the subsets of
    pairs only where the same pair, in the same order, was shown. Published layout only.
    """
    folder = Path(folder)
    if (folder / TEST_SEQUENCES).exists():
        if without_leaderboard:
            raise InputError(
                f"{folder}: only the published layout ({PUBLISHED_TEST_SEQUENCES}) says which sequences the public "
                "leaderboard showed; leave out --without-leaderboard"
            )
        measurements = _read_sequences(folder / TEST_SEQUENCES)
        files = {name: folder / f"{name}.csv" for name in SUBSETS}
    elif (folder / PUBLISHED_TEST_SEQUENCES).exists():
        measurements = _read_sequences(folder / PUBLISHED_TEST_SEQUENCES)
        files = {name: folder / "test_subset_ids" / ids for name, (ids, _) in PUBLISHED_FILES.items()}
    else:
        raise InputError(f"{folder}: no test set; it needs {TEST_SEQUENCES} or {PUBLISHED_TEST_SEQUENCES}")

    subsets = {"all": np.arange(len(measurements))}
    for name, file in files.items():
        if file.exists():
            subsets[name] = _read_subset(file, len(measurements))
    if without_leaderboard:
        subsets = _without_leaderboard(subsets, folder / "public_leaderboard_ids", len(measurements))
    simulated = (folder / ABOUT_SIMULATION).exists()
    return TestSet(measurements.sequences, measurements.expression, subsets, simulated=simulated, weights=WEIGHTS)


def _read_sequences(path: Path) -> Measurements:
    measurements = read_measurements(path, advice="Rename one", unmeasured=False)  # subsets name rows by their number
    check_expression(measurements, str(path))
    if measurements.expression.ndim != 1:
        raise InputError(f"{path}: a test set has one expression column, not {', '.join(measurements.tasks)}")
    return measurements


def _read_subset(path: Path, n: int) -> np.ndarray:
    """Unique rows (m,) or unique pairs (m, 2) of a subset's CSV, in ascending order."""
    rows = []
    names, found = read_texts(path, (("pos",), ("alt_pos", "ref_pos")))
    for line, cells in found:
        rows.append([_row_number(cell, n, f"{printable(path)}:{line}") for cell in cells])
    if not rows:
        raise InputError(f"{printable(path)}: no rows")
    unique = np.unique(np.array(rows, dtype=np.int64), axis=0)
    return unique if len(names) == 2 else unique[:, 0]


def _row_number(text: str | None, n: int, where: str) -> int:
    try:
        # "12.0" is how a table program writes whole numbers of a column with gaps
        number = int((text or "").removesuffix(".0"))
    except ValueError:
        raise InputError(f"{where}: {printable(text, 100)!r} is no row number") from None
    if not 0 <= number < n:
        raise InputError(f"{where}: row {number} is not in the test set: its rows are 0 to {n - 1}")
    return number


def _without_leaderboard(subsets: dict[str, np.ndarray], folder: Path, n: int) -> dict[str, np.ndarray]:
    shown: dict[str, np.ndarray] = {}
    for name, (_, file) in PUBLISHED_FILES.items():
        if not (folder / file).exists():
            raise InputError(f"{folder / file}: missing; it is needed to leave out the public leaderboard's sequences")
        shown[name] = _read_leaderboard(folder / file, n)
    rows = np.concatenate([ids.ravel() for ids in shown.values()])
    pairs = np.concatenate([ids for ids in shown.values() if ids.ndim == 2] or [np.empty((0, 2), dtype=np.int64)])

    kept = {}
    for name, ids in subsets.items():
        # a pair as one number, so that pairs are compared as wholes
        left_out = np.isin(ids, rows) if ids.ndim == 1 else np.isin(ids @ (n, 1), pairs @ (n, 1))
        if left_out.all():
            raise InputError(f"{folder}: the public leaderboard showed the whole subset {name}")
        kept[name] = ids[~left_out]
    return kept


def _read_leaderboard(path: Path, n: int) -> np.ndarray:
    """Rows (m,), or pairs (m, 2), from the keys of a JSON object: "12" or "12,34"."""
    try:
        content = json.loads(read_bytes(path, limit=LARGEST_IDS))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)}: not JSON: {printable(error, 300)}") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f'{path}: expected a JSON object whose keys are row numbers ("12") or pairs ("12,34")')
    rows = [[_row_number(number, n, f"{path}, key {key!r}") for number in key.split(",")] for key in content]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) > 2:
        raise InputError(f"{path}: keys must be all row numbers or all pairs")
    ids = np.array(rows, dtype=np.int64)
    return ids if ids.shape[1] == 2 else ids[:, 0]
