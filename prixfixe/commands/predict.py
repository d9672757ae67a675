"""`prixfixe predict`: a run's predictions for sequences, in the measurement's own units."""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prixfixe.common.files import format_by_ending, keep_inputs, output_file
from prixfixe.common.text import csv_text, printable

if TYPE_CHECKING:
    import numpy as np

    from prixfixe.data.measurements import Measurements
    from prixfixe.data.sequences import Sequences
    from prixfixe.inference.model import Model

T = TypeVar("T")

# a file's ending -> the format of predictions; the last two are compressed by gzip
FORMATS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".parquet": "parquet", ".tsv.gz": "tsv.gz", ".csv.gz": "csv.gz"}

HELP = "predict the expression of the sequences in a table or FASTA file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder with weights")
    what = "a table (TSV, CSV, Parquet) or FASTA; plain or compressed; - is standard input"
    parser.add_argument(
        "sequences", type=lambda name: Path("/dev/stdin" if name == "-" else name), metavar="SEQUENCES", help=what
    )
    parser.add_argument(
        "-o",
        "--output",
        type=output_file,
        metavar="FILE",
        help=f"write there, not to standard output; its ending says the format: {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--sequence", metavar="COLUMN", help="the table's sequence column, where it is not found by itself"
    )
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="a conf folder of your own, whose packages a run's classes may be of; default: conf/ in this folder",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="sequences at a time; default: what suits the device"
    )


def run(args: argparse.Namespace) -> int:
    import prixfixe
    from prixfixe.common.errors import InputError

    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: at least 1")
    keep_inputs(args.output, args.sequences, args.run_folder)
    format_by_ending(args.output, FORMATS, "tsv")
    model = prixfixe.load(args.run_folder, device=args.device, config_dir=args.config_dir)
    with readable_twice(args.sequences) as path:
        count = predict_file(model, path, args.output, sequence=args.sequence, batch_size=args.batch_size)
    if args.output is not None:
        print(f"{count:,} predictions in {args.output}", file=sys.stderr)
    return 0


