"""One run on several devices: processes that share every step, with gloo on the CPU."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import demo
from forked import finish, ranks, start, until
from test_fit import table

from blocks.recipe.autosome import Autosome
from prixfixe.contract import Batch
from prixfixe.data.recipe import Samples
from prixfixe.runs.checkpoint import checkpoints
from prixfixe.runs.folder import RunFolder
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe
from prixfixe.training.experiment import run
from prixfixe.training.processes import Processes

LORA = "core.train.lora.rank=2"


class Seen(Autosome):
    """Writes down which samples each process computes with."""

    def training_batch(self, samples: Samples, chosen: torch.Tensor, task: Task, *others: Any) -> Batch:
        return {**super().training_batch(samples, chosen, task, *others), "number": chosen}

    def cut(self, batch: Batch, parts: int) -> list[Batch]:
        if parts == 1:  # what is computed at once, of which a process has its part
            with open(os.environ["SEEN"] + os.environ.get("RANK", "0"), "a") as file:
                file.write(" ".join(map(str, batch["number"].tolist())) + "\n")
        return super().cut(batch, parts)


def configuration(promoters: Path, **training: Any) -> dict[str, Any]:
    return table(demo("autosome", "conv", "efficientnet", "soft_bins"), promoters, batch_size=16, **training)


def start_all(config: dict[str, Any], folder: Path, count: int, **environment: str) -> list[Any]:
    """Each says what it has to say in FOLDER.err, so one at a time is asked."""
    return [start(config, folder, {**rank, **environment}) for rank in ranks(count)]


def finish_all(processes: list[Any], folder: Path) -> str:
    return [finish(process, folder) for process in processes][-1]


def steps(prefix: Path, count: int) -> list[list[int]]:
    """The samples of every step, in the order of the processes."""
    parts = [Path(f"{prefix}{rank}").read_text().splitlines() for rank in range(count)]
    tried, *found = [[int(number) for part in step for number in part.split()] for step in zip(*parts, strict=True)]
    assert tried == found[0], "whether the first step fits into memory is tried before it"
    return found


def test_two_processes_see_what_one_sees_and_score_the_same(promoters: Path, tmp_path: Path) -> None:
    config = configuration(promoters, epochs=2)
    config["recipe"] = {**config["recipe"], "_target_": "test_processes.Seen"}
    for count in (1, 2):
        folder = tmp_path / f"run{count}"
        said = finish_all(
            start_all(config, folder, count, SEEN=str(tmp_path / f"{count}-"), PYTHONPATH=str(Path(__file__).parent)),
            folder,
        )
        assert said.count("epoch 1/2") == 1, "one process speaks"
    one, two = steps(tmp_path / "1-", 1), steps(tmp_path / "2-", 2)
    assert one == two, "every step has the same samples, however many processes share it"
    for epoch in (one[: len(one) // 2], one[len(one) // 2 :]):
        samples = sorted(number for step in epoch for number in step)
        assert samples == list(range(len(samples))), "every sample of an epoch is seen once"
    histories = [pd.read_csv(tmp_path / f"run{count}" / "history.csv") for count in (1, 2)]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=0.1)
    assert RunFolder(tmp_path / "run2").read_json(tmp_path / "run2" / "metrics.json")["processes"] == 2


@pytest.mark.parametrize("core, train", [("bilstm", ()), ("proformer", ("first.train.frozen=true", LORA))])
def test_without_blocks_that_normalise_two_processes_compute_what_one_does(
    core: str, train: tuple[str, ...], promoters: Path, tmp_path: Path
) -> None:
    """Without dropout: the same gradients, so the same losses to rounding."""
    config = demo("autosome", "parallel_conv", core, "soft_bins", "first.dropout=0", "core.dropout=0", *train)
    config["core"] |= {key: 0.0 for key in config["core"] if "dropout" in key}
    config = table(config, promoters, epochs=2, batch_size=16)
    for count in (1, 2):
        finish_all(start_all(config, tmp_path / f"run{count}", count), tmp_path / f"run{count}")
    histories = [pd.read_csv(tmp_path / f"run{count}" / "history.csv") for count in (1, 2)]
    for column in ("loss", "kl", "pearson_r"):
        np.testing.assert_allclose(histories[0][column], histories[1][column], rtol=1e-3)


def test_resumed_with_as_many_processes_a_run_is_exact_and_with_others_refused(promoters: Path, tmp_path: Path) -> None:
    config = configuration(promoters, epochs=4, checkpoint_minutes=0)
    finish_all(start_all(config, tmp_path / "whole", 2), tmp_path / "whole")
    folder = RunFolder(tmp_path / "killed")
    processes = start_all(config, folder.path, 2)
    until(lambda: checkpoints(folder.path) or not processes[0].is_alive())
    for process in processes:
        process.kill()
        process.join()
    assert folder.state() == "stopped"
    before = [path.name for path in checkpoints(folder.path)]

    alone = start(config, folder.path)
    alone.join()
    assert alone.exitcode == 1
    said = Path(f"{folder.path}.err").read_text()
    assert "was begun with 2 processes and goes on with as many only, not with 1" in said
    assert [path.name for path in checkpoints(folder.path)] == before, "and nothing is lost"
    assert "going on after step" in finish_all(start_all(config, folder.path, 2), folder.path)
    assert folder.weights_file.read_bytes() == (tmp_path / "whole" / "weights.safetensors").read_bytes()


def test_torchrun(promoters: Path, tmp_path: Path) -> None:
    """The documented command: it trains, stops with a save when asked to, goes on, and speaks once."""
    folder = RunFolder(tmp_path / "run")
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "prixfixe",
        "train",
    ]
    command = [*torchrun, "experiment=demo", "hydra.mode=RUN", "recipe=bhi", "training.device=cpu", "dataset=table"]
    command += [
        f"dataset.path={promoters}",
        f"hydra.run.dir={folder.path}",
        "training.epochs=40",
        "training.checkpoint_minutes=0",
    ]
    options: dict[str, Any] = {
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    process = subprocess.Popen(command, **options)
    until(lambda: checkpoints(folder.path) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert str(folder.status()["reason"]).startswith("interrupted by SIGTERM")

    process = subprocess.Popen(command, **options)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert len(re.findall("Pearson r", output)) == 1
    assert errors.count("going on after step") == 1
    assert folder.status()["state"] == "done"


def test_a_sweep_under_torchrun_is_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    command = [sys.executable, "-m", "prixfixe", "train", "experiment=demo"]
    process = subprocess.run(command, env=environment, cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert process.returncode == 2
    assert "torchrun trains one run on several devices; a sweep is many runs" in process.stderr


def test_one_process_adds_nothing_up() -> None:
    recipe, batch = build_recipe(demo("autosome", "conv", "efficientnet", "mlp")), {"x": torch.arange(10)}
    parts = [Processes(rank, 3).part(recipe, batch)["x"] for rank in range(3)]
    assert torch.cat(parts).tolist() == list(range(10)) and Processes().part(recipe, batch) is batch
    assert [len(part) for part in parts] == [3, 3, 4]
    network = torch.nn.Linear(2, 1)
    assert Processes().add_up(network, torch.tensor(1.0), asked=True) is True
    assert network.weight.grad is None


def test_gradients_and_loss_are_summed_in_the_same_memory_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(3))  # three processes that do the same
    network, together = torch.nn.Linear(2, 3), Processes(0, 3)
    network.unused = torch.nn.Parameter(torch.ones(4))
    memory = set()
    for step in range(3):
        loss = network(torch.full((5, 2), step + 1.0)).square().sum()
        loss.backward()
        expected = [None if p.grad is None else 3 * p.grad for p in network.parameters()]
        summed = loss.detach().clone()
        assert bool(together.add_up(network, summed, asked=step == 2)) is (step == 2)
        torch.testing.assert_close(summed, 3 * loss.detach())
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, torch.zeros(4) if gradient is None else gradient)
        memory.add(together.flat[0].data_ptr())
        network.zero_grad()
    assert len(memory) == 1 and together == Processes(0, 3)


def test_a_step_too_small_for_its_processes_is_refused(promoters: Path, tmp_path: Path) -> None:
    config = configuration(promoters, epochs=1)
    config["training"]["batch_size"] = 1
    processes = start_all(config, tmp_path / "two", 2)
    for process in processes:
        process.join()
        assert process.exitcode == 1
    assert (
        "training.batch_size=1 is too few samples a step for 2 processes" in Path(f"{tmp_path / 'two'}.err").read_text()
    )


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus(promoters: Path, tmp_path: Path) -> None:
    config = configuration(promoters, epochs=1)
    config["training"]["device"] = "cuda"
    finish_all(start_all(config, tmp_path / "run", 2), tmp_path / "run")
    began = time.time()
    assert run(config, tmp_path / "run", show_progress=False)["processes"] == 2
    assert time.time() - began < 60
