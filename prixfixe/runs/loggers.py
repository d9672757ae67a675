"""Loggers of other tools: one class a file of `conf/logger/`. Each imports its package when a run begins, and not
before."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from prixfixe.common.errors import InputError
from prixfixe.common.files import write_json
from prixfixe.networks.parts import LOADED, Origin, factory
from prixfixe.runs.bounded import damaged
from prixfixe.runs.folder import RunFolder


class Logger(ABC):
    """Base of loggers: constructed from a YAML's values; one run of a combination is one run of the tool.

    The constructor and `open` raise InputError for what the user must mend before anything is trained. Any other
    exception, from any
    method, costs only the logger: the training goes on without it.
    """

    @abstractmethod
    def open(self, folder: RunFolder, sweep: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Begins the tool's run, or goes on with the one that an earlier, interrupted training of this folder began.

        The run is called as its folder and belongs to `sweep`. parameters: the flattened configuration, {"core.hidden":
        320, ...}.
        Returns what helps to find the run again (an id, an address), which becomes an event in log.jsonl.
        """

    @abstractmethod
    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Takes finite numbers at a step of the optimiser. After a resume, steps that were logged before may come
        again."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """Ends the tool's run. Called once after every `open`, also after one that raised."""


def configured_logger(config: Mapping[str, Any], origin: Origin = LOADED) -> Logger | None:
    """The logger that a configuration asks for. Raises InputError where it lacks its package or has a wrong value."""
    node = config.get("logger")
    return factory(node, Logger, where="logger", origin=origin)() if node else None


class TensorBoard(Logger):
    """Scalars and hyperparameters in event files, in `directory`/SWEEP/RUN or in the run's own folder."""

    def __init__(self, *, directory: str | None) -> None:
        require("tensorboard", extra="tensorboard")
        self.directory = directory
        self.writer: Any = None

    def open(self, folder: RunFolder, sweep: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from torch.utils.tensorboard import SummaryWriter

        self.path = make_directory(Path(self.directory, sweep, folder.name) if self.directory else folder.path)
        self.resumed = any(self.path.glob("events.out.tfevents.*"))
        self.writer = SummaryWriter(self.path)
        if not self.resumed:
            plain = {
                key: value if isinstance(value, (bool, int, float, str)) else str(value)
                for key, value in parameters.items()
            }
            self.writer.file_writer.add_summary(hparams_pb(plain))
            self.writer.flush()
        return {"directory": str(self.path)}

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self.resumed:  # what the earlier training logged from here on is logged again
            self.writer.close()
            self.writer = SummaryWriter(self.path, purge_step=step)
            self.resumed = False
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, *, failed: bool) -> None:
        if self.writer:
            self.writer.close()


class WandB(Logger):
    """Weights & Biases. The charts' horizontal axis is `step`, so that steps may come again after a resume."""

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        mode: Literal["online", "offline"] | None,
        directory: str | None,
        tags: list[str],
    ) -> None:
        require("wandb", extra="wandb")
        self.project, self.entity, self.mode, self.directory, self.tags = project, entity, mode, directory, tags
        self.run: Any = None

    def open(self, folder: RunFolder, sweep: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        import wandb

        directory = make_directory(Path(self.directory) if self.directory else folder.path)
        identifier = remembered(folder, "wandb") or secrets.token_hex(8)
        offline = (self.mode or wandb.setup().settings.mode) == "offline"
        # standard output stays the user's own; a server that does not answer holds the end of a run up for two minutes
        # at most
        settings = wandb.Settings(console="off", silent=True, finish_timeout=120)
        try:
            self.run = wandb.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                dir=directory,
                tags=self.tags,
                name=folder.name,
                group=sweep,
                id=identifier,
                resume=None if offline else "allow",  # offline, runs of one id are joined by `wandb sync --append`
                config=dict(parameters),
                allow_val_change=True,
                reinit="create_new",  # never goes on with a run that is open in this process
                settings=settings,
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise InputError(
                f"logger: Weights & Biases refuses: {error} (logger.mode=offline needs no account)"
            ) from error
        remember(folder, "wandb", identifier)
        self.run.define_metric("*", step_metric="step")
        return {"run": identifier, "url": None if offline else self.run.url}

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"step": step, **values})

    def close(self, *, failed: bool) -> None:
        if self.run:
            self.run.finish(exit_code=int(failed))