def predict_file(
    model: Model, path: Path, output: Path | None, *, sequence: str | None = None, batch_size: int | None = None
) -> int:
    """Writes the predictions for a table or FASTA: name, sequence and one column a task, in the format that the
    output's ending says. What else the run was trained with is read from the table's columns (`Model.sources`). Memory
    does not grow with the file. Returns how many there are.

    output: None is standard output, as TSV. The file is read twice: first to find any row that cannot be used, before
    anything is written and time is spent. While a GPU computes one chunk, the one before is written and the next one
    read. Raises InputError as `count_sequences`, and where a prediction is not finite.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from prixfixe.common.errors import InputError
    from prixfixe.data.tables import count_sequences, read_row_chunks

    model.predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
    needed = model.sources()
    total = count_sequences(path, sequence=sequence, columns=needed)
    longer = 0
    waiting: deque[tuple[Measurements, list[str]]] = deque()  # chunks whose predictions have not come yet

    def chunks() -> Iterator[Measurements]:
        rows = model.chunk_rows(batch_size)
        for chunk in read_ahead(read_row_chunks(path, rows, sequence=sequence, columns=needed)):
            waiting.append(chunk)
            yield chunk[0]

    header = ["prediction"] if len(model.tasks) == 1 else [f"prediction_{printable(task)}" for task in model.tasks]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    show = sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, disable=not show)
    with writer(output, ["name", "sequence", *header]) as write, progress:
        task = progress.add_task("predicting", total=total)
        for values in model.predict_chunks(chunks(), batch_size=batch_size):
            chunk, names = waiting.popleft()
            sequences = chunk.sequences
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values).reshape(len(names), -1).all(axis=1))[0])
                raise InputError(f"the run predicts values that are not finite, the first for {names[row]}")
            write(names, sequences, values)
            progress.advance(task, len(names))
            longer += int((sequences.lengths > model.recipe.longest).sum())
    if longer:
        print(f"warning: {model.recipe.cut_off(longer, total)}", file=sys.stderr)
    return total


def rows_of_text(names: list[str], sequences: Sequences, values: np.ndarray, mark: str = "\t") -> str:
    """Lines of name, sequence and values, (n,) or (n, tasks), with six significant digits, separated by tabs or the
    like."""
    columns = values.reshape(len(names), -1).T.tolist()
    line = mark.join(["%s", "%s", *["%.6g"] * len(columns)]) + "\n"
    cells = chain.from_iterable(zip(names, sequences.to_strings(), *columns, strict=True))
    return (line * len(names)) % tuple(cells)  # one format for all lines: twice as fast as line by line


def tsv_cell(name: str) -> str:
    """A name as a cell of TSV: one that begins with a quote would open a quoted cell, and is quoted itself."""
    return '"' + name.replace('"', '""') + '"' if name.startswith('"') else name


def csv_cell(name: str) -> str:
    """A name as a cell of CSV, which no spreadsheet takes for a formula."""
    cell = csv_text(name)
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in '",') else cell


def read_ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The same, each read by a thread while the one before is worked on."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


@contextmanager
def readable_twice(path: Path) -> Iterator[Path]:
    """The path, or that of a temporary copy where it is a pipe or a terminal, which can be read only once."""
    from prixfixe.common.errors import InputError
    from prixfixe.common.inputs import open_input

    if path.is_file() or not path.exists():
        yield path
        return
    with open_input(path, pipes=True) as pipe, tempfile.NamedTemporaryFile() as copy:
        try:
            shutil.copyfileobj(pipe, copy)
            copy.flush()
        except OSError as error:
            where = tempfile.gettempdir()
            raise InputError(
                f"{printable(path)} cannot be copied to {where} ({error.strerror}): set TMPDIR to a folder with more "
                "space"
            ) from error
        try:
            yield Path(copy.name)
        except InputError as error:
            raise InputError(str(error).replace(copy.name, printable(path))) from error


Write = Callable[[list[str], "Sequences", "np.ndarray"], object]


@contextmanager
def writer(output: Path | None, header: list[str]) -> Iterator[Write]:
    """What writes predictions to standard output, or to a file that is there whole when all is written, or not at
    all."""
    if output is None:
        sys.stdout.write("\t".join(header) + "\n")
        yield lambda *rows: sys.stdout.write(_text_of("tsv", *rows))
        return
    from prixfixe.common.files import atomic_path

    kind = format_by_ending(output, FORMATS, "tsv")
    with atomic_path(output) as temporary:
        if kind == "parquet":
            with _parquet_writer(temporary, header) as write:
                yield write
            return
        kind, _, compression = kind.partition(".")
        mark = {"tsv": "\t", "csv": ","}[kind]
        with (gzip.open if compression else open)(temporary, "wt", encoding="utf-8") as out:
            out.write(mark.join(map(csv_cell, header) if kind == "csv" else header) + "\n")
            yield lambda *rows: out.write(_text_of(kind, *rows))


def _text_of(kind: str, names: list[str], sequences: Sequences, values: np.ndarray) -> str:
    if kind == "csv":
        return rows_of_text([csv_cell(name) for name in names], sequences, values, ",")
    return rows_of_text([tsv_cell(name) for name in names], sequences, values)


@contextmanager
def _parquet_writer(path: Path, header: list[str]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(set(header)) < len(header):
        from prixfixe.common.errors import InputError

        raise InputError(f"two tasks have one name ({', '.join(header[2:])}): write TSV or CSV")
    kinds = [pa.string(), pa.string(), *[pa.float64()] * (len(header) - 2)]
    schema = pa.schema(list(zip(header, kinds, strict=True)))
    with pq.ParquetWriter(path, schema) as parquet:

        def write(names: list[str], sequences: Sequences, values: np.ndarray) -> None:
            columns = values.reshape(len(names), -1).T
            arrays = [pa.array(names), pa.array(sequences.to_strings()), *map(pa.array, columns)]
            parquet.write_table(pa.table(arrays, schema=schema))

        yield write
