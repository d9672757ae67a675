"""Runs that are killed, and go on: the same weights, bit for bit, as of a run that nothing happened to."""

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import demo
from forked import finish, start, until
from test_fit import table, weights

from prixfixe.common.errors import BusyError, InputError, InterruptedRunError
from prixfixe.runs import checkpoint
from prixfixe.runs.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from prixfixe.runs.folder import RunFolder
from prixfixe.training import experiment
from prixfixe.training import fit as fit_module
from prixfixe.training import state as training_state
from prixfixe.training.experiment import run
from prixfixe.training.signals import STOPPING, stop_request

TRAIN = [sys.executable, "-m", "prixfixe", "train", "experiment=demo", "hydra.mode=RUN", "training.device=cpu"]


def command(folder: Path, promoters: Path, *overrides: str) -> subprocess.Popen[str]:
    """`prixfixe train` as a user starts it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [*TRAIN, "dataset=table", f"dataset.path={promoters}", f"hydra.run.dir={folder}", *overrides]
    return subprocess.Popen(arguments, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def results(folder: Path) -> tuple[bytes, Any, Any]:
    """What must be the same: the weights, the scores, the history without its clock."""
    scores = json.loads((folder / "metrics.json").read_text())
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds").to_dict("records")
    return (
        weights(folder),
        {k: scores[k] for k in ("kl", "pearson_r", "spearman_rho", "mse", "best_epoch", "steps")},
        history,
    )


COMBINATIONS = {
    "autosome": ("autosome", "parallel_conv", "bilstm", "mlp", "optim=onecycle"),
    "bhi": ("bhi", "conv", "efficientnet", "soft_bins", "optim=published"),
    "unlockdna": ("unlockdna", "kmer", "proformer", "expression_heads", "optim=published"),
}


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(
    combination: str, promoters: Path, tmp_path: Path
) -> None:
    config = table(demo(*COMBINATIONS[combination]), promoters, epochs=8, batch_size=16, checkpoint_minutes=0.0005)
    finish(start(config, tmp_path / "whole"), tmp_path / "whole")
    folder, chance = RunFolder(tmp_path / "killed"), random.Random(combination)
    for _ in range(4):
        before = checkpoints(folder.path)[:1]
        process = start(config, folder.path)
        until(lambda before=before, process=process: checkpoints(folder.path)[:1] != before or not process.is_alive())
        time.sleep(chance.uniform(0, 0.2))  # at any instant after it has come further than before
        process.kill()
        process.join()
    assert "going on after step" in finish(start(config, folder.path), folder.path)
    assert results(folder.path) == results(tmp_path / "whole")
    assert not checkpoints(folder.path), "a run that is done needs none"
    events = [json.loads(line)["event"] for line in folder.log_file.read_text().splitlines()]
    assert events.count("start") == 5
    assert events.count("resume") >= 4
    assert events[-1] == "end"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_a_run_with_a_clean_save(name: str, promoters: Path, tmp_path: Path) -> None:
    number, folder = signal.Signals[name], RunFolder(tmp_path / "run")
    process = command(folder.path, promoters, "recipe=bhi", "final=mlp", "training.epochs=1000")
    until(lambda: folder.history_file.exists() or process.poll() is not None)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if name == "SIGINT" else -number)
    assert f"interrupted by {name} after step" in errors
    assert "Traceback" not in errors
    status = folder.status()
    assert status["state"] == "failed"
    assert status["reason"].startswith(f"interrupted by {name} after step")
    assert len(checkpoints(folder.path)) == 1
    assert not list(folder.path.glob("lock.*"))
    assert folder.state() == "failed"


@pytest.mark.parametrize("number", STOPPING)
def test_every_signal_that_schedulers_send_is_heard(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, _: heard.append(number))
    try:
        with stop_request() as stop:
            signal.raise_signal(number)
            assert (stop.signal, heard) == (number, [])
            signal.raise_signal(number)
            assert heard == [signal.SIGINT] * (number == signal.SIGINT), (
                "a second Ctrl-C acts; schedulers repeat themselves"
            )
        heard.clear()
        signal.raise_signal(number)
        assert heard == [number], "handlers are those of before"
        signal.signal(number, signal.SIG_IGN)
        with stop_request() as stop:
            signal.raise_signal(number)
            assert stop.signal is None, "what is ignored stays ignored"
    finally:
        signal.signal(number, before)


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the next run asked to stop during one of its steps."""
    backward, calls = fit_module.backward, []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(*arguments, **options)

    monkeypatch.setattr(fit_module, "backward", counted)


