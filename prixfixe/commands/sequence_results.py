"""What commands have in common that make a table of every sequence of a file: mutate, attribute."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prixfixe.commands.model_options import read_ahead
from prixfixe.common.table_writer import FORMATS, table_writer

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.inference.predictor import Predictor

ENDINGS = {**FORMATS, ".npz": "npz"}
KINDS = {
    **dict.fromkeys(("name", "task"), "name"),
    **dict.fromkeys(("reference", "alternative", "base"), "letters"),
    "position": "integer",
}
MOST_DRAWN = 12  # sequences in one picture
READ_AT_ONCE = 64  # sequences


class Result(Protocol):
    """Of one sequence. `arrays`: (..., tasks) each, by name."""

    def arrays(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Result)


def results_of_file(
    model: Predictor,
    path: Path,
    work: Callable[[Iterable[Measurements]], Iterator[R]],
    *,
    what: str,
    sequence: str | None = None,
) -> Iterator[tuple[str, R]]:
    """The name and the result of one sequence of a file after the other, in memory that does not grow with it. All of
    the file is checked first, and the first result is there, before anything is given out.

    work: gives a result for each row of chunks of rows, in order. what: it is called while it is shown how far it is.
    """
    from prixfixe.data.tables import count_sequences

    model.predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
    total = count_sequences(path, sequence=sequence, columns=model.sources())
    results = _results(model, path, work, total, what, sequence)
    return chain([next(results)], results)


def _results(
    model: Predictor,
    path: Path,
    work: Callable[[Iterable[Measurements]], Iterator[R]],
    total: int,
    what: str,
    sequence: str | None,
) -> Iterator[tuple[str, R]]:
    from prixfixe.common.progress import slow_work
    from prixfixe.data.tables import read_row_chunks

    names: deque[str] = deque()
    longer = 0

    def chunks() -> Iterator[Measurements]:
        nonlocal longer
        reader = read_row_chunks(path, READ_AT_ONCE, sequence=sequence, columns=model.sources())
        for chunk, chunk_names in read_ahead(reader):
            names.extend(chunk_names)
            longer += int((chunk.sequences.lengths > model.longest).sum())
            yield chunk

    with slow_work(what, total) as advance:
        for one in work(chunks()):
            yield names.popleft(), one
            advance(1)
    if longer:
        print(f"warning: {model.cut_off(longer, total)}; what lies beyond has no effect", file=sys.stderr)


def write_results(
    results: Iterator[tuple[str, R]], output: Path | None, table: Callable[[R], dict[str, Any]]
) -> tuple[list[tuple[str, R]], str]:
    """Writes results as one long table, `table(result)` of each below the other, or as arrays where the output ends
    with .npz; returns the first of them, and in words how much was written."""
    if output is not None and output.name.lower().endswith(".npz"):
        return _write_arrays(results, output)
    first: list[tuple[str, R]] = []
    rows = 0
    head = next(results)
    columns = ("name", *table(head[1]))
    with table_writer(output, {column: KINDS.get(column, "number") for column in columns}) as write:
        for name, one in chain([head], results):
            values = table(one)
            count = len(values["position"])
            write([name] * count, *values.values())
            rows += count
            if len(first) < MOST_DRAWN:
                first.append((name, one))
    return first, f"{rows:,} rows"


def _write_arrays(results: Iterable[tuple[str, R]], output: Path) -> tuple[list[tuple[str, R]], str]:
    """`names`, and of each sequence by its number NAME_0, NAME_1, ...; a single task has no axis of its own."""
    from prixfixe.common.files import write_arrays

    found = list(results)
    arrays: dict[str, Any] = {"names": [name for name, _ in found]}
    for number, (_, one) in enumerate(found):
        for name, array in one.arrays().items():
            arrays[f"{name}_{number}"] = array.squeeze(-1) if array.shape[-1] == 1 else array
    write_arrays(output, **arrays)
    return found[:MOST_DRAWN], f"{len(found):,} sequences"
