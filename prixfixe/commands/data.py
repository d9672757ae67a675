"""`prixfixe data`: simulate an assay, check a file, download the public data."""

from __future__ import annotations

import argparse

HELP = "simulate an assay, check a file, download the public data"


def configure(parser: argparse.ArgumentParser) -> None:
    from prixfixe.cli import add_command

    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in ("simulate", "check", "download"):
        add_command(commands, name, f"data_{name}")


def run(args: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for one of the commands above")