class MLflow(Logger):
    """MLflow with a server or a database as its store."""

    def __init__(self, *, tracking_uri: str | None, tags: dict[str, str]) -> None:
        require("mlflow", extra="mlflow")
        self.tracking_uri, self.tags = tracking_uri, tags
        self.run_id = ""

    def open(self, folder: RunFolder, sweep: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        # a server that does not answer is given up within a minute, not within ten
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces every table of a new database
        uri = (
            self.tracking_uri
            or os.environ.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{folder.path.parent.absolute() / 'mlflow.db'}"
        )
        try:
            with database_lock(uri), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="alembic")  # of tables in a new database
                self.client = MlflowClient(uri)
        except MlflowException as error:
            reason = str(error).partition(". ")[0]
            raise InputError(
                f"logger.tracking_uri={uri}: {reason}; give a server or a database, such as sqlite:///runs/mlflow.db"
            ) from error
        self.run_id = self._earlier(remembered(folder, "mlflow")) or ""
        if not self.run_id:
            run = self.client.create_run(self._experiment(sweep), run_name=folder.name, tags=self.tags)
            self.run_id = run.info.run_id
            remember(folder, "mlflow", self.run_id)
        known = self.client.get_run(self.run_id).data.params
        new = [Param(key, str(value)) for key, value in parameters.items() if key not in known]
        for start in range(0, len(new), 100):  # as many as a server takes at once
            self.client.log_batch(self.run_id, params=new[start : start + 100])
        return {"run": self.run_id, "experiment": sweep}

    def _earlier(self, run_id: str | None) -> str | None:
        """The run of that id, running again; None where this store has it no more."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return None
        try:
            if self.client.get_run(run_id).info.lifecycle_stage != "active":
                return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def _experiment(self, name: str) -> str:
        """The id of an experiment, made where there is none; another job of the sweep may make it at the same
        moment."""
        from mlflow.exceptions import MlflowException

        if found := self.client.get_experiment_by_name(name):
            return found.experiment_id
        try:
            return self.client.create_experiment(name)
        except MlflowException:
            if found := self.client.get_experiment_by_name(name):
                return found.experiment_id
            raise

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self, *, failed: bool) -> None:
        if self.run_id:
            self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def require(package: str, *, extra: str) -> None:
    """Raises InputError where a package is not installed; imports nothing."""
    found = importlib.util.find_spec(package)
    if (
        found is None or found.origin is None
    ):  # no origin: a mere folder of that name, such as the one in which wandb keeps its files
        raise InputError(
            f"logger={extra} needs the package {package}, which is not installed: pip install 'prixfixe[{extra}]'"
        )


@contextmanager
def database_lock(uri: str) -> Iterator[None]:
    """Held while a database file is opened: MLflow makes its tables then, and two jobs that both do so damage it."""
    from filelock import FileLock

    file = uri.partition("?")[0].removeprefix("sqlite:///")
    if file == uri.partition("?")[0] or not file:
        yield
        return
    make_directory(Path(file).parent)
    with FileLock(f"{file}.lock"):
        yield


def make_directory(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"logger: the folder {path} cannot be made ({error.strerror}); choose another") from error
    return path


def remembered(folder: RunFolder, tool: str) -> str | None:
    """The id that the folder's run has in a tool, kept in logger.json."""
    file = folder.path / "logger.json"
    known = folder.read_json(file).get(tool)
    if not isinstance(known, str | None):
        raise damaged(file, f"{tool} is {known!r}, no id")
    return known


def remember(folder: RunFolder, tool: str, identifier: str) -> None:
    file = folder.path / "logger.json"
    write_json(file, {**folder.read_json(file), tool: identifier}, follow=False)
