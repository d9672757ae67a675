"""What the commands that use a trained model have in common: its options, and its sequences."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prixfixe.common.errors import InputError
from prixfixe.common.files import format_by_ending, keep_inputs, output_file
from prixfixe.common.options import whole_number
from prixfixe.common.text import printable

if TYPE_CHECKING:
    from prixfixe.inference.predictor import Predictor

T = TypeVar("T")

STANDARD_INPUT = Path("/dev/stdin")


def add_runs(parser: argparse.ArgumentParser) -> None:
    what = "a run folder with weights; several, or a sweep's folder, are an ensemble; or a bundle"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=what)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N; default: %(default)s")
    batch = whole_number("--batch-size", "sequences at a time", least=1)
    parser.add_argument("--batch-size", type=batch, metavar="N", help="at a time; default: what suits the device")
    what = "a conf folder of your own, whose packages a run's classes may be of; default: conf/ in this folder"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=what)


def add_sequences(parser: argparse.ArgumentParser) -> None:
    what = "a table (TSV, CSV, Parquet) or FASTA; plain or compressed; - is standard input"
    parser.add_argument("sequences", type=_input_file, metavar="SEQUENCES", help=what)
    what = "the table's sequence column, where it is not found by itself"
    parser.add_argument("--sequence", metavar="COLUMN", help=what)


def add_output(parser: argparse.ArgumentParser, formats: Iterable[str]) -> None:
    what = f"write there, not to standard output; its ending says the format: {', '.join(formats)}"
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help=what)


PICTURES = (".png", ".svg", ".pdf")


def picture_file(option: str) -> Callable[[str], Path]:
    """What argparse calls with the text of an option: the file of a picture. InputError for another ending."""

    def parsed(name: str) -> Path:
        path = output_file(name)
        if path is None or path.suffix.lower() not in PICTURES:
            raise InputError(
                f"{option} {printable(name)}: its ending says no format; end it with {', '.join(PICTURES)}"
            )
        return path

    return parsed


def _input_file(name: str) -> Path:
    return STANDARD_INPUT if name == "-" else Path(name)


def load_model(args: argparse.Namespace, formats: dict[str, str], *inputs: Path) -> Predictor:
    """The model of a command's runs; standard error says where it predicts anything else than what was measured.
    InputError before any work is done where the output has no format, or is one of the inputs."""
    import prixfixe

    keep_inputs(args.output, *inputs, *args.runs)
    format_by_ending(args.output, formats, next(iter(formats.values())))
    model: Predictor = prixfixe.load(args.runs, device=args.device, config_dir=args.config_dir)
    if model.remark:
        print(model.remark, file=sys.stderr)
    return model


@contextmanager
def readable_twice(path: Path) -> Iterator[Path]:
    """The path, or that of a temporary copy where it is a pipe or a terminal, which can be read only once."""
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


def read_ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The same, each read by a thread while the one before is worked on."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def show_progress(output: Path | None) -> bool:
    """Whether a bar can be shown on standard error: on a terminal that the results do not go to."""
    return sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
