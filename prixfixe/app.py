"""The Hydra application behind `prixfixe train`."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prixfixe.common.text import printable
from prixfixe.errors import BusyError, InputError, InterruptedRunError
from prixfixe.experiment import run
from prixfixe.files import write_text
from prixfixe.paths import conf_folder, own_conf
from prixfixe.run_folder import RunFolder, flatten, run_name
from prixfixe.simulated import mark
from prixfixe.sweeps.plan import end_line, number, resolved

OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def train(arguments: list[str]) -> None:
    """Runs `prixfixe train ARGUMENTS`: one combination, or with -m a sweep. Raises InputError for what Hydra
    refuses."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    arguments = [f"force={time.time_ns()}" if argument == "--force" else argument for argument in arguments]
    sys.argv = ["prixfixe train", *with_own_blocks(arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(job)()
        if single_run_errors:
            raise single_run_errors.pop()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error)) from error


def with_own_blocks(arguments: list[str]) -> list[str]:
    """Makes the user's own blocks known: classes in the current folder, and its `conf/` where no --config-dir is
    given."""
    named = any(argument in ("--config-dir", "-cd") or argument.startswith("--config-dir=") for argument in arguments)
    own = own_conf()
    return arguments if named or own is None else ["--config-dir", str(own), *arguments]


def job(config: DictConfig) -> dict[str, Any] | None:
    """One combination: what Hydra calls for every job. Returns its scores.

    A single run's error is kept for `train` to raise, since Hydra would print it in words of its own.
    """
    runtime = HydraConfig.get()
    folder = Path(runtime.runtime.output_dir)
    if runtime.mode == RunMode.MULTIRUN:
        return sweep_job(config, folder)
    try:
        metrics = run(resolved(config), folder, show_progress=True)
    except InterruptedRunError as error:
        end_as_asked(error, folder)
        single_run_errors.append(error)
        return None
    except Exception as error:
        single_run_errors.append(error)
        return None
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return metrics
    labels = {"kl": "KL", "pearson_r": "Pearson r", "spearman_rho": "Spearman rho"}
    scores = ", ".join(f"{label} {number(metrics.get(key), 4)}" for key, label in labels.items())
    print(f"{printable(nearest(folder))}: {scores}{mark(metrics.get('simulated'))}")
    return metrics


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
        metrics = run(resolved(config), folder, show_progress=False)
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


def explain(error: Exception) -> str:
    """Hydra's refusal in one message, with the nearest choices where a name is misspelt."""
    message = str(error).strip()
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) not in message else ""
    if isinstance(error, ConfigCompositionException) and (match := re.search(r"Could not override '([^']+)'", message)):
        keys = configuration_keys(of_hydra=match[1].startswith("hydra."))
        near = (
            difflib.get_close_matches(match[1], keys, n=3)
            or [k for k in keys if k.startswith(match[1].rpartition(".")[0] + ".")]
            or keys
        )
        return f"no such setting: {match[1]}; did you mean {', '.join(near[:8])}?"
    return message.partition("\nConfig search path:")[0] + cause  # where Hydra looked is no help with a misspelt name


def configuration_keys(*, of_hydra: bool) -> list[str]:
    """Every key of the configuration with the choices of the command line, dotted: of Hydra's own part, or of all the
    rest."""
    pairs = [argument.partition("=") for argument in sys.argv[1:]]
    asked = [
        f"{group}={name}" for group, _, name in pairs if name and os.path.isfile(conf_folder() / group / f"{name}.yaml")
    ]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train", asked, return_hydra_config=True)
    # type: ignore[arg-type]
    keys = dict.fromkeys([*map(str, config), *flatten(OmegaConf.to_container(config, resolve=False))])
    return [key for key in keys if key.startswith("hydra.") == of_hydra and not key.endswith("._target_")]
