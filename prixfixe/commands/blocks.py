"""`prixfixe blocks`: the parts on the menu; check one against the contract; start a new one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prixfixe.menu import Part

HELP = "list the parts; check one against the contract; start a new one"


def configure(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", metavar="NAME", help="say what breaks the contract, as bilstm or core/bilstm; exit 1 if anything does")
    action.add_argument(
        "--new", nargs=2, metavar=("SLOT", "NAME"), help="write blocks/SLOT/NAME.py and conf/SLOT/NAME.yaml in the current folder"
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a conf folder of your own; default: conf/ in the current folder")


def run(args: argparse.Namespace) -> int:
    from prixfixe.errors import InputError
    from prixfixe.menu import find, menu
    from prixfixe.paths import own_conf

    if args.new:
        from prixfixe.new_block import write

        slot, name = args.new
        for file in write(slot, name, Path.cwd()):
            print(file)
        return 0
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise InputError(f"--config-dir {args.config_dir} is no folder")
    parts = menu(own_conf(args.config_dir))
    if args.check:
        return max(check(part, parts) for part in find(parts, args.check))
    print_menu(parts)
    return 0


def check(part: Part, parts: list[Part]) -> int:
    from prixfixe.block_check import violations
    from prixfixe.menu import partners

    found = list(violations(partners(parts, part)))
    for problem in found:
        print(f"{part.slot}/{part.name}: {problem}")
    if not found:
        print(f"{part.slot}/{part.name} keeps the contract")
    return int(bool(found))


def print_menu(parts: list[Part]) -> None:
    from rich.table import Table

    from prixfixe.block_check import describe_part
    from prixfixe.progress import wide_console

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("slot", "choice", "takes", "gives", "parameters", "values"):
        table.add_column(column, justify="right" if column == "parameters" else "left", overflow="fold")
    slot = ""
    for part in parts:
        if part.slot != slot and slot:
            table.add_section()
        takes, gives, parameters = describe_part(part, parts)
        values = ", ".join(f"{key}={value}" for key, value in part.values.items())
        table.add_row(part.slot if part.slot != slot else "", part.name, takes, gives, parameters, values)
        slot = part.slot
    wide_console().print(table)
