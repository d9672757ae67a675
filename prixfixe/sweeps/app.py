"""The Hydra application behind `prixfixe train`."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import version
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prixfixe.common.errors import BusyError, InputError, InterruptedRunError
from prixfixe.common.files import write_text
from prixfixe.common.paths import conf_folder, own_conf, run_around, say_hidden
from prixfixe.common.simulated import simulated_suffix
from prixfixe.common.text import printable
from prixfixe.networks.parts import OWN, Origin
from prixfixe.runs.folder import RunFolder, flatten, run_name
from prixfixe.sweeps.hydra_internals import Hydra, create_config_search_path, get_args_parser
from prixfixe.sweeps.plan import end_line, resolved
from prixfixe.sweeps.typed import as_hydra_takes_it, refuse_accidental_sweeps
from prixfixe.tasks.scores import declared
from prixfixe.training.experiment import run
from prixfixe.training.resume import plain_configuration
from prixfixe.training.settings import check_name, check_settings

OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def train(arguments: list[str]) -> None:
    """Runs `prixfixe train ARGUMENTS`: one combination, or with -m a sweep. Raises InputError for what Hydra
    refuses, and for settings that are wrong: of these nothing is made."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    version.setbase("1.3")
    arguments = [f"force={time.time_ns()}" if argument == "--force" else argument for argument in arguments]
    parser = get_args_parser()
    parser.error = refuse_options  # type: ignore[method-assign]
    args = parser.parse_args(arguments)
    check_options(args)
    own = own_conf(None if args.config_dir is None else Path(args.config_dir))
    say_hidden(own)
    try:
        typed = {word: as_hydra_takes_it(word) for word in args.overrides}
        args.overrides = [*typed.values()]
        if (
            args.run
            or args.multirun
            or not (args.cfg or args.info or args.help or args.hydra_help or args.shell_completion)
        ):
            start(args, own)
        else:
            shown = [] if own is None or args.config_dir else ["--config-dir", str(own)]
            sys.argv = ["prixfixe train", *shown, *(typed.get(word, word) for word in arguments)]
            with choices_named(args.overrides):
                hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, args.overrides).expandtabs(4)) from error


def refuse_options(message: str) -> NoReturn:
    """Says in one line what argparse finds wrong with options."""
    raise InputError(f"{printable(message)} (prixfixe train --help shows what there is)")


def check_options(args: argparse.Namespace) -> None:
    """Refuses what would execute a file of somebody's, or take a run folder's files for configuration."""
    if args.experimental_rerun is not None:
        raise InputError("--experimental-rerun would execute what is in its file; use prixfixe train --resume RUN")
    if args.config_path is not None:
        raise InputError("--config-path would take the place of the framework's configuration; use --config-dir FOLDER")
    if args.config_dir is not None:
        if not Path(args.config_dir).is_dir():
            raise InputError(f"--config-dir {printable(args.config_dir)} is no folder")
        if folder := run_around(args.config_dir):
            raise InputError(
                f"--config-dir {printable(args.config_dir)}: {printable(folder)} holds a run, whose files are no "
                f"configuration of yours; prixfixe train --resume RUN goes on with a run"
            )


def start(args: argparse.Namespace, own: Path | None) -> None:
    """Composes the configuration, checks it, and has Hydra run it, as one combination or as a sweep."""
    search_path = create_config_search_path(str(conf_folder()))
    if own is not None:
        search_path.prepend("command-line", f"file://{own.absolute()}", anchor=SearchPathQuery(provider="schema"))
    application = Hydra.create_main_hydra2("app", search_path)
    name, overrides = args.config_name or "train", args.overrides
    try:
        with choices_named(overrides):
            config = application.compose_config(
                name, overrides, run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False
            )
        sweeps = args.multirun or config.hydra.mode == RunMode.MULTIRUN
        refuse_accidental_sweeps(overrides, sweeps=sweeps)
        refuse_unused(overrides, sweeps=sweeps, asked=args.multirun)
        overrides.append(f"hydra.mode={'MULTIRUN' if sweeps else 'RUN'}")
        HydraConfig.instance().set_config(config)  # what ${hydra:...} in the configuration reads
        if config.hydra.callbacks:
            raise InputError("hydra.callbacks: prixfixe train has none; leave them out")
        if sweeps:
            check_name("sweep", config.get("sweep"))
            application.multirun(name, job, overrides, with_log_configuration=False)
            return
        check_settings(resolved(config), OWN)
        single_run(application, name, overrides)
    finally:
        GlobalHydra.instance().clear()


