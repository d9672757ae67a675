"""How much each base of every sequence adds to its prediction.

A table has one row a position, of the base that stands there: name, position (0-based, in the sequence as given), base,
attribution, in the measurement's own units; a column task where there are several. Methods: mutagenesis (the prediction
less the mean over all four bases there; for every network), gradient (times input, less the mean over the bases),
integrated (integrated gradients from 1/4 of each base), deeplift (DeepLIFT/SHAP from 20 dinucleotide-shuffled
references; where every operation of the network has a rule). The last two add up to a difference of predictions; a
column error says how far they are from it, and a row beyond 1 % of what is attributed is refused. A file that ends with
.npz holds arrays: names, and of each sequence by its number (from 0) attributions_0, (positions, 4) or (positions, 4,
tasks), what each base A C G T would add if it stood there, prediction_0, and error_0.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.commands.model_options import (
    add_output,
    add_runs,
    add_sequences,
    load_model,
    picture_file,
    read_ahead,
    readable_twice,
)
from prixfixe.common.options import whole_number
from prixfixe.common.table_writer import FORMATS, table_writer

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.inference.attribution import Attribution
    from prixfixe.inference.predictor import Predictor

HELP = "how much each base adds: mutagenesis, gradients, DeepLIFT"

ENDINGS = {**FORMATS, ".npz": "npz"}
METHODS = ("mutagenesis", "gradient", "integrated", "deeplift")
KINDS = {"name": "name", "position": "integer", "base": "letters", "task": "name"}
MOST_DRAWN = 12  # sequences in one picture
ROWS = 64  # read at a time

Named = tuple[str, "Attribution"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_sequences(parser)
    add_output(parser, ENDINGS)
    add_method(parser)
    what = f"draw logos of the first {MOST_DRAWN} sequences (.png, .svg or .pdf)"
    parser.add_argument("--plot", type=picture_file("--plot"), metavar="FILE", help=what)


def add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: %(default)s")
    seed = whole_number("--seed", "a seed", least=0)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of shuffled sequences; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    model = load_model(args, ENDINGS, args.sequences)
    with readable_twice(args.sequences) as path:
        results: Iterator[Named] = attribute_file(
            model, path, method=args.method, seed=args.seed, sequence=args.sequence, batch_size=args.batch_size
        )
        results = chain([next(results)], results)  # what is refused is refused before a header is written
        if args.output is not None and args.output.name.lower().endswith(".npz"):
            drawn, said = write_arrays_of(results, args.output), "sequences"
            count = len(drawn)
        else:
            sums = args.method in ("integrated", "deeplift")
            (drawn, count), said = write_table(results, model.tasks, args.output, sums=sums), "rows"
    if args.plot is not None:
        from prixfixe.figures.attribution import draw_attributions
        from prixfixe.figures.style import save

        save(draw_attributions(drawn[:MOST_DRAWN], model.tasks, simulated=model.simulated), args.plot)
        print(f"the first {min(len(drawn), MOST_DRAWN)} of the sequences drawn in {args.plot}", file=sys.stderr)
    if args.output is not None:
        print(f"{count:,} {said} in {args.output}", file=sys.stderr)
    return 0


def attribute_file(
    model: Predictor,
    path: Path,
    *,
    method: str,
    seed: int = 0,
    sequence: str | None = None,
    batch_size: int | None = None,
) -> Iterator[Named]:
    """The name and the attribution of one sequence of a file after the other, in memory that does not grow with it. All
    of the file is checked first. InputError as `prixfixe.commands.predict.predict_file`."""
    from prixfixe.common.progress import slow_work
    from prixfixe.data.tables import count_sequences, read_row_chunks
    from prixfixe.inference.attribution import attribute_rows

    needed = model.sources()
    total = count_sequences(path, sequence=sequence, columns=needed)
    names: deque[str] = deque()
    longer = 0

    def chunks() -> Iterator[Measurements]:
        nonlocal longer
        for chunk, chunk_names in read_ahead(read_row_chunks(path, ROWS, sequence=sequence, columns=needed)):
            names.extend(chunk_names)
            longer += int((chunk.sequences.lengths > model.longest).sum())
            yield chunk

    with slow_work(method, total) as advance:
        for one in attribute_rows(model, chunks(), method=method, seed=seed, batch_size=batch_size):
            yield names.popleft(), one
            advance(1)
    if longer:
        print(f"warning: {model.cut_off(longer, total)}; positions beyond add nothing", file=sys.stderr)


def write_table(
    results: Iterator[Named], tasks: tuple[str, ...], output: Path | None, *, sums: bool
) -> tuple[list[Named], int]:
    """Writes long tables; returns the first results, and how many rows there are. sums: whether the method promises
    them."""
    first: list[Named] = []
    rows = 0
    columns = ["name", "position", "base", *(["task"] if len(tasks) > 1 else []), "attribution"]
    columns += ["error"] if sums else []
    with table_writer(output, {column: KINDS.get(column, "number") for column in columns}) as write:
        for name, one in results:
            table = one.table(tasks)
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
        single = len(one.prediction) == 1
        arrays[f"attributions_{number}"] = one.values.squeeze(-1) if single else one.values
        arrays[f"prediction_{number}"] = one.prediction.squeeze(-1) if single else one.prediction
        if one.error is not None:
            arrays[f"error_{number}"] = one.error.squeeze(-1) if single else one.error
    write_arrays(output, **arrays)
    return found
