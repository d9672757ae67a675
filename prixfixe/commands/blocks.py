"""`prixfixe blocks`: the parts on the menu; check one against the contract; start a new one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prixfixe.menu.parts import Part

HELP = "list the parts; check one against the contract; start a new one"


def configure(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--check",
        metavar="NAME",
        help="say what breaks the contract, as bilstm or core/bilstm; exit 1 if anything does",
    )
    action.add_argument(
        "--new",
        nargs=2,
        metavar=("SLOT", "NAME"),
        help="write blocks/SLOT/NAME.py and conf/SLOT/NAME.yaml in the current folder",
    )
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="a conf folder of your own; default: conf/ in the current folder"
    )


def run(args: argparse.Namespace) -> int:
    from prixfixe.common.errors import InputError
    from prixfixe.common.paths import own_conf, say_hidden
    from prixfixe.menu.parts import find, menu

    if args.new:
        from prixfixe.menu.new_block import write

        slot, name = args.new
        for file in write(slot, name, Path.cwd()):
            print(file)
        return 0
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise InputError(f"--config-dir {args.config_dir} is no folder")
    own = own_conf(args.config_dir)
    say_hidden(own)
    parts = menu(own)
    if args.check:
        return max(check(part, parts) for part in find(parts, args.check))
    print_menu(parts)
    return 0


def check(part: Part, parts: list[Part]) -> int:
    from prixfixe.menu.check import violations
    from prixfixe.menu.parts import partners

    found = [part.problem] if part.problem else list(violations(partners(parts, part)))
    for problem in found:
        print(f"{part.slot}/{part.name}: {problem}")
    if not found:
        print(f"{part.slot}/{part.name} keeps the contract")
    return int(bool(found))


def shown_value(value: object) -> object:
    """A value as the menu has it: of one that other settings give, that these do."""
    return "as the data say" if isinstance(value, str) and "${" in value else value


def print_menu(parts: list[Part]) -> None:
    """The parts as a table; where the terminal is too narrow for all columns, those that matter least are left out
    whole."""
    from rich.table import Table
    from rich.text import Text

    from prixfixe.common.progress import columns_that_fit, wide_console
    from prixfixe.menu.check import describe_part
    from prixfixe.menu.parts import defaults

    rows: list[dict[str, str]] = []
    broken: list[str] = []
    for part in parts:
        takes, gives, parameters = describe_part(part, parts)
        if gives.startswith("broken: "):
            broken.append(f"{part.slot}/{part.name} is {gives}")
            gives = "broken"
        values = ", ".join(f"{key}={shown_value(value)}" for key, value in part.values.items())
        slot = "" if rows and parts[len(rows) - 1].slot == part.slot else part.slot
        rows.append(
            {
                "slot": slot,
                "choice": part.name,
                "takes": takes,
                "gives": gives,
                "parameters": parameters,
                "values": values,
            }
        )
    widths = {title: 2 + max(len(cell) for row in rows for cell in (title, row[title])) for title in rows[0]}
    widths["values"] = 2 + max(
        len(word) for row in rows for word in ("values", *row["values"].split())
    )  # the rest goes to the next line
    console = wide_console()
    shown = columns_that_fit(
        widths, console.width + 2, drop=("values", "takes", "parameters", "gives")
    )  # the last column needs no space behind it
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in shown:
        table.add_column(title, justify="right" if title == "parameters" else "left", no_wrap=title != "values")
    for row in rows:
        table.add_row(*(Text(row[title]) for title in shown))
    console.print(table)
    for problem in broken:
        console.print(Text(problem, "red"), soft_wrap=not console.is_terminal)
    reference = " ".join(f"{slot}={name}" for slot, name in defaults().items())
    beside = f"beside {reference}, or what a part's own YAML names; expression heads stand in front of the sequence"
    console.print(Text(f"Shapes and parameters: {beside}.", "dim"))
    if left_out := [title for title in widths if title not in shown]:
        console.print(Text(f"Left out at this width: {', '.join(left_out)}.", "dim"))
