"""What a step is made of: units that are never torn, losses that are means over what they count, scorings within an
epoch, and the end of patience."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ONE_OF_EACH, demo
from safetensors.numpy import load_file
from torch import nn

from prixfixe.contract import Batch
from prixfixe.menu.check import example_rows, loaded
from prixfixe.networks.network import Network, build
from prixfixe.tasks.scores import Score
from prixfixe.training.build import build_recipe
from prixfixe.training.experiment import run
from prixfixe.training.fit import remaining_steps
from prixfixe.training.gradients import backward
from prixfixe.training.job import Data, Job
from prixfixe.training.processes import Processes


def in_double(config: dict[str, Any], missing: bool = False) -> tuple[Any, Network, Batch]:
    """A network in float64 without dropout, batch norm as in eval mode, and a batch of it."""
    torch.manual_seed(0)
    recipe = build_recipe(config)
    task, rows = example_rows(config, recipe)
    network = build(recipe, config, task).double().train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            module.eval()
    _, batch = loaded(recipe, task, rows, network)
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    if missing:
        batch["y"] = batch["y"].clone()
        batch["y"][::3] = math.nan
        batch["y_probs"] = batch["y_probs"].clone()
        batch["y_probs"][::3] = math.nan
    return recipe, network, batch


def gradients(network: Network) -> list[torch.Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    return found


@pytest.mark.parametrize("missing", [False, True], ids=["measured", "some missing"])
@pytest.mark.parametrize(
    "choices",
    ONE_OF_EACH,
    ids="+".join,
)
def test_any_number_of_parts_and_processes_gives_the_gradient_of_one_step(
    choices: tuple[str, ...], missing: bool
) -> None:
    """Mask filling included: unlockdna masks other numbers of nucleotides in every part."""
    masks = ("recipe.mask_share=0.3",) if choices[0] == "unlockdna" else ()
    recipe, network, batch = in_double(demo(*choices, *masks), missing)
    loss, _ = backward(network, recipe, batch, None, torch.float32, 0)
    whole = gradients(network)
    for micro_batch in (1, 3, 5):
        if choices[0] == "bhi" and micro_batch == 1:
            continue  # mlp normalises over the batch: one sample is refused
        in_parts, _ = backward(network, recipe, batch, micro_batch, torch.float32, 0)
        torch.testing.assert_close(in_parts, loss, rtol=1e-6, atol=1e-9, check_dtype=False)
        for one, other in zip(whole, gradients(network), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    for count in (2, 3):
        total = torch.zeros(())
        summed = [torch.zeros_like(p) for p in network.parameters()]
        for rank in range(count):
            part = Processes(rank, count).part(recipe, batch)
            own, _ = backward(network, recipe, part, 3, torch.float32, 0, step_sizes=network.sizes(batch))
            total = total + own
            summed = [one + other for one, other in zip(summed, gradients(network), strict=True)]
        torch.testing.assert_close(total, loss, rtol=1e-6, atol=1e-9, check_dtype=False)
        for one, other in zip(whole, summed, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_units_are_never_torn() -> None:
    recipe = build_recipe(demo("bhi", "conv", "efficientnet", "soft_bins"))
    recipe.unit = 4
    batch = {"x": torch.arange(22)}
    for parts in range(1, 9):
        cut = recipe.cut(batch, parts)
        assert len(cut) == min(parts, 6)
        assert torch.cat([part["x"] for part in cut]).equal(batch["x"])
        assert all(len(part["x"]) % 4 == 0 for part in cut[:-1])
        sizes = [len(part["x"]) for part in cut]
        assert max(sizes) - min(sizes) <= 4 + 2


def test_the_order_of_what_is_left_is_that_of_the_whole() -> None:
    config = demo("autosome", "conv", "efficientnet", "soft_bins", "training.batch_size=16")
    recipe = build_recipe(config)
    task, rows = example_rows(config, recipe)
    samples = recipe.load(rows.sequences, torch.device("cpu"), rows.expression)

    class Loop:
        epochs, batch_size, seed = 3, 5, 7

    nothing: Any = None
    loop: Any = Loop()
    job = Job(nothing, recipe, Data(samples, samples, rows, task), nothing, nothing, loop, *[nothing] * 5)
    generator = torch.Generator()
    every = [chosen.tolist() for chosen in remaining_steps(job, 0, generator)]
    assert len(every) == 3 * recipe.steps(samples, 5) == job.total_steps
    for done in (1, 2, 3, 4, 8):
        assert [chosen.tolist() for chosen in remaining_steps(job, done, generator)] == every[done:]


def small(**training: Any) -> dict[str, Any]:
    overrides = (f"training.{key}={value}" for key, value in training.items())
    size = ("dataset.size=200", "first.channels=8", "core.widths=[8]")
    return demo("autosome", "conv", "efficientnet", "soft_bins", *size, *overrides)


def test_scores_within_an_epoch(tmp_path: Path) -> None:
    config = small(epochs=1, batch_size=40, score_every=4)
    metrics = run(config, tmp_path / "run", show_progress=False)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert metrics["steps"] == 9
    assert history["step"].tolist() == [4, 8, 9], "the last step is always scored"
    assert history["epoch"].tolist() == [1, 1, 1]
    best = history["pearson_r"].idxmax()
    np.testing.assert_allclose(metrics["pearson_r"], history["pearson_r"][best])
    scored_often = load_file(tmp_path / "run" / "weights.safetensors")
    run(small(epochs=1, batch_size=40), tmp_path / "once", show_progress=False)
    if best == 2:
        once = load_file(tmp_path / "once" / "weights.safetensors")
        assert all(np.array_equal(once[name], scored_often[name]) for name in once), "scoring changes nothing"


def test_a_run_ends_at_the_end_of_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that never get better end a run after `patience` scorings, with the weights of the first."""
    monkeypatch.setattr(Score, "better", lambda self, value, than: False)
    config = small(epochs=20, batch_size=60, patience=3)
    metrics = run(config, tmp_path / "run", show_progress=False)
    assert metrics["best_epoch"] == 1 and metrics["epochs"] == 4
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"


@pytest.mark.parametrize("stopped", [3, 4, 6])
def test_resume_within_an_epoch_that_is_scored_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: int
) -> None:
    import prixfixe.training.fit as fit_module

    config = small(epochs=2, batch_size=50, score_every=3, checkpoint_minutes=0, patience=9)
    run(copy.deepcopy(config), tmp_path / "whole", show_progress=False)
    calls = 0

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stopped + 1:
            raise KeyboardInterrupt
        return backward(*arguments, **keywords)

    monkeypatch.setattr(fit_module, "backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(copy.deepcopy(config), tmp_path / "run", show_progress=False)
    run(copy.deepcopy(config), tmp_path / "run", show_progress=False)
    for name in ("weights.safetensors", "validation.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = (pd.read_csv(tmp_path / folder / "history.csv").drop(columns="seconds") for folder in ("run", "whole"))
    pd.testing.assert_frame_equal(one, other)
