"""The Hydra application behind `prixfixe train`."""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prixfixe.errors import InputError
from prixfixe.run_folder import run_name

OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def conf_folder() -> Path:
    """The configuration files: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def train(arguments: list[str]) -> None:
    """Runs `prixfixe train ARGUMENTS`: one combination, or with -m a sweep. Raises InputError for what Hydra refuses."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    sys.argv = ["prixfixe train", *with_own_blocks(arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error)) from error


def with_own_blocks(arguments: list[str]) -> list[str]:
    """Makes the user's own blocks known: classes in the current folder, and its `conf/` where no --config-dir is given."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    named = any(argument in ("--config-dir", "-cd") or argument.startswith("--config-dir=") for argument in arguments)
    own = Path("conf")
    if named or not own.is_dir() or own.resolve() == conf_folder():
        return arguments
    return ["--config-dir", str(own), *arguments]


def job(config: DictConfig) -> dict[str, Any]:
    """One combination: what Hydra calls for every job. Returns its scores."""
    from prixfixe.experiment import run
    from prixfixe.sweep import job_line, resolved

    runtime = HydraConfig.get()
    folder = Path(runtime.runtime.output_dir)
    in_sweep = runtime.mode == RunMode.MULTIRUN
    try:
        metrics = run(resolved(config), folder, show_progress=not in_sweep)
    except Exception as error:
        if in_sweep:
            from prixfixe.run_folder import RunFolder

            status = RunFolder(folder)
            if status.status().get("state") != "failed":
                status.write_status("failed", reason=str(error))
            print(job_line(folder, None, str(error)), file=sys.stderr, flush=True)
        raise
    if in_sweep:
        print(job_line(folder, metrics, None), file=sys.stderr, flush=True)
    else:
        print(f"{folder}: KL {metrics['kl']:.4f}, Pearson r {metrics['pearson_r']:.4f}, Spearman rho {metrics['spearman_rho']:.4f}")
    return metrics


def explain(error: Exception) -> str:
    """Hydra's refusal in one message, with the nearest choices where a name is misspelt."""
    message = str(error).strip()
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) not in message else ""
    if isinstance(error, ConfigCompositionException) and (match := re.search(r"Could not override '([^']+)'", message)):
        keys = [*configuration_keys()]
        near = difflib.get_close_matches(match[1], keys, n=3) or [k for k in keys if k.startswith(match[1].rpartition(".")[0] + ".")] or keys
        return f"no such setting: {match[1]}; did you mean {', '.join(near[:8])}?"
    return message + cause


def configuration_keys() -> list[str]:
    """Every key of the default configuration, dotted."""
    from prixfixe.run_folder import flatten

    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train")
    return [*flatten(OmegaConf.to_container(config, resolve=False))]  # type: ignore[arg-type]
