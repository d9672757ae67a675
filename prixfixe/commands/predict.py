"""`prixfixe predict`: a run's predictions for sequences, in the measurement's own units."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from prixfixe.files import output_file

if TYPE_CHECKING:
    import numpy as np

    from prixfixe.data.sequences import Sequences
    from prixfixe.model import Model

T = TypeVar("T")

HELP = "predict the expression of the sequences in a table or FASTA file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder with weights")
    what = "a table (TSV, CSV, Parquet) or FASTA; plain or gzip; - is standard input"
    parser.add_argument(
        "sequences", type=lambda name: Path("/dev/stdin" if name == "-" else name), metavar="SEQUENCES", help=what
    )
    parser.add_argument(
        "-o", "--output", type=output_file, metavar="FILE", help="write there as TSV, not to standard output"
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
    from prixfixe.errors import InputError

    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: at least 1")
    model = prixfixe.load(args.run_folder, device=args.device, config_dir=args.config_dir)
    with readable_twice(args.sequences) as path:
        count = predict_file(model, path, args.output, sequence=args.sequence, batch_size=args.batch_size)
    if args.output is not None:
        print(f"{count:,} predictions in {args.output}", file=sys.stderr)
    return 0


def predict_file(
    model: Model, path: Path, output: Path | None, *, sequence: str | None = None, batch_size: int | None = None
) -> int:
    """Writes the predictions for a table or FASTA as TSV: name, sequence and one column a task. Memory does not grow
    with the file.
    Returns how many there are.

    output: None is standard output. The file is read twice: first to find any row that cannot be used, before anything
    is written and time is spent. While a GPU computes one chunk, the one before is written and the next one read.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from prixfixe.data.tables import count_sequences, read_sequence_chunks

    total = count_sequences(path, sequence=sequence)
    longer = 0
    waiting: deque[tuple[Sequences, list[str]]] = deque()  # chunks whose predictions have not come yet

    def chunks() -> Iterator[Sequences]:
        for chunk in read_ahead(read_sequence_chunks(path, model.chunk_rows(batch_size), sequence=sequence)):
            waiting.append(chunk)
            yield chunk[0]

    header = ["prediction"] if len(model.tasks) == 1 else [f"prediction_{task}" for task in model.tasks]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    show = sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, disable=not show)
    with opened(output) as out, progress:
        out.write("\t".join(["name", "sequence", *header]) + "\n")
        task = progress.add_task("predicting", total=total)
        for values in model.predict_chunks(chunks(), batch_size=batch_size):
            sequences, names = waiting.popleft()
            out.write(rows_of_text(names, sequences, values))
            progress.advance(task, len(names))
            longer += int((sequences.lengths > model.recipe.longest).sum())
    if longer:
        print(f"warning: {model.recipe.cut_off(longer, total)}", file=sys.stderr)
    return total


def rows_of_text(names: list[str], sequences: Sequences, values: np.ndarray) -> str:
    """Lines of name, sequence and values, (n,) or (n, tasks), with six significant digits, separated by tabs."""
    columns = values.reshape(len(names), -1).T.tolist()
    line = "\t".join(["%s", "%s", *["%.6g"] * len(columns)]) + "\n"
    cells = chain.from_iterable(zip(names, sequences.to_strings(), *columns, strict=True))
    return (line * len(names)) % tuple(cells)  # one format for all lines: twice as fast as line by line


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
    """The path, or that of a temporary copy where it is a pipe, which can be read only once."""
    from prixfixe.errors import InputError

    if not path.is_fifo():
        yield path
        return
    with open(path, "rb") as pipe, tempfile.NamedTemporaryFile() as copy:
        shutil.copyfileobj(pipe, copy)
        copy.flush()
        try:
            yield Path(copy.name)
        except InputError as error:
            raise InputError(str(error).replace(copy.name, str(path))) from error


@contextmanager
def opened(output: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is there whole when all is written, or not at all."""
    if output is None:
        yield sys.stdout
        return
    from prixfixe.files import atomic_path

    with atomic_path(output) as temporary, open(temporary, "w", encoding="utf-8") as out:
        yield out
