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
from functools import partial

from prixfixe.commands.model_options import (
    add_output,
    add_runs,
    add_sequences,
    load_model,
    picture_file,
    readable_twice,
)
from prixfixe.commands.sequence_results import ENDINGS, MOST_DRAWN, results_of_file, write_results
from prixfixe.common.options import whole_number

HELP = "how much each base adds: mutagenesis, gradients, DeepLIFT"

METHODS = ("mutagenesis", "gradient", "integrated", "deeplift")


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
    from prixfixe.inference.attribution import attribute_rows

    model = load_model(args, ENDINGS, args.sequences)
    work = partial(attribute_rows, model, method=args.method, seed=args.seed, batch_size=args.batch_size)
    with readable_twice(args.sequences) as path:
        results = results_of_file(model, path, work, what=args.method, sequence=args.sequence)
        drawn, written = write_results(results, args.output, lambda one: one.table(model.tasks))
    if args.plot is not None:
        from prixfixe.figures.attribution import draw_attributions
        from prixfixe.figures.style import save

        save(draw_attributions(drawn, model.tasks, simulated=model.simulated), args.plot)
        print(f"the first {len(drawn)} of the sequences drawn in {args.plot}", file=sys.stderr)
    if args.output is not None:
        print(f"{written} in {args.output}", file=sys.stderr)
    return 0
