"""Sequences for the highest, the lowest or a wanted prediction, or where two models differ most.

Designs start from random inserts, built as the training sequences are (constant ends stay), or from the sequences of
--start, a design each. A table has columns name, sequence, of --start start and changes, prediction, and judge: what a
second model says that did not choose them (--judge RUN); spread and judge_spread of ensembles. The budget of every
method is --calls sequences through the model a design.

--goal disagreement: the sequences of which RUN and --judge RUN say the most different things for so many changes from
the start, with columns disagreement (in standard deviations over random sequences) and front, 1 for the best.

--tile MOTIF,... puts each motif at every position of the start, in both orientations; --perturb MOTIF,... shuffles
every occurrence of a motif in the start's sequences (MOTIF=LETTERS replaces it). Both write columns name, sequence,
motif, position, strand, alt_pos and ref_pos (rows of this table, from 0, as a test set's pairs have them), prediction
and effect.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.commands.model_options import add_output, add_runs, load_model, picture_file, readable_twice
from prixfixe.common.errors import InputError
from prixfixe.common.options import whole_number
from prixfixe.common.simulated import SIMULATED
from prixfixe.common.table_writer import FORMATS, table_writer
from prixfixe.common.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from prixfixe.data.measurements import Measurements
    from prixfixe.inference.predictor import Predictor

HELP = "design sequences for a wanted prediction, or where two models disagree"

METHODS = ("genetic", "greedy", "gradient", "random")
OF_DESIGNS = ("goal", "method", "calls", "gc", "forbid", "most_changes")  # what motif sets have no use for


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_output(parser, FORMATS)
    add = parser.add_argument
    add("--goal", metavar="GOAL", help="highest (default), lowest, a number, or disagreement")
    add("--method", choices=METHODS, help="default: genetic")
    number = whole_number("--number", "how many designs, 1 or more", least=1)
    add("--number", type=number, metavar="N", help="of designs: 10, or of each start 1")
    add("--start", type=Path, metavar="FILE", help="a table or FASTA of sequences to start from")
    add("--sequence", metavar="COLUMN", help="its sequence column, where it is not found by itself")
    what = "a run, or an ensemble, that scores the designs and did not choose them"
    add("--judge", type=Path, nargs="+", metavar="RUN", help=what)
    add("--task", metavar="NAME", help="which of several tasks")
    calls = whole_number("--calls", "how many sequences the model is asked for a design, 1 or more", least=1)
    add("--calls", type=calls, metavar="N", help="of the model, a design; default: 2000")
    add("--fixed", metavar="RANGES", help="positions that stay, 0-17,97-110: from 0, the end not among them")
    add("--gc", metavar="LOW-HIGH", help="share of G and C in the sequence, such as 0.3-0.6")
    add("--forbid", metavar="SITES", help="GAATTC,...: on neither strand; IUPAC letters")
    most = whole_number("--most-changes", "letters that may differ from the start, 1 or more", least=1)
    add("--most-changes", type=most, metavar="N", help="letters that may differ from the start")
    add("--tile", metavar="MOTIFS", help="put motifs at every position: consensus strings, or names in --motifs")
    add("--perturb", metavar="MOTIFS", help="shuffle every occurrence of motifs; MOTIF=LETTERS replaces it")
    add("--motifs", type=Path, metavar="FILE.meme", help="motifs that --tile and --perturb may name")
    seed = whole_number("--seed", "a whole number")
    add("--seed", type=seed, default=0, metavar="N", help="default: %(default)s")
    what = "draw the Pareto front of --goal disagreement (.png, .svg or .pdf)"
    add("--plot", type=picture_file("--plot"), metavar="FILE", help=what)


def run(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in OF_DESIGNS if getattr(args, name) is not None}
    check(args, given)
    inputs = [path for path in (args.start, args.motifs, *(args.judge or ())) if path is not None]
    model = load_model(args, FORMATS, *inputs)
    judge = None if args.judge is None else _judge(args)
    start, names = (None, None) if args.start is None else _read(model, args)
    settings: dict[str, Any] = {"start": start, "names": names}
    settings |= {name: getattr(args, name) for name in ("number", "fixed", "task", "seed", "batch_size")}
    if args.tile is not None or args.perturb is not None:
        from prixfixe.inference.perturbation import perturbed, tiled

        make, motifs = (tiled, args.tile) if args.tile is not None else (perturbed, args.perturb)
        table = make(model, motifs, motif_file=args.motifs, **settings)
    else:
        table = model.design(judge=judge, **settings, **given)
        if judge is None:
            said = "the predictions are of the model that chose these sequences, which flatter them"
            print(f"warning: {said}: --judge RUN has a second one score them", file=sys.stderr)
    simulated = model.simulated or (judge is not None and judge.simulated)
    if simulated:
        print(SIMULATED, file=sys.stderr)
    write(table, args.output)
    if args.plot is not None:
        from prixfixe.figures.disagreement import draw_front
        from prixfixe.figures.style import save

        save(draw_front(table, simulated=simulated), args.plot)
        print(f"the fronts drawn in {args.plot}", file=sys.stderr)
    if args.output is not None:
        print(f"{len(table):,} sequences in {args.output}", file=sys.stderr)
    return 0


def check(args: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """InputError for options that have no use beside each other."""
    motifs = args.tile is not None or args.perturb is not None
    if args.tile is not None and args.perturb is not None:
        raise InputError("--tile and --perturb are two tables: give one at a time")
    unused = [*given, *(["judge"] if args.judge is not None else [])]
    if motifs and unused:
        raise InputError(f"--{unused[0].replace('_', '-')} is of designs: leave it out beside --tile and --perturb")
    if args.motifs is not None and not motifs:
        raise InputError("--motifs names motifs for --tile or --perturb: add one of these")
    if args.plot is not None and args.goal != "disagreement":
        raise InputError("--plot draws the Pareto front of --goal disagreement: add that, or leave out --plot")


def _judge(args: argparse.Namespace) -> Predictor:
    import prixfixe
    from prixfixe.inference.load import run_folders, twice

    choosing = [folder for run in args.runs for folder in run_folders(run)]
    for run in args.judge:
        if any(twice([folder, one]) for folder in run_folders(run) for one in choosing):
            raise InputError(f"--judge {printable(run)} is among the runs that choose: give one that is not")
    return prixfixe.load(args.judge, device=args.device, config_dir=args.config_dir)


def _read(model: Predictor, args: argparse.Namespace) -> tuple[Measurements, list[str]]:
    """The sequences of --start, with what else the model needs."""
    from prixfixe.data.tables import count_sequences, read_row_chunks

    needed = model.sources()
    with readable_twice(args.start) as path:
        total = count_sequences(path, sequence=args.sequence, columns=needed)
        rows, names = next(read_row_chunks(path, max(total, 1), sequence=args.sequence, columns=needed))
    if longer := int((rows.sequences.lengths > model.longest).sum()):
        print(f"warning: {model.cut_off(longer, total)}; changes beyond have no effect", file=sys.stderr)
    return rows, names


def write(table: pd.DataFrame, output: Path | None) -> None:
    """Writes a table; text but for the letters of sequences is a name."""
    kinds = {}
    for name in map(str, table.columns):
        numbers = {"i": "integer", "f": "number"}.get(table[name].dtype.kind, "name")
        kinds[name] = "letters" if name == "sequence" else numbers
    with table_writer(output, kinds) as write_rows:
        if len(table):
            write_rows(*(table[name].tolist() for name in kinds))
