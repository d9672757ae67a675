"""`prixfixe predict`: predictions for the sequences in a table or FASTA file, of a run or of an ensemble."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.commands.model_options import (
    add_output,
    add_runs,
    add_sequences,
    load_model,
    read_ahead,
    readable_twice,
    show_progress,
)
from prixfixe.common.files import format_by_ending
from prixfixe.common.table_writer import FORMATS, check_different, table_writer
from prixfixe.common.text import counted, printable

if TYPE_CHECKING:
    import numpy as np

    from prixfixe.data.measurements import Measurements
    from prixfixe.inference.predictor import Predictor

ENDINGS = {**FORMATS, ".npz": "npz", ".bw": "bigwig", ".bigwig": "bigwig"}

FEWEST_COMPARED = 10  # sequences, of which how far members agree says something

HELP = "predict the expression of the sequences in a table or FASTA file"


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_sequences(parser)
    add_output(parser, ENDINGS)


def run(args: argparse.Namespace) -> int:
    model = load_model(args, ENDINGS, args.sequences)
    kind = format_by_ending(args.output, ENDINGS, "tsv")
    work = {"npz": predict_arrays, "bigwig": predict_track}.get(kind, predict_file)
    with readable_twice(args.sequences) as path:
        count = work(model, path, args.output, sequence=args.sequence, batch_size=args.batch_size)
    if args.output is not None:
        print(f"{count:,} predictions in {args.output}", file=sys.stderr)
    return 0


def predict_file(
    model: Predictor, path: Path, output: Path | None, *, sequence: str | None = None, batch_size: int | None = None
) -> int:
    """Writes the predictions for a table or FASTA: name, sequence and one column a task, in the format that the
    output's ending says; of an ensemble the mean, and a column `spread` of the standard deviation of its members. What
    else the run was trained with is read from the table's columns (`Predictor.sources`). Memory does not grow with the
    file. Returns how many there are.

    output: None is standard output, as TSV. The file is read twice: first to find any row that cannot be used, before
    anything is written and time is spent. While a GPU computes one chunk, the one before is written and the next one
    read. Raises InputError as `count_sequences`, and where a prediction is not finite.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from prixfixe.data.tables import count_sequences, read_row_chunks
    from prixfixe.inference.ensemble import Agreement, spread

    model.predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
    needed, several = model.sources(), len(model.members) > 1
    total = count_sequences(path, sequence=sequence, columns=needed)
    longer, agreement = 0, Agreement()
    waiting: deque[tuple[Measurements, list[str]]] = deque()  # chunks whose predictions have not come yet

    def chunks() -> Iterator[Measurements]:
        rows = model.chunk_rows(batch_size)
        for chunk in read_ahead(read_row_chunks(path, rows, sequence=sequence, columns=needed)):
            waiting.append(chunk)
            yield chunk[0]

    names = prediction_columns("prediction", model.tasks)
    names += prediction_columns("spread", model.tasks) if several else []
    check_different(names)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    show = show_progress(output)
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, disable=not show)
    header = {"name": "name", "sequence": "letters", **dict.fromkeys(names, "number")}
    with table_writer(output, header) as write, progress:
        task = progress.add_task("predicting", total=total)
        for members in model.predict_member_chunks(chunks(), batch_size=batch_size):
            chunk, rows = waiting.popleft()
            values = [members.mean(axis=0)]
            if several:
                agreement.add(members)
                values.append(spread(members))
            numbers = np.concatenate([value.reshape(len(rows), -1) for value in values], axis=1)
            write(rows, chunk.sequences.to_strings(), *numbers.T)
            progress.advance(task, len(rows))
            longer += int((chunk.sequences.lengths > model.longest).sum())
    if longer:
        print(f"warning: {model.cut_off(longer, total)}", file=sys.stderr)
    if several and agreement.n >= FEWEST_COMPARED:
        print(f"{len(model.members)} members: {agreement.text(model.tasks)}", file=sys.stderr)
    return total


def predict_arrays(
    model: Predictor, path: Path, output: Path, *, sequence: str | None = None, batch_size: int | None = None
) -> int:
    """Writes an .npz file: `names`, `predictions` (n,) or (n, tasks), of an ensemble `spread` beside it, and what is
    predicted at every position, where there is such a thing, as `track`, (n, positions); with a bias model, whose part
    is in neither, `predictions_with_bias` and `track_with_bias`. Returns n."""
    import numpy as np

    from prixfixe.common.files import write_arrays
    from prixfixe.inference.ensemble import spread

    arrays: dict[str, list[np.ndarray]] = {}
    names: list[str] = []
    empty = 0
    for rows, _, members, outputs in outputs_of(model, path, sequence, batch_size):
        names += rows
        track = model.task.track(outputs)
        empty += 0 if track is None else empty_rows(track)
        found = {"predictions": members.mean(axis=0), "track": track}
        found |= {"spread": spread(members)} if len(members) > 1 else {}
        found |= model.task.further(outputs)
        for name, array in found.items():
            if array is not None:
                arrays.setdefault(name, []).append(array)
    joined: dict[str, Any] = {name: np.concatenate(some) for name, some in arrays.items()}
    write_arrays(output, names=np.array(names), **joined)
    say_empty(empty, len(names))
    return len(names)


def predict_track(
    model: Predictor, path: Path, output: Path, *, sequence: str | None = None, batch_size: int | None = None
) -> int:
    """Writes what is predicted at every position as a bigWig; names tell where in a genome each sequence lies, as
    `chr1:1000-3114`. The mean where windows overlap. Returns how many windows there are."""
    from prixfixe.common.errors import InputError
    from prixfixe.inference.tracks import Window, window_of, write_bigwig

    windows: list[Window] = []
    empty = 0
    for names, lengths, _, outputs in outputs_of(model, path, sequence, batch_size):
        track = model.task.track(outputs)
        if track is None:
            raise InputError(
                f"{model.name} predicts nothing at every position, of which a bigWig is made: write a table"
            )
        empty += empty_rows(track)
        windows += map(window_of, names, lengths.tolist(), track)
    write_bigwig(output, windows)
    say_empty(empty, len(windows))
    return len(windows)


def empty_rows(track: np.ndarray) -> int:
    """How many rows, of (n, positions), have nothing at any position."""
    return int((~track.any(axis=1)).sum())


def say_empty(empty: int, rows: int) -> None:
    if empty:
        print(
            f"warning: {empty:,} of {counted(rows, 'row')} have a predicted total of 0 or less: their track is 0",
            file=sys.stderr,
        )


def outputs_of(
    model: Predictor, path: Path, sequence: str | None, batch_size: int | None
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Of a file's sequences, a chunk at a time: names, lengths, each member's predictions, and all outputs of the
    model. All of the file is checked first."""
    import numpy as np

    from prixfixe.common.progress import slow_work
    from prixfixe.data.tables import count_sequences, read_row_chunks

    needed = model.sources()
    total = count_sequences(path, sequence=sequence, columns=needed)
    with slow_work("predicting", total) as advance:
        for chunk, names in read_row_chunks(path, model.chunk_rows(batch_size), sequence=sequence, columns=needed):
            for each in model.output_chunks([chunk], batch_size=batch_size):
                members = np.stack(
                    [outputs[member.predicted] for outputs, member in zip(each, model.members, strict=True)]
                )
                yield names, chunk.sequences.lengths, members, model.combined(each)
            advance(len(names))


def prediction_columns(what: str, tasks: tuple[str, ...]) -> list[str]:
    """`prediction`, or of several tasks `prediction_TASK`, one each."""
    return [what] if len(tasks) == 1 else [f"{what}_{printable(task)}" for task in tasks]
