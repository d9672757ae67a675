"""The training step of the three DREAM models at published size, against the same network and step written plainly in eager fp32."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import plain
import torch
from figures import Figure, Options, in_turns, seconds
from networks import DREAM, STEPS, built, configuration, operations, peak, promoters, training_step
from torch import Tensor, nn
from torch.utils.data import DataLoader

from prixfixe.bins import Bins
from prixfixe.contract import Batch
from prixfixe.data.measurements import Measurements
from prixfixe.network import Network

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(options: Options) -> list[Figure]:
    size = 1024 if options.device.type == "cuda" else 64
    figures = []
    for model in DREAM[:1] if options.quick else DREAM:
        figures += steps(model, 8 if options.quick else size, options)
    return figures


def steps(model: str, size: int, options: Options) -> list[Figure]:
    device = options.device
    data = promoters(max(20 * size, 2000))
    recipe, network, samples = built(configuration(f"experiment={model}"), data, device)
    bins = Bins()
    generator = torch.Generator(device).manual_seed(0)

    def batches() -> Iterator[Batch]:
        for number in itertools.count():
            torch.manual_seed(number)
            yield recipe.training_batch(samples, torch.randint(2 * len(samples), (size,), device=device), bins, generator)

    compared = plain.like(plain.network(model), network).to(device)
    works: dict[str, Callable[[], object]] = {}
    precisions = dict(PRECISIONS)
    for name, precision in {"plain": None, **PRECISIONS}.items():
        step, given = stepper(compared if precision is None else network, precision), batches()
        works[name] = lambda step=step, given=given: step(next(given))
    if device.type == "cuda":
        _, twin, _ = built(configuration(f"experiment={model}"), data, device)
        twin.compile(dynamic=False)
        step, given = stepper(twin, torch.bfloat16), batches()
        works["bf16, compiled"] = lambda: step(next(given))
        precisions["bf16, compiled"] = torch.bfloat16
        compiling = seconds(works["bf16, compiled"], device)
    with_loader = loader_rate(compared, data, size, device) if device.type == "cuda" else None
    times = in_turns(works, options.repeats, device)
    agreement = curves(model, size, options)
    flops = operations(network, next(batches()))
    figures = []
    for name, precision in precisions.items():
        rate = size / times[name]
        notes = [f"batches of {size}"]
        if name in agreement:
            notes.append(f"loss over {agreement['steps']} steps within {agreement[name]:.1g} of the plain one's")
        else:
            notes.append(f"the first step, with compiling, took {compiling:.0f} s")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            works[name]()
            notes.append(f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")
            if with_loader:
                notes.append(f"{rate / with_loader:.1f} times the plain loop with its per-item loader ({with_loader:.0f} samples/s)")
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
    return figures


def stepper(network: nn.Module, precision: torch.dtype | None) -> Callable[[Batch], Tensor]:
    """One training step, which returns the loss: ours at a precision, or the plain one's where it is None."""
    if precision is not None:
        assert isinstance(network, Network)
        return training_step(network, precision)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-5, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.001, total_steps=STEPS, div_factor=25, pct_start=0.3)
    return lambda batch: plain.step(network.train(), optimizer, scheduler, batch)


def curves(model: str, size: int, options: Options) -> dict[str, float]:
    """The largest relative difference of any step's loss from the plain one's, from the same weights and batches, without dropout."""
    number = 3 if options.quick else 200 if options.device.type == "cuda" else 10
    data = promoters(max(20 * size, 2000))
    losses = {}
    for name, precision in {"plain": None, **PRECISIONS}.items():
        recipe, network, samples = built(configuration(f"experiment={model}"), data, options.device)
        chosen = plain.like(plain.network(model), network).to(options.device) if precision is None else network
        for layer in chosen.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        generator = torch.Generator(options.device).manual_seed(0)
        order = torch.randperm(2 * len(samples), generator=generator, device=options.device).repeat(number)[: number * size]
        batches = (recipe.training_batch(samples, part, Bins(), generator) for part in order.split(size))
        step = stepper(chosen, precision)
        losses[name] = torch.tensor([float(step(batch)) for batch in batches])
    differences = {name: float(((losses[name] - losses["plain"]).abs() / losses["plain"]).max()) for name in PRECISIONS}
    return {"steps": number, **differences}


def loader_rate(network: nn.Module, data: Measurements, size: int, device: torch.device) -> float:
    """Samples a second of the plain loop with its per-item loader, a process for each core."""
    strings = [string.rjust(150, "N") for string in data.sequences.to_strings()]
    loader = DataLoader(plain.Promoters(strings, data.expression), size, shuffle=True, num_workers=len(os.sched_getaffinity(0)))
    step = stepper(network, None)

    def epoch() -> None:
        for batch in loader:
            step({key: value.to(device, non_blocking=True) for key, value in batch.items()})

    return 2 * len(strings) / seconds(epoch, device)
