"""The command line: `prixfixe COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

from prixfixe.common.errors import BusyError, InputError, InterruptedRunError, OutputError, SweepError, TrainingError
from prixfixe.common.files import FULL, writable
from prixfixe.common.text import printable, printable_lines

COMMANDS = (
    "train",
    "results",
    "study",
    "report",
    "predict",
    "mutate",
    "attribute",
    "motifs",
    "evaluate",
    "data",
    "blocks",
    "import-weights",
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 done, 1 something failed, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± shows ? and loses nothing else
    try:
        if arguments[:1] == ["train"] and arguments[1:2] not in (["-h"], ["--help"]):  # the rest is Hydra's
            code = _module("train").run(argparse.Namespace(overrides=arguments[1:]))
        else:
            args = _parser().parse_args(arguments)
            code = args.run(args)
        with writable("standard output"):
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read the output has seen enough, as in prixfixe results | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at its end
        return 128 + signal.SIGPIPE
    except (InputError, TrainingError, SweepError, BusyError, InterruptedRunError, OSError) as error:
        if debug:
            raise
        _let_go_of_output(error)
        print(f"prixfixe: {printable_lines(_words(error))}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        if debug:
            raise
        print("prixfixe: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        print(f"prixfixe: {type(error).__name__}: {printable(error)} (--debug shows where)", file=sys.stderr)
        return 1


def _words(error: BaseException) -> str:
    """An error's message; of one of the system's, what it is about and what to do, too."""
    if not isinstance(error, OSError) or isinstance(error, OutputError) or not error.strerror:
        return str(error)
    if error.errno in FULL:
        return f"{error.filename or 'standard output'} cannot be written: {error.strerror}: {FULL[error.errno]}"
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _let_go_of_output(error: BaseException) -> None:
    """Where nothing more can be written to standard output, Python would try, and complain, once more at its end."""
    if isinstance(error, OSError) and error.errno in FULL:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{printable(message)} ({self.prog} --help shows what there is)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="prixfixe",
        description="Combine and compare models that predict gene expression from DNA sequence.",
        epilog="--debug with any command shows the stack trace of an error.",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="show the version, and leave")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        add_command(commands, name, name)
    return parser


class Version(argparse.Action):
    """Reads the version only where it is asked for: that takes longer than the rest of the help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from prixfixe.common.version import version_of

        print(f"prixfixe {version_of('prixfixe')}")
        parser.exit()


def add_command(commands: argparse._SubParsersAction[Any], name: str, module_name: str) -> None:
    """Adds the command of a module in `prixfixe/commands/`."""
    module = _module(module_name)
    parser = commands.add_parser(name, help=module.HELP, description=module.__doc__)
    parser.set_defaults(run=module.run)
    module.configure(parser)


def _module(name: str) -> Any:
    return importlib.import_module(f"prixfixe.commands.{name.replace('-', '_')}")
