"""Writes a folder with all that it takes to use a trained model elsewhere: weights, configuration, a model card and
hashes. RUN of other commands, and of `prixfixe.load`, may be such a folder. Nothing in it is executed when it is used.

A part that starts from another run's weights has these in the bundle, too. --push uploads it to the Hugging Face hub,
where hf://owner/name stands for it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable

HELP = "write a model to give away: weights, configuration, model card, hashes"


def configure(parser: argparse.ArgumentParser) -> None:
    what = "a run folder that is done; several, or a sweep's folder, are an ensemble; or a bundle"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=what)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--onnx", action="store_true", help="with the network as ONNX (model.onnx)")
    parser.add_argument("--torch-export", action="store_true", help="with the network as torch.export (model.pt2)")
    what = "the licence's identifier for the card, such as mit or cc-by-4.0; default: %(default)s"
    parser.add_argument("--license", type=_identifier, default="other", metavar="NAME", help=what)
    what = "leave out the weights that frozen parts and adapters start from: who loads it must have them"
    parser.add_argument("--without-sources", action="store_true", help=what)
    what = "upload it: hf://owner/name (log in with hf auth login)"
    parser.add_argument("--push", metavar="hf://OWNER/NAME", help=what)
    parser.add_argument("--force", action="store_true", help="replace a bundle that is there")
    what = "a conf folder of your own, whose packages a run's classes may be of; default: conf/ in this folder"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=what)


def run(args: argparse.Namespace) -> int:
    from prixfixe.inference.bundle import write_bundle
    from prixfixe.inference.hub import parse, push
    from prixfixe.inference.load import load, run_folders

    if args.push is not None:
        parse(args.push)
    folders = [folder for name in args.runs for folder in run_folders(name)]
    model = load(folders, device="cpu", config_dir=args.config_dir)
    exports = [kind for kind, asked in (("onnx", args.onnx), ("torch_export", args.torch_export)) if asked]
    remarks = write_bundle(
        model,
        folders,
        args.output,
        license=args.license,
        exports=exports,
        without_sources=args.without_sources,
        force=args.force,
        config_dir=args.config_dir,
    )
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    folder = printable(args.output)
    print(f"{folder}: {len(folders)} run(s); try: prixfixe predict {folder} SEQUENCES")
    if args.push is not None:
        print(f"pushed: {push(args.output, args.push)}")
    return 0


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}", text):
        raise InputError(f"--license {printable(text, 60)}: an identifier such as mit, apache-2.0 or cc-by-4.0")
    return text.lower()
