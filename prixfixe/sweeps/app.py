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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import version
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prixfixe.common.errors import BusyError, InputError, InterruptedRunError
from prixfixe.common.files import write_text
from prixfixe.common.paths import conf_folder, own_conf, run_around, say_hidden
from prixfixe.common.simulated import simulated_suffix
from prixfixe.common.text import printable
from prixfixe.networks.parts import OWN, Origin
from prixfixe.runs.folder import RunFolder, flatten, run_name
from prixfixe.sweeps.hydra_internals import Callbacks, Hydra, create_config_search_path, get_args_parser
from prixfixe.sweeps.hydra_job import value_of
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
        shows = args.cfg or args.info or args.help or args.hydra_help or args.shell_completion
        if args.run or args.multirun or not shows:
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
            run_mode = RunMode.MULTIRUN
            config = application.compose_config(name, overrides, run_mode=run_mode, validate_sweep_overrides=False)
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
    """One combination. Folders that Hydra makes for it, and that nothing is written to, go again."""
    config = application.compose_config(name, overrides, run_mode=RunMode.RUN)
    folder = Path(str(config.hydra.run.dir)).absolute()
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    context = HydraContext(config_loader=application.config_loader, callbacks=Callbacks(config))
    try:
        value_of(run_job(job, config, "hydra.run.dir", None, context, configure_logging=False))
    except Exception:
        for place in new:
            with suppress(OSError):
                place.rmdir()
        raise


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


def job(config: DictConfig) -> dict[str, Any]:
    """One combination: what Hydra calls for every job. Returns its scores."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return sweep_job(config, folder)
    return single_job(resolved(config), folder, OWN)


def single_job(config: dict[str, Any], folder: Path, origin: Origin) -> dict[str, Any]:
    """Trains one combination, shows how far it is, and prints its scores."""
    with ended_as_asked(folder):
        metrics = run(config, folder, show_progress=True, origin=origin)
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
    single_job(config, path.absolute(), origin)


@contextmanager
def ended_as_asked(folder: Path) -> Iterator[None]:
    """After a clean save, lets the signal do what it does: end the process, or what a scheduler's handler does."""
    try:
        yield
    except InterruptedRunError as error:
        print(printable(f"{nearest(folder)}: {error}"), file=sys.stderr, flush=True)
        signal.raise_signal(error.signal)
        raise


def sweep_job(config: DictConfig, folder: Path) -> dict[str, Any]:
    """A job of a sweep: one line at its end; a failure is recorded with its reason and, in error.txt, its stack trace,
    then raised.

    A job in the pool leaves the line to the pool's own process, which knows how many have ended.
    """
    began = time.time()
    speaks = not str(HydraConfig.get().launcher._target_).endswith(".PoolLauncher")
    try:
        with ended_as_asked(folder):
            metrics = run(resolved(config), folder, show_progress=False, origin=OWN)
    except InterruptedRunError:
        raise
    except Exception as error:
        if not isinstance(error, BusyError):  # else the folder is another process's: nothing is written there
            record_failure(RunFolder(folder), str(error), began)
        if speaks:
            print(end_line(folder.name, None, str(error)), file=sys.stderr, flush=True)
        raise
    if speaks:
        print(end_line(folder.name, metrics, None), file=sys.stderr, flush=True)
    return metrics


def record_failure(run: RunFolder, reason: str, began: float) -> None:
    """Records the exception that is handled, unless the run has done so, or it is another process's."""
    if run.status().get("state") not in ("running", "done") and not run.ended_since(began):
        run.write_status("failed", reason=reason)
    if run.status().get("state") == "failed":
        write_text(run.error_file, traceback.format_exc(), follow=False)


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
        beside = [key for key in keys if key.startswith(match[1].rpartition(".")[0] + ".")]
        near = difflib.get_close_matches(match[1], keys, n=3) or beside or keys
        return f"no such setting: {match[1]}; did you mean {', '.join(near[:8])}?"
    return message.partition("\nConfig search path:")[0] + cause  # where Hydra looked is no help with a misspelt name


def configuration_keys(overrides: Sequence[str], *, of_hydra: bool) -> list[str]:
    """Every key of the configuration with the command line's choices, dotted: of Hydra's own part, or of the rest."""
    pairs = [override.partition("=") for override in overrides]
    asked = [
        f"{group}={name}" for group, _, name in pairs if name and os.path.isfile(conf_folder() / group / f"{name}.yaml")
    ]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train", asked, return_hydra_config=True)
    values: Any = OmegaConf.to_container(config, resolve=False)
    keys = dict.fromkeys([*map(str, config), *flatten(values)])
    return [key for key in keys if key.startswith("hydra.") == of_hydra and not key.endswith("._target_")]
