"""Serves a model as a GAME 1.0 predictor over HTTP (Genomic API for Model Evaluation), until Ctrl-C: GET /formats, GET
/help, POST /predict, in JSON or MessagePack. It listens to this machine alone unless --host says otherwise; it asks for
no password. docs/sharing.md says how sequences, ranges and scales are treated."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from prixfixe.commands.model_options import add_runs
from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.options import whole_number
from prixfixe.common.text import printable

if TYPE_CHECKING:
    from prixfixe.inference.predictor import Predictor

HELP = "serve a model over HTTP, as a GAME 1.0 predictor"


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    port = whole_number("--port", "a port from 1 to 65535, or 0 for any that is free", most=65535)
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="default: %(default)s; 0: a free one")
    parser.add_argument("--name", type=_name, default="PrixFixe", help="of the predictor; default: %(default)s")
    what = "the cell type that it predicts for; of several tasks TASK=CELL, once a task"
    parser.add_argument("--cell-type", action="append", default=[], metavar="CELL", help=what)
    what = "such as saccharomyces_cerevisiae; others are refused then"
    parser.add_argument("--species", default="unspecified", metavar="NAME", help=what)
    what = "what it predicts, in GAME's words, such as accessibility; default: %(default)s"
    parser.add_argument("--type", default="expression", help=what)
    what = "predictions are logarithms to this base (2, 10 or e): a linear scale can be asked for, too"
    parser.add_argument("--log-base", choices=("2", "10", "e"), help=what)


def run(args: argparse.Namespace) -> int:
    for package in ("fastapi", "msgpack", "uvicorn"):
        extra_module(package, "serve", "serve")
    import prixfixe
    from prixfixe.inference.game import Served
    from prixfixe.inference.serve import serve

    model = prixfixe.load(args.runs, device=args.device, config_dir=args.config_dir)
    if model.remark:
        print(model.remark, file=sys.stderr)
    cells = cell_types(model, args.cell_type)
    served = Served(model, args.name, cells, args.species, args.type, args.log_base, args.batch_size)
    serve(served, args.host, args.port)
    return 0


def cell_types(model: Predictor, given: list[str]) -> dict[str, str]:
    """The cell type of each task; `unspecified` where none is given. InputError for a task that the model has not."""
    found = dict.fromkeys(model.tasks, "unspecified")
    for text in given:
        task, equals, cell = text.rpartition("=")
        if equals and task not in found:
            tasks = printable(", ".join(model.tasks), 500)
            raise InputError(f"--cell-type {printable(text, 200)}: the model's tasks are {tasks}")
        found |= {task: cell} if equals else dict.fromkeys(model.tasks, cell)
    return found


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,60}", text):
        raise InputError(f"--name {printable(text, 60)}: letters, digits, . and -, at most 61")
    return text
