"""The published timing protocol on other assays (Rafi et al. 2024, Methods): training batches a second, and sequences a
second without gradients by batch size, doubled from 32 until memory or patience ends; DREAM models beside each assay's
peers, in turns, in one run.

The published protocol has 5,000 batches and 50 repeats on a V100; how many were taken here is in each note. Weights are
the initial ones, sequences random: neither changes the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from figures import Figure, Options, in_turns, seconds
from networks import configuration, training_step

from prixfixe.common.memory import halved
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.sequences import Sequences
from prixfixe.networks.network import Network, build
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe, build_task

LARGEST = {"cpu": 128, "cuda": 1 << 16}  # sequences at a time
BATCHES = {"cpu": 2, "cuda": 100}  # of one turn of training
SCORED = {"cpu": 1, "cuda": 100}  # of one turn of prediction
ROWS = 512
DREAM = {
    "DREAM-CNN": ("first=parallel_conv", "core=efficientnet"),
    "DREAM-RNN": ("first=parallel_conv", "core=bilstm"),
    "DREAM-Attn": ("first=conv", "core=proformer"),
}


@dataclass(frozen=True)
class Assay:
    """batch: samples of a training step. nucleotides, tasks, profile: of a row. models: overrides, by name."""

    batch: int
    nucleotides: int
    tasks: int
    models: dict[str, tuple[str, ...]]
    profile: int = 0


def dream(experiment: str, *names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"experiment={experiment}", *DREAM[name]) for name in names}


ASSAYS = {
    "STARR-seq": Assay(32, 249, 2, {**dream("starrseq", *DREAM), "DeepSTARR": ("experiment=deepstarr",)}),
    "lentiMPRA": Assay(
        32,
        230,
        1,
        {
            **dream("lentimpra", *DREAM),
            "MPRAnn": ("experiment=mprann",),
            "MPRALegNet": ("experiment=mpralegnet",),
        },
    ),
    # DREAM-Attn was not run there (Rafi et al. 2024): attention over 2,114 positions
    "ATAC": Assay(
        64, 2114, 0, {**dream("atac", "DREAM-CNN", "DREAM-RNN"), "BPNet": ("experiment=chrombpnet",)}, profile=1000
    ),
}


def measure(options: Options) -> list[Figure]:
    figures = []
    for name, assay in ASSAYS.items():
        figures += of_assay(name, assay, options)
    return figures


def of_assay(name: str, assay: Assay, options: Options) -> list[Figure]:
    device, kind = options.device, options.device.type
    batch = 4 if options.quick else assay.batch
    networks = {model: built(assay, overrides, device) for model, overrides in assay.models.items()}
    training = {model: training_turn(*parts, batch, device) for model, parts in networks.items()}
    times = in_turns(training, options.repeats, device, BATCHES[kind])
    peer = list(networks)[-1]
    figures = []
    for model, (_, network, _, _) in networks.items():
        note = f"batches of {batch}, fp32, {BATCHES[kind]} a turn; {network.parameter_count():,} parameters"
        figures.append(
            Figure(
                f"{name}, training, {model}",
                1 / times[model],
                "batches/s",
                compared_with=f"{name}: {peer}",
                compared=1 / times[peer],
                gain=times[peer] / times[model],
                repeats=options.repeats,
                note=note,
            )
        )
    for model, parts in networks.items():
        rates = throughput(*parts, options)
        best = max(rates, key=lambda size: rates[size])
        by_size = ", ".join(f"{size}: {rate:,.4g}" for size, rate in rates.items())
        figures.append(
            Figure(
                f"{name}, prediction, {model}",
                rates[best],
                "sequences/s",
                repeats=options.repeats,
                note=f"best of sequences/s by batch ({by_size})",
            )
        )
    return figures


def built(assay: Assay, overrides: tuple[str, ...], device: torch.device) -> tuple[Recipe, Network, Task, Samples]:
    config = configuration(*overrides)
    recipe, task, rows = build_recipe(config), build_task(config), random_rows(assay, 16 if assay.profile else ROWS)
    task = task.fitted(rows)
    torch.manual_seed(0)
    network = build(recipe, config, task).to(device)
    wanted = (*network.training_columns, *recipe.takes, *recipe.orders_by, *task.columns)
    columns = {name: rows.columns[name] for name in wanted}
    expression = rows.expression if rows.tasks else None
    return recipe, network, task, recipe.load(rows.sequences, device, expression, columns=columns)


def random_rows(assay: Assay, count: int) -> Measurements:
    rng = np.random.default_rng(0)
    margin = 500 if assay.profile else 0  # for windows that move
    length = assay.nucleotides + 2 * margin
    letters = rng.integers(0, 4, (count, length), dtype=np.uint8)
    columns: dict[str, Any] = {"is_reverse": rng.random(count) < 0.5}
    if assay.profile:
        counts = rng.poisson(0.5, (count, assay.profile + 2 * margin)).astype(np.float32)
        columns |= {"profile": counts, "is_peak": rng.random(count) < 0.9}
    expression = rng.normal(size=(count, assay.tasks)) if assay.tasks != 1 else rng.normal(size=count)
    names = tuple(f"task{number}" for number in range(assay.tasks))
    return Measurements(Sequences.from_padded(letters, np.full(count, length)), expression, names, columns=columns)


def training_turn(
    recipe: Recipe, network: Network, task: Task, samples: Samples, batch: int, device: torch.device
) -> Callable[[], object]:
    """One training step on a batch that is drawn and encoded for it."""
    step, generator = training_step(network, recipe, torch.float32), torch.Generator(device).manual_seed(0)
    numbers = itertools.count()

    def turn() -> object:
        chosen = (torch.arange(batch, device=device) + batch * next(numbers)) % len(samples)
        return step(recipe.training_batch(samples, chosen, task, generator, network.training_columns))

    return turn


def throughput(recipe: Recipe, network: Network, task: Task, samples: Samples, options: Options) -> dict[int, float]:
    """Sequences a second by batch size, doubled from 32 as long as memory holds the batch."""
    network.eval()
    kind, rates, size = options.device.type, {}, 4 if options.quick else 32
    while size <= (4 if options.quick else LARGEST[kind]):
        rows = torch.arange(size, device=options.device) % len(samples)
        batch = recipe.encode(samples, rows, torch.zeros_like(rows, dtype=torch.bool), None)
        batch |= {key: samples[key][rows] for key in network.columns}
        work = partial(forward, network, batch)
        try:
            taken = [seconds(work, options.device, SCORED[kind]) for _ in range(options.repeats + 1)][1:]
        except RuntimeError as error:
            if halved(size, error) is None:
                raise
            break
        rates[size] = size / float(np.median(taken))
        size *= 2
    return rates


@torch.no_grad()
def forward(network: Network, batch: dict[str, torch.Tensor]) -> object:
    return network.forward(batch)
