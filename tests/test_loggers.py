import importlib.util
import json
import os
import shutil
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prixfixe.common.errors import InputError
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.log import open_log
from prixfixe.runs.loggers import configured_logger, database_lock, require
from tests.conftest import ROOT, compose

PACKAGES = ("tensorboard", "wandb", "mlflow")
NAME = "autosome+conv+bilstm+mlp"


def needs(package: str) -> Any:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed: pip install 'prixfixe[{package}]'",
    )


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own accounts, caches and settings; no usage statistics."""
    for key in [key for key in os.environ if key.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for key in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(key, str(tmp_path / "home" / key))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()  # it reads the environment once a process


def run_folder(tmp_path: Path, name: str = NAME) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "demo" / name)


def config(logger: str, **values: Any) -> dict[str, Any]:
    """A small configuration with the node of conf/logger/LOGGER.yaml."""
    node = compose(f"logger={logger}")["logger"]
    assert not set(values) - set(node)
    parameters = {"core": {"hidden": 320, "kernel_sizes": [9, 15], "dropout": 0.5}, "bins": {"range": None}}
    return {"sweep": "demo", "seed": 3, **parameters, "logger": {**node, **values}}


def train(folder: RunFolder, settings: dict[str, Any], *steps: int, fails: bool = False) -> None:
    """Logs what a training logs: at every step a loss of 1/step."""
    with open_log(folder, settings) as log:
        for step in steps:
            log.scores(step, {"epoch": step, "loss": 1 / step, "pearson_r": float("nan")})
        if fails:
            raise RuntimeError("out of memory")


def events(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.log_file.read_text().splitlines()]


# all loggers


def test_no_logger_is_the_default() -> None:
    assert compose()["logger"] is None
    assert compose("logger=none")["logger"] is None


def test_every_logger_file_is_tested() -> None:
    assert {path.stem for path in (ROOT / "conf" / "logger").glob("*.yaml")} == {"none", *PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_refused_with_the_extra_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"logger={package} .*pip install 'prixfixe\[{package}\]'"):
        configured_logger(config(package))


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb keeps its files in a folder `wandb`, which Python would take for a package without content."""
    (tmp_path / "folder_of_files").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="not installed"):
        require("folder_of_files", extra="wandb")


