"""`prixfixe import-weights`: a published model's PyTorch weights as a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn published weights into a run folder"

DESCRIPTION = """\
Reads a model_best.pth of the published weights archive (Rafi et al. 2024, Zenodo record 10633252), a state dict of
bpnet-lite or an .h5 file of ChromBPNet without executing anything in it, and writes a run folder that predict and
evaluate take.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a published model_best.pth, a state dict, or an .h5 file"
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="dream_cnn, dream_rnn, dream_attn, or a folder of the archive, i_j_k_l: the recipe, first, core and final "
        "layers, 0 Autosome.org, 1 BHI, 2 Unlock_DNA; bpnet, one network of bpnet-lite or ChromBPNet; chrombpnet, one "
        "with its bias model",
    )
    what = "of chrombpnet, where FILE holds none: the bias model's file"
    parser.add_argument("--bias", type=Path, metavar="FILE", help=what)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="the run folder to write")


def run(args: argparse.Namespace) -> int:
    import sys

    from prixfixe.common.errors import InputError
    from prixfixe.common.text import printable
    from prixfixe.dream.weights import import_weights
    from prixfixe.inference.bpnet_weights import MODELS, import_bpnet

    if args.model in MODELS:
        imported = import_bpnet(args.file, args.model, args.output, args.bias)
    elif args.bias is not None:
        raise InputError(f"--bias is of --model chrombpnet: leave it out of {printable(args.model, 100)}")
    else:
        imported = import_weights(args.file, args.model, args.output)
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)
    folder = printable(imported.folder)
    print(f"{folder}: {args.model}, {imported.parameters:,} parameters; try: prixfixe predict {folder} SEQUENCES")
    return 0
