"""The training step of the three DREAM models at published size, against the same network and step written plainly in
eager fp32."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import plain
import torch
from figures import Figure, Options, at_a_time, in_turns, seconds, utilisation
from networks import DREAM, STEPS, built, configuration, operations, peak, promoters, training_step
from torch import Tensor, nn
from torch.utils.data import DataLoader

from prixfixe.contract import Batch
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe
from prixfixe.menu.check import example_task
from prixfixe.networks.network import Network

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(options: Options) -> list[Figure]:
    size = 1024 if options.device.type == "cuda" else 64
    models = DREAM[:1] if options.quick else DREAM
    # compiling is counted from its beginning: nothing is there of earlier ones
    with tempfile.TemporaryDirectory() as empty, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=empty):
        return [figure for model in models for figure in steps(model, 8 if options.quick else size, options)]


def steps(model: str, size: int, options: Options) -> list[Figure]:
    device = options.device
    data = promoters(max(20 * size, 2000))
    recipe, network, samples = built(configuration(f"experiment={model}"), data, device)
    compared = plain.like(plain.network(model), network).to(device)
    task, generator = example_task(), torch.Generator(device).manual_seed(0)

    def batches() -> Iterator[Batch]:
        for number in itertools.count():
            torch.manual_seed(number)
            yield recipe.training_batch(
                samples, torch.randint(2 * len(samples), (size,), device=device), task, generator
            )

    usual = "bf16" if device.type == "cuda" else "fp32"  # what training.precision=auto takes
    compiled = f"{usual}, compiled"
    precisions = {**PRECISIONS, compiled: PRECISIONS[usual]}
    compiling = []
    for _ in range(2):  # as a sweep's first job does, and as the next ones do
        torch._dynamo.reset()
        _, twin, _ = built(configuration(f"experiment={model}"), data, device)
        twin.compile(dynamic=False)
        step, batch = stepper(twin, recipe, precisions[compiled]), next(batches())
        # the steps of an epoch have two sizes, and each is compiled
        compiling.append(
            sum(
                seconds(partial(step, {key: value[smaller:] for key, value in batch.items()}), device)
                for smaller in (0, 1)
            )
        )
    networks = {"plain": compared, **dict.fromkeys(PRECISIONS, network), compiled: twin}
    works: dict[str, Callable[[], object]] = {"encoding": partial(next, batches())}
    for name, chosen in networks.items():
        step, given = stepper(chosen, recipe, precisions.get(name)), batches()
        works[name] = lambda step=step, given=given: step(next(given))
    with_loader = loader_rate(compared, recipe, data, size, device) if device.type == "cuda" else None
    times = in_turns(works, options.repeats, device, at_a_time(device))
    agreement = curves(model, size, options)
    flops = operations(network, next(batches()))
    figures = []
    for name, precision in precisions.items():
        rate = size / times[name]
        notes = [f"batches of {size}"]
        if name in agreement:
            notes.append(f"loss over {agreement['steps']} steps within {agreement[name]:.1g} of the plain one's")
        if name == compiled:
            notes.append(paid_back(*compiling, times[usual] - times[name]))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            busy = utilisation(works[name], times[name], device)
            notes += [
                f"the GPU busy {busy:.0%} of the time",
                f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB",
            ]
        if with_loader:
            notes.append(
                f"{rate / with_loader:.1f} times the plain loop with its per-item loader ({with_loader:.0f} samples/s)"
            )
        figures.append(
            Figure(
                f"training, {model}, {name}",
                rate,
                "samples/s",
                compared_with="plain eager fp32 on ready batches",
                compared=size / times["plain"],
                gain=times["plain"] / times[name],
                limited_by=f"a large {name.partition(',')[0]} matrix product",
                limit=peak(device, precision) / flops,
                repeats=options.repeats,
                note="; ".join(notes),
            )
        )
    share = 100 * times["encoding"] / times[usual]
    encoding = f"training, {model}, encoding"
    figures.append(
        Figure(
            encoding,
            share,
            "%",
            repeats=options.repeats,
            note=f"of a {usual} step that has a batch of {size} encoded; goal 3 %",
        )
    )
    return figures


def paid_back(first: float, again: float, gained: float) -> str:
    """After how many steps the seconds of compiling are won again, where a compiled step is shorter by `gained`
    seconds."""
    won = (
        f"won again after {first / gained:,.0f} steps" if gained > 0 else "never won again, since its steps take longer"
    )
    return f"compiling takes {first:.0f} s, and {again:.0f} s once it was done before; {won}"


def stepper(network: nn.Module, recipe: Recipe, precision: torch.dtype | None) -> Callable[[Batch], Tensor]:
    """One training step, which returns the loss: ours at a precision, or the plain one's where it is None."""
    if precision is not None:
        assert isinstance(network, Network)
        return training_step(network, recipe, precision)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-5, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.001, total_steps=STEPS, div_factor=25, pct_start=0.3)

    def step(batch: Batch) -> Tensor:
        ours = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
        loss = plain.step(network.train(), optimizer, scheduler, batch)
        torch.use_deterministic_algorithms(ours, warn_only=True)
        return loss

    return step


def curves(model: str, size: int, options: Options) -> dict[str, float]:
    """The largest relative difference of any step's loss from the plain one's, from the same weights and batches,
    without dropout."""
    number = 3 if options.quick else 200 if options.device.type == "cuda" else 10
    data = promoters(max(20 * size, 2000))
    losses = {}
    for name, precision in {"plain": None, **PRECISIONS}.items():
        recipe, network, samples = built(configuration(f"experiment={model}"), data, options.device)
        chosen = plain.like(plain.network(model), network).to(options.device) if precision is None else network
        for layer in chosen.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        task, generator = example_task(), torch.Generator(options.device).manual_seed(0)
        order = torch.randperm(2 * len(samples), generator=generator, device=options.device).repeat(number)[
            : number * size
        ]
        batches = (recipe.training_batch(samples, part, task, generator) for part in order.split(size))
        step = stepper(chosen, recipe, precision)
        losses[name] = torch.tensor([float(step(batch)) for batch in batches])
    differences = {name: float(((losses[name] - losses["plain"]).abs() / losses["plain"]).max()) for name in PRECISIONS}
    return {"steps": number, **differences}


def loader_rate(network: nn.Module, recipe: Recipe, data: Measurements, size: int, device: torch.device) -> float:
    """Samples a second of the plain loop with its per-item loader, a process for each core."""
    strings = [string.rjust(150, "N") for string in data.sequences.to_strings()]
    loader = DataLoader(
        plain.Promoters(strings, data.expression), size, shuffle=True, num_workers=len(os.sched_getaffinity(0))
    )
    step = stepper(network, recipe, None)

    def epoch() -> None:
        for batch in loader:
            step({key: value.to(device, non_blocking=True) for key, value in batch.items()})

    return 2 * len(strings) / seconds(epoch, device)