def test_packages_are_imported_only_when_a_run_of_theirs_begins(tmp_path: Path) -> None:
    nodes = [config(package)["logger"] for package in PACKAGES if importlib.util.find_spec(package)]
    code = f"""
import sys
from pathlib import Path
from prixfixe.runs.loggers import configured_logger
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.log import open_log
with open_log(RunFolder(Path({str(tmp_path / "run")!r})), {{"sweep": "demo", "logger": None}}) as log:
    log.scores(1, {{"loss": 1.0}})
for node in {nodes!r}:
    configured_logger({{"logger": node}})
print([name for name in {(*PACKAGES, "torch")!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize(
    "package", [pytest.param(package, marks=needs(package)) for package in ("tensorboard", "wandb")]
)
def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path, package: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"logger: the folder .*file.* cannot be made"):
        train(run_folder(tmp_path), config(package, directory=str(tmp_path / "file")))


# TensorBoard


def scalars(directory: Path, tag: str = "loss") -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory)).Reload()
    return [(event.step, pytest.approx(event.value)) for event in accumulator.Scalars(tag)]


@needs("tensorboard")
def test_tensorboard_has_scalars_and_hyperparameters_under_the_runs_name(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder = run_folder(tmp_path)
    train(folder, config("tensorboard"), 10, 20)
    train(run_folder(tmp_path, f"{NAME}+seed1"), config("tensorboard"), 5)
    assert set(EventMultiplexer().AddRunsFromDirectory(str(folder.path.parent)).Reload().Runs()) == {
        NAME,
        f"{NAME}+seed1",
    }
    assert scalars(folder.path) == [(10, 0.1), (20, 0.05)]
    accumulator = EventAccumulator(str(folder.path)).Reload()
    assert accumulator.Tags()["scalars"] == ["epoch", "loss"]
    content = HParamsPluginData.FromString(accumulator.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    assert {key: value.WhichOneof("kind") for key, value in content.session_start_info.hparams.items()} == {
        "sweep": "string_value",
        "seed": "number_value",
        "core.hidden": "number_value",
        "core.kernel_sizes": "string_value",
        "core.dropout": "number_value",
        "bins.range": "string_value",
    }
    assert content.session_start_info.hparams["core.hidden"].number_value == 320


@needs("tensorboard")
def test_tensorboard_in_a_directory_of_its_own(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    train(folder, config("tensorboard", directory=str(tmp_path / "boards")), 10)
    assert scalars(tmp_path / "boards" / "demo" / NAME) == [(10, 0.1)]
    assert [path.name for path in folder.path.iterdir()] == ["log.jsonl"]


@needs("tensorboard")
def test_tensorboard_of_a_resumed_run_shows_every_step_once(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(folder, config("tensorboard"), 10, 20, 30, fails=True)
    assert scalars(folder.path) == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
    with pytest.raises(RuntimeError):
        train(folder, config("tensorboard"), fails=True)  # resumed, and failed before the next score: nothing is lost
    assert len(scalars(folder.path)) == 3
    train(folder, config("tensorboard"), 20, 30, 40)  # its checkpoint was from before step 20
    assert scalars(folder.path) == [(10, 0.1), (20, 0.05), (30, 1 / 30), (40, 0.025)]
    assert [
        path for path in threading.enumerate() if "AsyncWriter" in type(path).__name__
    ] == []  # all files are closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@needs("tensorboard")
def test_a_disk_that_fails_under_tensorboard_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path)
    with open_log(folder, config("tensorboard")) as log:
        log.scores(1, {"loss": 1.0})
        log.logger.writer.file_writer.event_writer._async_writer._writer._writer.fs.append = lambda *_: (
            _ for _ in ()
        ).throw(  # type: ignore[union-attr]
            OSError(28, "No space left on device")
        )
        for step in range(2, 6):
            log.scores(step, {"loss": 1.0})
    assert capfd.readouterr().err.count("the run goes on without it") == 1
    assert [event["event"] for event in events(folder)].count("epoch") == 5


# Weights & Biases


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server in the place of wandb's that refuses every request; yields the addresses that have called."""
    calls: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            calls.append(self.client_address[0])
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.server_address[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield calls
        listening.shutdown()


def records(directory: Path) -> list[Any]:
    """The records of the only offline run in a directory: LevelDB's log format after a head of 7 bytes, protobuf
    inside."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its own process writes the file and has done so when it has ended
    (file,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    content, at, parts, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        room = 32768 - at % 32768
        if room < 7:  # the rest of a block is empty
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def of_kind(directory: Path, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records(directory) if record.WhichOneof("record_type") == kind]


def named(items: Any) -> dict[str, Any]:
    """wandb's items as a dictionary, without those that it adds itself."""
    values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    return {key: value for key, value in values.items() if not key.startswith("_")}


def history(directory: Path) -> list[dict[str, Any]]:
    return [named(row.item) for row in of_kind(directory, "history")]


@needs("wandb")
@pytest.mark.parametrize("by_environment", [False, True], ids=["mode", "WANDB_MODE"])
def test_wandb_offline(
    tmp_path: Path,
    server: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    by_environment: bool,
) -> None:
    folder = run_folder(tmp_path)
    if by_environment:
        monkeypatch.setenv("WANDB_MODE", "offline")
    train(
        folder,
        config("wandb", mode=None if by_environment else "offline", project="yeast", entity="lab", tags=["night"]),
        10,
        20,
    )
    assert history(folder.path) == [{"step": 10, "epoch": 10.0, "loss": 0.1}, {"step": 20, "epoch": 20.0, "loss": 0.05}]
    run = of_kind(folder.path, "run")[0]
    assert (run.project, run.entity, run.display_name, run.run_group, list(run.tags)) == (
        "yeast",
        "lab",
        NAME,
        "demo",
        ["night"],
    )
    assert named(run.config.update) == {
        "sweep": "demo",
        "seed": 3,
        "core.hidden": 320,
        "core.kernel_sizes": [9, 15],
        "core.dropout": 0.5,
        "bins.range": None,
    }
    assert [record.exit_code for record in of_kind(folder.path, "exit")] == [0]
    assert server == []
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in folder.path.iterdir()} == {"log.jsonl", "logger.json", "wandb"}