def interrupted(config: dict[str, Any], folder: Path, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(step, patch)
        with pytest.raises(InterruptedRunError, match=rf"interrupted by SIGTERM after step {step} of"):
            run(config, folder, show_progress=False)


@pytest.mark.parametrize("step", [1, 6, 7, 12])  # 6 steps an epoch
def test_any_step_is_one_to_go_on_from(step: int, promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "bilstm", "soft_bins"), promoters, epochs=3, batch_size=16)
    run(config, tmp_path / "whole", show_progress=False)
    interrupted(config, tmp_path / "killed", step)
    run(config, tmp_path / "killed", show_progress=False)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    promoters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=2, batch_size=16, checkpoint_minutes=0)
    run(config, tmp_path / "whole", show_progress=False)
    interrupted(config, tmp_path / "killed", 9)
    newest, _ = checkpoints(tmp_path / "killed")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    capsys.readouterr()
    run(config, tmp_path / "killed", show_progress=True)
    errors = capsys.readouterr().err
    assert f"{newest} is damaged and removed" in errors
    assert "going on after step 8 of" in errors
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["empty", "cut", "other file"])
def test_no_damage_to_a_checkpoint_is_fatal(damage: str, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5.0)}
    save_checkpoint(tmp_path, 1, tensors, {"x": 1})
    path = save_checkpoint(tmp_path, 2, tensors, {"x": 2})
    path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-3], "other file": b"PK" * 100}[damage])
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found[1] == {"x": 1}
    torch.testing.assert_close(found[0]["a"], tensors["a"])
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_a_full_disk_fails_with_that_reason_and_loses_nothing(
    promoters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=2, batch_size=16, checkpoint_minutes=0)
    run(config, tmp_path / "whole", show_progress=False)
    folder = tmp_path / "full"
    interrupted(config, folder, 4)
    before = [path.name for path in checkpoints(folder)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = checkpoints(folder)[0].stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # no file may grow to a checkpoint's size
    try:
        with pytest.raises(OSError, match="File too large"):
            run(config, folder, show_progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    status = RunFolder(folder).status()
    assert status["state"] == "failed"
    assert "File too large" in status["reason"]
    assert [path.name for path in checkpoints(folder)] == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "no half-written file is left"
    run(config, folder, show_progress=False)
    assert results(folder) == results(tmp_path / "whole")


def test_a_disk_without_a_byte_left_fails_with_that_reason(promoters: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        config = table(demo("bhi", "conv", "efficientnet", "soft_bins"), promoters, epochs=40, checkpoint_minutes=0)
        run_folder = disk / "run"
        process = start(config, run_folder)
        until(lambda: checkpoints(run_folder) or not process.is_alive())
        with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
            while True:
                filler.write(b"x" * 4096)
                filler.flush()
        process.join(120)
        assert process.exitcode == 1
        (disk / "filler").unlink()
        assert "No space left on device" in Path(f"{run_folder}.err").read_text()
        assert checkpoints(run_folder)
        assert "going on after step" in finish(start(config, run_folder), run_folder)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_another_configuration_is_refused_unless_forced(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=1)
    run(config, tmp_path, show_progress=False)
    before = results(tmp_path)
    other = {**config, "seed": 7}
    with pytest.raises(InputError, match=r"seed: 0 there, 7 here.*--force"):
        run(other, tmp_path, show_progress=False)
    assert results(tmp_path) == before
    run({**other, "force": True}, tmp_path, show_progress=False)
    assert results(tmp_path) != before
    assert RunFolder(tmp_path).config()["seed"] == 7


def test_a_forced_run_that_is_started_again_goes_on(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=2)
    starts = {
        "the user forces it": (1, 1),
        "its launcher starts it again": (1, 2),
        "the user forces it again": (2, 1),
        "no force": (False, 2),
    }
    for who, (force, after) in starts.items():
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedRunError, match=f"after step {after} of"):
            interrupt_at(1, patch)
            run({**config, "force": force}, tmp_path, show_progress=False)
        assert load_checkpoint(tmp_path)[1]["account"]["step"] == after, who


def test_a_run_keeps_the_precision_that_it_began_with(promoters: Path, tmp_path: Path) -> None:
    """It may begin on a GPU, where auto is bf16, and go on without one."""
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        settings = experiment.training_settings
        patch.setattr(experiment, "training_settings", lambda node: {**settings(node), "precision": "bf16"})
        interrupted(config, tmp_path, 1)
    assert run(config, tmp_path, show_progress=False)["precision"] == "bf16"


def test_identity_is_configuration_and_content_and_nothing_else(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=1)
    metrics = run(config, tmp_path / "run", show_progress=False)
    moved = tmp_path / "elsewhere.tsv"
    moved.write_bytes(promoters.read_bytes())
    same = table(
        {**config, "sweep": "other", "logger": None, "force": True},
        moved,
        epochs=1,
        micro_batch=64,
        checkpoint_minutes=1,
    )
    assert run(same, tmp_path / "run", show_progress=False)["training_seconds"] == metrics["training_seconds"]
    moved.write_text(moved.read_text() + "ACGTACGT\t3\n")
    with pytest.raises(InputError, match="the content of the data"):
        run({**same, "force": False}, tmp_path / "run", show_progress=False)


def test_what_two_processes_want_one_gets(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=1000)
    process = start(config, tmp_path / "run")
    try:
        until(lambda: (tmp_path / "run" / "history.csv").exists() or not process.is_alive())
        with pytest.raises(BusyError, match=f"is being trained by process {process.pid} on"):
            run(config, tmp_path / "run", show_progress=False)
        assert RunFolder(tmp_path / "run").state() == "running"
    finally:
        process.kill()
        process.join()
    assert RunFolder(tmp_path / "run").state() == "stopped"


def test_checkpoints_hold_no_code(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=2)
    interrupted(config, tmp_path, 1)
    (path,) = checkpoints(tmp_path)
    assert b"pickle" not in path.read_bytes()
    assert int.from_bytes(path.read_bytes()[:8], "little") < 10**6  # safetensors: the length of a JSON header
    assert checkpoint.KEPT == 2
    assert training_state.PREDICTED == "predicted"


def test_a_checkpoint_that_goes_while_the_folder_is_read_is_passed_over(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 7, {"weight": torch.ones(2)}, {})
    (tmp_path / f"checkpoint-000000005-{'0' * 16}.safetensors").symlink_to(tmp_path / "gone")  # listed, but not there
    assert checkpoints(tmp_path) == [path]
