"""The command line: `prixfixe COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from typing import Any

from prixfixe.errors import BusyError, InputError, InterruptedRunError, SweepError, TrainingError

COMMANDS = ("train", "results", "study", "report", "predict", "evaluate", "data", "blocks", "import-weights")


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
            return _module("train").run(argparse.Namespace(overrides=arguments[1:]))
        args = _parser().parse_args(arguments)
        return args.run(args)
    except BrokenPipeError:  # who read the output has seen enough, as in prixfixe results | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at its end
        return 128 + signal.SIGPIPE
    except (InputError, TrainingError, SweepError, BusyError, InterruptedRunError, OSError) as error:
        if debug:
            raise
        print(f"prixfixe: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        if debug:
            raise
        print("prixfixe: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        print(f"prixfixe: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, module_name: str) -> None:
    """Adds the command of a module in `prixfixe/commands/`."""
    module = _module(module_name)
    parser = commands.add_parser(name, help=module.HELP, description=module.__doc__)
    parser.set_defaults(run=module.run)
    module.configure(parser)


def _module(name: str) -> Any:
    return importlib.import_module(f"prixfixe.commands.{name.replace('-', '_')}")