@contextmanager
def choices_named(overrides: Sequence[str]) -> Iterator[None]:
    """Inside, what Hydra raises for a choice that is no name, as in experiment=3, becomes an InputError."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{printable(' '.join(overrides), 400)}: {printable(error)}") from error


def single_run(application: Hydra, name: str, overrides: list[str]) -> None:
    """One combination. A folder that Hydra makes for it, and that nothing is written to, goes again."""
    folder = Path(str(HydraConfig.get().run.dir))
    there = set(existing_folders(folder))
    try:
        application.run(name, job, overrides, with_log_configuration=False)
        if single_run_errors:
            raise single_run_errors.pop()
    except Exception:
        for made in existing_folders(folder):
            if made in there or any(made.iterdir()):
                break
            made.rmdir()
        raise


def existing_folders(folder: Path) -> list[Path]:
    """A folder and those that it lies in, the innermost first, as far as they exist."""
    folder = folder.absolute()
    return [place for place in (folder, *folder.parents) if place.is_dir()]


def refuse_unused(overrides: Sequence[str], *, sweeps: bool, asked: bool) -> None:
    """Raises InputError for a folder that would be ignored: a single run's where there is a sweep, or the reverse."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if sweeps and key == "hydra.run.dir":
            why = "" if asked else " (its experiment says so; hydra.mode=RUN runs one combination)"
            raise InputError(
                f"{printable(override)}: that is the folder of a single run, and this is a sweep{why}; choose a "
                f"sweep's with sweep=NAME, which is runs/NAME, or with hydra.sweep.dir={printable(value)}"
            )
        if not sweeps and key in ("hydra.sweep.dir", "hydra.sweep.subdir"):
            raise InputError(
                f"{printable(override)}: that is the folder of a sweep, and this is a single run; choose its folder "
                f"with hydra.run.dir=FOLDER, or make it a sweep with -m"
            )


def job(config: DictConfig) -> dict[str, Any] | None:
    """One combination: what Hydra calls for every job. Returns its scores.

    A single run's error is kept for `train` to raise, since Hydra would print it in words of its own.
    """
    runtime = HydraConfig.get()
    folder = Path(runtime.runtime.output_dir)
    if runtime.mode == RunMode.MULTIRUN:
        return sweep_job(config, folder)
    try:
        metrics = run(resolved(config), folder, show_progress=True, origin=OWN)
    except InterruptedRunError as error:
        end_as_asked(error, folder)
        single_run_errors.append(error)
        return None
    except Exception as error:
        single_run_errors.append(error)
        return None
    say_scores(folder, metrics)
    return metrics


def say_scores(folder: Path, metrics: dict[str, Any]) -> None:
    """Prints how a run has ended; of several processes the first one speaks."""
    if os.environ.get("RANK", "0") != "0":
        return
    shown = [score for score in declared(metrics) if score.on_a_line]
    scores = ", ".join(f"{score.label} {score.text(metrics.get(score.name), 4)}" for score in shown)
    print(f"{printable(nearest(folder))}: {scores}{simulated_suffix(metrics.get('simulated'))}")


