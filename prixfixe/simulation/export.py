"""The simulated assay as files: a training table, a test-set folder, and what there was to measure.

about.json               says that all of this is simulated, and how to make it again
train.tsv                sequence, expression
true_expression.tsv      sequence, true_expression: the training promoters again, without noise
test/                    a test set: test_sequences.tsv, one CSV a subset, and its own true_expression.tsv
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path, write_json, write_text
from prixfixe.common.version import version_of
from prixfixe.data.sequences import CODE_TO_ASCII, Sequences
from prixfixe.data.testset import ABOUT_SIMULATION
from prixfixe.simulation.assay import VERSION, SimulatedMeasurements, simulate_chunks
from prixfixe.simulation.testset import SimulatedTestSet, simulate_test_set

OPTIONS = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")


def export(
    folder: Path, *, size: int, test_size: int, seed: int, progress: Callable[[int], None] = lambda promoters: None
) -> None:
    """Simulates `size` training promoters and a test set of `test_size` into a new or empty folder.

    progress: called with the number of promoters written since the last call. `about.json` is written last: a folder
    that has it is whole. Raises InputError for sizes or a seed that cannot be, and for a folder with files in it.
    """
    if size < 1:
        raise InputError(f"a training set of {size} promoters: ask for 1 or more")
    if seed < 0:
        raise InputError(f"seed {seed}: a seed is 0 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is no empty folder; name a new one")
    test_set = simulate_test_set(test_size, seed)
    write_tables(simulate_chunks(size, seed), folder / "train.tsv", folder / "true_expression.tsv", progress)
    write_test_set(test_set, folder / "test")
    progress(test_size)
    about = {
        "simulated": True,
        "about": "Made by the simulated assay of prixfixe: no value in this folder was measured.",
        "training_promoters": size,
        "test_sequences": test_size,
        "seed": seed,
        "simulation_version": VERSION,
        "prixfixe_version": version_of("prixfixe"),
        "numpy_version": np.__version__,
    }
    write_json(folder / "test" / ABOUT_SIMULATION, about)
    write_json(folder / ABOUT_SIMULATION, about)


def write_test_set(test_set: SimulatedTestSet, folder: Path) -> None:
    """Writes the folder that `prixfixe evaluate` reads, and the true expression beside it."""
    write_tables([test_set.simulated], folder / "test_sequences.tsv", folder / "true_expression.tsv")
    for name, rows in test_set.subsets.items():
        header = "pos" if rows.ndim == 1 else "alt_pos,ref_pos"
        lines = (",".join(map(str, row)) for row in rows.reshape(len(rows), -1).tolist())
        write_text(folder / f"{name}.csv", "\n".join([header, *lines]) + "\n")


def write_tables(
    chunks: Iterable[SimulatedMeasurements],
    measured: Path,
    true: Path,
    progress: Callable[[int], None] = lambda promoters: None,
) -> None:
    """Writes two tables of the same sequences, one of measured and one of true expression, chunk by chunk."""
    with (
        atomic_path(measured) as measured_path,
        atomic_path(true) as true_path,
        open(measured_path, "wb") as measured_file,
        open(true_path, "wb") as true_file,
    ):
        measured_file.write(b"sequence\texpression\n")
        true_file.write(b"sequence\ttrue_expression\n")
        for chunk in chunks:
            sequences = arrow_strings(chunk.measurements.sequences)
            for file, values in ((measured_file, chunk.measurements.expression), (true_file, chunk.true_expression)):
                csv.write_csv(pa.table({"sequence": sequences, "expression": values}), file, OPTIONS)
            progress(len(chunk))


def arrow_strings(sequences: Sequences) -> pa.StringArray:
    """The sequences' letters as an Arrow array, without a Python string for each."""
    ends = np.cumsum(sequences.lengths, dtype=np.int32)
    inside = np.arange(sequences.padded().shape[1]) < sequences.lengths[:, None]
    letters = CODE_TO_ASCII[sequences.padded()[inside]]
    offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends])
    return pa.StringArray.from_buffers(len(sequences), pa.py_buffer(offsets), pa.py_buffer(letters))
