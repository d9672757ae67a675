"""Every single substitution of every sequence, and what it does to the prediction (in-silico saturation mutagenesis).

A table has three rows a position: name, position (0-based, in the sequence as given), reference, alternative, effect
(the mutant's prediction less that of the sequence as it is, in the measurement's own units); a column task where there
are several, and a column spread for an ensemble. --mean gives one row a position instead. A file that ends with .npz
holds arrays: names, and of each sequence by its number (from 0) effects_0, (positions, 4) or (positions, 4, tasks), by
base A C G T, prediction_0, and of an ensemble spread_0.

--agreement FILE says how far several runs agree: name, run_a, run_b, and pearson_r of the two maps of a sequence; a
file that ends with .png, .svg or .pdf is a picture of it. Without -o nothing else is written then.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.commands.model_options import (
    PICTURES,
    add_output,
    add_runs,
    add_sequences,
    load_model,
    picture_file,
    read_ahead,
    readable_twice,
)
from prixfixe.common.errors import InputError
from prixfixe.common.files import format_by_ending, keep_inputs, output_file
from prixfixe.common.table_writer import FORMATS, table_writer

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.inference.map_agreement import MapAgreement
    from prixfixe.inference.mutagenesis import Mutagenesis
    from prixfixe.inference.predictor import Predictor

HELP = "in-silico mutagenesis: the effect of every single substitution"

ENDINGS = {**FORMATS, ".npz": "npz"}
KINDS = {"name": "name", "position": "integer", "reference": "letters", "alternative": "letters", "task": "name"}
MOST_DRAWN = 12  # sequences in one picture
READ_AT_ONCE = 64  # sequences


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_sequences(parser)
    add_output(parser, ENDINGS)
    what = "one row a position: the mean over the three substitutions, or over all four bases"
    parser.add_argument("--mean", type=int, choices=(3, 4), help=what)
    what = f"draw heat maps and logos, of the first {MOST_DRAWN} sequences (.png, .svg or .pdf)"
    parser.add_argument("--plot", type=picture_file("--plot"), metavar="FILE", help=what)
    what = "how far the maps of several runs agree: a table, or a picture; may be given twice"
    parser.add_argument("--agreement", type=output_file, action="append", default=[], metavar="FILE", help=what)


def run(args: argparse.Namespace) -> int:
    model = load_model(args, ENDINGS, args.sequences)
    if args.mean is not None and args.output is not None and args.output.name.lower().endswith(".npz"):
        raise InputError("--mean is of a table: the arrays of an .npz file hold the effect of every base; leave it out")
    agreement = _agreement(model, args)
    with readable_twice(args.sequences) as path:
        results = mutate_file(model, path, sequence=args.sequence, batch_size=args.batch_size)
        results = results if agreement is None else agreement.noted(results)
        if agreement is not None and args.output is None:
            drawn, count = _first_of(results), None
        elif args.output is not None and args.output.name.lower().endswith(".npz"):
            drawn, count = write_arrays_of(results, args.output), None
        else:
            drawn, count = write_table(results, model.tasks, args.output, args.mean, several=len(model.members) > 1)
    if args.plot is not None:
        from prixfixe.figures.mutagenesis import draw_mutagenesis
        from prixfixe.figures.style import save

        save(draw_mutagenesis(drawn[:MOST_DRAWN], model.tasks, simulated=model.simulated), args.plot)
        print(f"the first {min(len(drawn), MOST_DRAWN)} of the sequences drawn in {args.plot}", file=sys.stderr)
    if agreement is not None:
        _write_agreement(agreement, args.agreement, model.simulated)
    if args.output is not None:
        done = f"{len(drawn):,} sequences" if count is None else f"{count:,} rows"
        print(f"{done} in {args.output}", file=sys.stderr)
    return 0


def _agreement(model: Predictor, args: argparse.Namespace) -> MapAgreement | None:
    """What compares maps, where it is asked for. InputError for an ending that says no format, and for a single run."""
    from prixfixe.inference.map_agreement import MapAgreement

    for file in args.agreement:
        keep_inputs(file, args.sequences, *args.runs)
        format_by_ending(file, {**FORMATS, **dict.fromkeys(PICTURES, "picture")}, "tsv")
    return MapAgreement(model) if args.agreement else None


def _write_agreement(agreement: MapAgreement, files: list[Path | None], simulated: bool) -> None:
    for file in files:
        if file is not None and file.suffix.lower() in PICTURES:
            from prixfixe.figures.disagreement import draw_agreement
            from prixfixe.figures.style import save

            save(draw_agreement(agreement.names, list(agreement.by_pair()), simulated=simulated), file)
        else:
            agreement.write(file)
    print("\n".join(agreement.summary()), file=sys.stderr)


Named = tuple[str, "Mutagenesis"]


def mutate_file(
    model: Predictor, path: Path, *, sequence: str | None = None, batch_size: int | None = None
) -> Iterator[Named]:
    """The name and the mutagenesis of one sequence of a file after the other, in memory that does not grow with it. All
    of the file is checked first. InputError as `prixfixe.commands.predict.predict_file`."""
    from prixfixe.data.tables import count_sequences

    model.predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
    total = count_sequences(path, sequence=sequence, columns=model.sources())
    return _mutated(model, path, total, sequence=sequence, batch_size=batch_size)


def _mutated(
    model: Predictor, path: Path, total: int, *, sequence: str | None, batch_size: int | None
) -> Iterator[Named]:
    from prixfixe.common.progress import slow_work
    from prixfixe.data.tables import read_row_chunks
    from prixfixe.inference.mutagenesis import mutate_rows

    names: deque[str] = deque()
    longer = 0

    def chunks() -> Iterator[Measurements]:
        nonlocal longer
        reader = read_row_chunks(path, READ_AT_ONCE, sequence=sequence, columns=model.sources())
        for chunk, chunk_names in read_ahead(reader):
            names.extend(chunk_names)
            longer += int((chunk.sequences.lengths > model.longest).sum())
            yield chunk

    with slow_work("mutagenesis", total) as advance:
        for one in mutate_rows(model, chunks(), batch_size=batch_size):
            yield names.popleft(), one
            advance(1)
    if longer:
        print(f"warning: {model.cut_off(longer, total)}; mutations beyond have no effect", file=sys.stderr)


def _first_of(results: Iterator[Named]) -> list[Named]:
    """The first results; all are gone through."""
    first: list[Named] = []
    for one in results:
        if len(first) < MOST_DRAWN:
            first.append(one)
    return first


def write_table(
    results: Iterator[Named], tasks: tuple[str, ...], output: Path | None, bases: int | None, *, several: bool
) -> tuple[list[Named], int]:
    """Writes long tables; returns the first results, and how many rows there are. bases: see
    `Mutagenesis.mean_effects`; None is a row a substitution."""
    first: list[Named] = []
    rows = 0
    columns = ["name", "position", "reference", *(["alternative"] if bases is None else [])]
    columns += ["task"] if len(tasks) > 1 else []
    columns += ["effect", *(["spread"] if several and bases is None else [])]
    with table_writer(output, {column: KINDS.get(column, "number") for column in columns}) as write:
        for name, one in results:
            table = one.table(tasks) if bases is None else one.position_table(tasks, bases)
            count = len(table["position"])
            write([name] * count, *table.values())
            rows += count
            if len(first) < MOST_DRAWN:
                first.append((name, one))
    return first, rows


def write_arrays_of(results: Iterator[Named], output: Path) -> list[Named]:
    """Writes all results as arrays of one .npz file, and returns them."""
    from prixfixe.common.files import write_arrays

    found = list(results)
    arrays: dict[str, Any] = {"names": [name for name, _ in found]}
    for number, (_, one) in enumerate(found):
        arrays[f"effects_{number}"] = one.effects.squeeze(-1) if one.effects.shape[-1] == 1 else one.effects
        arrays[f"prediction_{number}"] = one.reference.squeeze(-1) if len(one.reference) == 1 else one.reference
        if one.spread is not None:
            arrays[f"spread_{number}"] = one.spread.squeeze(-1) if one.spread.shape[-1] == 1 else one.spread
    write_arrays(output, **arrays)
    return found