@needs("wandb")
def test_wandb_runs_of_one_process_stay_apart(tmp_path: Path, server: list[str]) -> None:
    """One fails; two are open at once; each has its own scores, id and exit code."""
    folders = [run_folder(tmp_path, name) for name in ("a", "b", "c")]
    settings = config("wandb", mode="offline")
    with pytest.raises(RuntimeError):
        train(folders[0], settings, 1, fails=True)
    with open_log(folders[1], settings) as first, open_log(folders[2], settings) as second:
        first.scores(2, {"loss": 2.0})
        second.scores(3, {"loss": 3.0})
        first.scores(4, {"loss": 4.0})
    assert [row["step"] for row in history(folders[0].path)] == [1]
    assert [row["step"] for row in history(folders[1].path)] == [2, 4]
    assert [row["step"] for row in history(folders[2].path)] == [3]
    assert [of_kind(folder.path, "exit")[0].exit_code for folder in folders] == [1, 0, 0]
    assert len({of_kind(folder.path, "run")[0].run_id for folder in folders}) == 3


@needs("wandb")
def test_wandb_in_a_directory_of_its_own_goes_on_with_the_same_run(tmp_path: Path, server: list[str]) -> None:
    folder = run_folder(tmp_path)
    with pytest.raises(RuntimeError):
        train(folder, config("wandb", mode="offline", directory=str(tmp_path / "first")), 1, 2, fails=True)
    train(folder, config("wandb", mode="offline", directory=str(tmp_path / "second")), 2, 3)
    assert {path.name for path in folder.path.iterdir()} == {"log.jsonl", "logger.json"}
    runs = [of_kind(tmp_path / directory, "run")[0].run_id for directory in ("first", "second")]
    assert runs[0] == runs[1] == json.loads((folder.path / "logger.json").read_text())["wandb"]
    assert [row["step"] for row in history(tmp_path / "second")] == [2, 3]  # a step that comes again is taken


@needs("wandb")
def test_wandb_without_a_login_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="wandb login"):
        train(run_folder(tmp_path), config("wandb", mode="online"), 1)


@needs("wandb")
def test_wandb_takes_no_other_mode(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"logger\.mode='onlin'"):
        configured_logger(config("wandb", mode="onlin"))