def resume(path: Path, config_dir: Path | None) -> None:
    """Runs `prixfixe train --resume PATH`: goes on with the run in a folder, by the configuration in it and no other.

    That configuration may come from elsewhere: it is read as plain values, checked, and its names are judged as those
    of a run that is loaded. Hydra has no part in it. Raises InputError where anything is wrong; nothing is written
    then.
    """
    config = plain_configuration(path)
    origin = Origin(run=path, conf=config_dir)
    check_settings(config, origin)
    try:
        metrics = run(config, path.absolute(), show_progress=True, origin=origin)
    except InterruptedRunError as error:
        end_as_asked(error, path)
        raise
    say_scores(path.absolute(), metrics)


single_run_errors: list[Exception] = []


def end_as_asked(error: InterruptedRunError, folder: Path) -> None:
    """After a clean save, lets the signal do what it does: end the process, or what a scheduler's own handler has in
    mind."""
    print(printable(f"{nearest(folder)}: {error}"), file=sys.stderr, flush=True)
    signal.raise_signal(error.signal)


def sweep_job(config: DictConfig, folder: Path) -> dict[str, Any]:
    """A job of a sweep: one line at its end; a failure is recorded with its reason and, in error.txt, its stack trace,
    then raised.

    A job in the pool leaves the line to the pool's own process, which knows how many have ended.
    """
    began = time.time()
    speaks = not str(HydraConfig.get().launcher._target_).endswith(".PoolLauncher")
    try:
        metrics = run(resolved(config), folder, show_progress=False, origin=OWN)
    except InterruptedRunError as error:
        end_as_asked(error, folder)
        raise
    except BusyError as error:  # the folder is another process's: nothing is written there
        if speaks:
            print(end_line(folder.name, None, str(error)), file=sys.stderr, flush=True)
        raise
    except Exception as error:
        status = RunFolder(folder)
        if status.status().get("state") not in ("running", "done") and not status.ended_since(
            began
        ):  # else it is written, or another's
            status.write_status("failed", reason=str(error))
        if status.status().get("state") == "failed":
            write_text(status.error_file, traceback.format_exc(), follow=False)
        if speaks:
            print(end_line(folder.name, None, str(error)), file=sys.stderr, flush=True)
        raise
    if speaks:
        print(end_line(folder.name, metrics, None), file=sys.stderr, flush=True)
    return metrics


def nearest(folder: Path) -> Path:
    """The folder as a user would type it from here."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's refusal in one message, with the nearest choices where a name is misspelt."""
    message = re.sub(r"\b[A-Z]\w*Error raised while", "Something is wrong in", str(error).strip())
    message = re.sub(r"\b[A-Z]\w*Error\((['\"])(.*)\1\)", r"\2", message)
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) not in message else ""
    if isinstance(error, ConfigCompositionException) and (match := re.search(r"Could not override '([^']+)'", message)):
        keys = configuration_keys(overrides, of_hydra=match[1].startswith("hydra."))
        near = (
            difflib.get_close_matches(match[1], keys, n=3)
            or [k for k in keys if k.startswith(match[1].rpartition(".")[0] + ".")]
            or keys
        )
        return f"no such setting: {match[1]}; did you mean {', '.join(near[:8])}?"
    return message.partition("\nConfig search path:")[0] + cause  # where Hydra looked is no help with a misspelt name


def configuration_keys(overrides: Sequence[str], *, of_hydra: bool) -> list[str]:
    """Every key of the configuration with the choices of the command line, dotted: of Hydra's own part, or of all the
    rest."""
    pairs = [override.partition("=") for override in overrides]
    asked = [
        f"{group}={name}" for group, _, name in pairs if name and os.path.isfile(conf_folder() / group / f"{name}.yaml")
    ]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train", asked, return_hydra_config=True)
    values: Any = OmegaConf.to_container(config, resolve=False)
    keys = dict.fromkeys([*map(str, config), *flatten(values)])
    return [key for key in keys if key.startswith("hydra.") == of_hydra and not key.endswith("._target_")]
