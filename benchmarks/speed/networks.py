"""Networks, batches and peak rates that several sections measure with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import hydra
import numpy as np
import torch
from figures import at_a_time, seconds
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prixfixe.common.paths import conf_folder
from prixfixe.contract import Batch
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.sequences import Sequences
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK
from prixfixe.networks.network import Network, build
from prixfixe.training.build import build_optimizer, build_recipe, build_task
from prixfixe.training.gradients import backward, seed_from

OPTIM = {
    "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.01, "fused": True},
    "schedule": {
        "_target_": "prixfixe.training.optim.OneCycle",
        "max_lr": 0.001,
        "initial_division": 25,
        "warmup": 0.3,
    },
}
STEPS = 100_000  # of the schedule; long enough that every measured step is at its beginning
DREAM = ("dream_cnn", "dream_rnn", "dream_attn")


def promoters(count: int, seed: int = 0) -> Measurements:
    """Random promoters of 80 nucleotides between the yeast construct's flanks; expression 0 to 17, six in ten
    integers."""
    rng = np.random.default_rng(seed)
    flanks = [Sequences.from_strings([flank]).padded() for flank in (LEFT_FLANK, RIGHT_FLANK)]
    left, right = (np.repeat(flank, count, axis=0) for flank in flanks)
    codes = np.concatenate([left, rng.integers(0, 4, (count, 80), dtype=np.uint8), right], axis=1)
    expression = rng.uniform(0, 17, count)
    expression = np.where(rng.random(count) < 0.58, expression.round(), expression)
    return Measurements(
        Sequences.from_padded(codes, np.full(count, codes.shape[1], dtype=np.int32)), expression, ("expression",)
    )


def configuration(*overrides: str) -> dict[str, Any]:
    """The parts of a combination, as `prixfixe train OVERRIDES` would build them."""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train", list(overrides))
    return {
        name: OmegaConf.to_container(config[name], resolve=True)
        for name in ("task", "recipe", "first", "core", "final")
    }


def built(config: Mapping[str, Any], data: Measurements, device: torch.device) -> tuple[Recipe, Network, Samples]:
    """A recipe, its network with the initial weights of seed 0, and the encoded promoters, on the device."""
    recipe = build_recipe(config)
    torch.manual_seed(0)
    network = build(recipe, config, build_task(config).fitted(data)).to(device)
    return recipe, network, recipe.load(data.sequences, device, data.expression)


def training_step(network: Network, recipe: Recipe, precision: torch.dtype) -> Callable[[Batch], Tensor]:
    """One step as `prixfixe train` takes it: takes a batch, returns the loss without waiting for the device."""
    optimizer, scheduler = build_optimizer(network, {"optim": OPTIM}, STEPS)
    numbers = itertools.count()
    micro_batch = None

    def step(batch: Batch) -> Tensor:
        nonlocal micro_batch
        network.train()
        loss, micro_batch = backward(network, recipe, batch, micro_batch, precision, seed_from(0, next(numbers)))
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        return loss

    return step


def operations(network: Network, batch: Batch) -> float:
    """Floating-point operations of one training step a sample: matrix products and convolutions forward, and twice that
    backward."""
    on_a_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=on_a_cpu) as counter:
        network(batch)
    count = counter.get_total_flops()
    length = batch["x"].shape[2]
    for layer in network.modules():
        if isinstance(layer, nn.LSTM):  # which torch's counter does not know
            gates = 4 * layer.hidden_size * (layer.input_size + layer.hidden_size)
            count += 2 * gates * (2 if layer.bidirectional else 1) * length * len(batch["x"])
    return 3 * count / len(batch["x"])


def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Operations of attention, which torch's counter knows on GPUs only; shapes (B, heads, L, width)."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def peak(device: torch.device, precision: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, the best this machine does.

    On a GPU fp32 means TF32, which torch's convolutions and LSTM use.
    """
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=precision)
    as_before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else as_before)
    times = [seconds(lambda: a @ a, device, at_a_time(device)) for _ in range(10)]
    torch.set_float32_matmul_precision(as_before)
    return 2 * size**3 / min(times)


def bandwidth(device: torch.device) -> float:
    """Bytes per second that are read and written while a large tensor is copied."""
    source = torch.ones(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [seconds(lambda: target.copy_(source), device, at_a_time(device)) for _ in range(10)]
    return 2 * len(source) / min(times)