# MLflow


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, which takes it seconds."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    folder = RunFolder(tmp_path_factory.mktemp("store") / "first" / NAME)
    train(
        folder,
        {"sweep": "first", "logger": {"_target_": "prixfixe.runs.loggers.MLflow", "tracking_uri": None, "tags": {}}},
        1,
    )
    return folder.path.parent / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Any:
    """A client of the database in the folder of the sweep `demo`."""
    from mlflow import MlflowClient

    folder = run_folder(tmp_path).path.parent
    folder.mkdir(parents=True)
    shutil.copy(empty_store, folder)
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(store: Any, experiment: str = "demo") -> dict[str, Any]:
    found = store.search_runs([store.get_experiment_by_name(experiment).experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


@needs("mlflow")
def test_mlflow_has_scores_and_parameters(tmp_path: Path, store: Any, capfd: pytest.CaptureFixture[str]) -> None:
    train(run_folder(tmp_path), config("mlflow", tags={"who": "me"}), 10, 20)
    with pytest.raises(RuntimeError):
        train(run_folder(tmp_path, "failing"), config("mlflow"), 5, fails=True)
    done, failed = runs(store)[NAME], runs(store)["failing"]
    assert (done.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert done.info.end_time is not None and failed.info.end_time is not None
    assert [(metric.step, metric.value) for metric in store.get_metric_history(done.info.run_id, "loss")] == [
        (10, 0.1),
        (20, 0.05),
    ]
    assert set(done.data.metrics) == {"epoch", "loss"}
    assert [metric.step for metric in store.get_metric_history(failed.info.run_id, "loss")] == [5]
    assert done.data.params == {
        "sweep": "demo",
        "seed": "3",
        "core.hidden": "320",
        "core.kernel_sizes": "[9, 15]",
        "core.dropout": "0.5",
        "bins.range": "None",
    }
    assert done.data.tags["who"] == "me"
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "home"}


@needs("mlflow")
def test_mlflow_takes_more_parameters_than_a_server_takes_at_once(tmp_path: Path, store: Any) -> None:
    train(run_folder(tmp_path), config("mlflow") | {"many": {f"p{n}": n for n in range(230)}}, 1)
    assert len(runs(store)[NAME].data.params) == 236


@needs("mlflow")
def test_mlflow_goes_on_with_the_same_run(tmp_path: Path, store: Any) -> None:
    folder = run_folder(tmp_path)
    with pytest.raises(RuntimeError):
        train(folder, config("mlflow"), 1, fails=True)
    with open_log(folder, config("mlflow") | {"seed": 3, "new": 1}) as log:
        assert runs(store)[NAME].info.status == "RUNNING"
        log.scores(2, {"loss": 0.5})
    run = runs(store)[NAME]
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in store.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    assert run.data.params["new"] == "1"


@needs("mlflow")
def test_mlflow_begins_anew_where_its_run_is_gone(tmp_path: Path, store: Any) -> None:
    folder = run_folder(tmp_path)
    train(folder, config("mlflow"), 1)
    before = runs(store)[NAME].info.run_id
    store.delete_run(before)
    train(folder, config("mlflow"), 2)
    after = runs(store)[NAME].info.run_id
    assert after != before
    (folder.path / "logger.json").write_text(json.dumps({"mlflow": "0" * 32}))  # as one from another store
    store.delete_run(after)
    train(folder, config("mlflow"), 3)
    run = runs(store)[NAME].info.run_id
    assert [metric.step for metric in store.get_metric_history(run, "loss")] == [3]


@needs("mlflow")
def test_mlflow_at_an_address_of_the_users(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    for name in ("a.db", "b.db"):
        shutil.copy(empty_store, tmp_path / name)
    train(run_folder(tmp_path, "a"), config("mlflow", tracking_uri=f"sqlite:///{tmp_path / 'a.db'}"), 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'b.db'}")
    train(run_folder(tmp_path, "b"), config("mlflow"), 1)
    for name in ("a", "b"):
        assert list(runs(MlflowClient(f"sqlite:///{tmp_path / name}.db"))) == [name]
    assert not (tmp_path / "runs" / "demo" / "mlflow.db").exists()


@needs("mlflow")
def test_only_one_process_at_a_time_opens_a_database_file(tmp_path: Path) -> None:
    from filelock import FileLock, Timeout

    other = FileLock(tmp_path / "new" / "mlflow.db.lock", timeout=0)
    with database_lock(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}?timeout=5"), pytest.raises(Timeout), other:
        pytest.fail("two have the lock")
    with other, database_lock("http://localhost:5000"), database_lock("sqlite://"):
        pass  # nothing to lock


@needs("mlflow")
@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "htp://localhost"])
def test_mlflow_refuses_an_address_that_it_cannot_use(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InputError, match=r"logger\.tracking_uri="):
        train(run_folder(tmp_path), config("mlflow", tracking_uri=uri), 1)


@needs("mlflow")
def test_mlflow_without_its_server_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path)
    train(folder, config("mlflow", tracking_uri="http://127.0.0.1:9"), 1, 2)
    said = capfd.readouterr().err
    assert said.count("warning: ") == 1 and "MLflow failed" in said
    assert [event["event"] for event in events(folder)] == ["logger_failed", "epoch", "epoch", "end"]
