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
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.commands.model_options import (
    PICTURES,
    add_output,
    add_runs,
    add_sequences,
    load_model,
    picture_file,
    readable_twice,
)
from prixfixe.commands.sequence_results import ENDINGS, MOST_DRAWN, results_of_file, write_results
from prixfixe.common.errors import InputError
from prixfixe.common.files import format_by_ending, keep_inputs, output_file
from prixfixe.common.table_writer import FORMATS

if TYPE_CHECKING:
    from prixfixe.inference.map_agreement import MapAgreement
    from prixfixe.inference.mutagenesis import Mutagenesis
    from prixfixe.inference.predictor import Predictor

HELP = "in-silico mutagenesis: the effect of every single substitution"


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
    from prixfixe.inference.mutagenesis import mutate_rows

    model = load_model(args, ENDINGS, args.sequences)
    if args.mean is not None and args.output is not None and args.output.name.lower().endswith(".npz"):
        raise InputError("--mean is of a table: the arrays of an .npz file hold the effect of every base; leave it out")
    agreement = _agreement(model, args)
    work = partial(mutate_rows, model, batch_size=args.batch_size)

    def table(one: Mutagenesis) -> dict[str, Any]:
        return one.table(model.tasks) if args.mean is None else one.position_table(model.tasks, args.mean)

    with readable_twice(args.sequences) as path:
        results = results_of_file(model, path, work, what="mutagenesis", sequence=args.sequence)
        results = results if agreement is None else agreement.noted(results)
        if agreement is not None and args.output is None:
            drawn, written = _first_of(results), ""
        else:
            drawn, written = write_results(results, args.output, table)
    if args.plot is not None:
        from prixfixe.figures.mutagenesis import draw_mutagenesis
        from prixfixe.figures.style import save

        save(draw_mutagenesis(drawn, model.tasks, simulated=model.simulated), args.plot)
        print(f"the first {len(drawn)} of the sequences drawn in {args.plot}", file=sys.stderr)
    if agreement is not None:
        _write_agreement(agreement, args.agreement, model.simulated)
    if args.output is not None:
        print(f"{written} in {args.output}", file=sys.stderr)
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


def _first_of(results: Iterator[tuple[str, Mutagenesis]]) -> list[tuple[str, Mutagenesis]]:
    """The first results; all are gone through."""
    first: list[tuple[str, Mutagenesis]] = []
    for one in results:
        if len(first) < MOST_DRAWN:
            first.append(one)
    return first
