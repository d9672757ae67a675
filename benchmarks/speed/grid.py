"""All 81 combinations at published size: samples a second, share of the peak rate, memory; and what the full grid would
cost.

Measured: the rate of training and of scoring, each combination for itself. Extrapolated: 80 epochs of 6.74 million
sequences in batches of 1,024, in proportion to the number of samples, which holds from ten thousand sequences to 6.7
million (section growth).
"""

from __future__ import annotations

import gc
import itertools
import statistics

import torch
from figures import Figure, Options, at_a_time, seconds, utilisation
from networks import built, configuration, operations, peak, promoters, training_step
from rich.console import Console

from prixfixe.data.measurements import Measurements
from prixfixe.menu.check import example_task
from prixfixe.training.scoring import predict

SEQUENCES, EPOCHS = 6_740_000, 80
SCORED = 0.1  # the share of the sequences that is held out and scored after every epoch
SLOTS = {
    "recipe": ("autosome", "bhi", "unlockdna"),
    "first": ("conv", "parallel_conv", "kmer"),
    "core": ("efficientnet", "bilstm", "proformer"),
    "final": ("soft_bins", "mlp", "expression_heads"),
}


def measure(options: Options) -> list[Figure]:
    on_gpu = options.device.type == "cuda"
    size = 1024 if on_gpu else 8
    precision = torch.bfloat16 if on_gpu else torch.float32
    best = peak(options.device, precision)
    data = promoters(4 * size)
    combinations = list(itertools.product(*SLOTS.values()))
    figures, hours, work = [], 0.0, 0.0
    for choices in combinations[:: 40 if options.quick else 1]:
        figure, cost, count = combination(
            dict(zip(SLOTS, choices, strict=True)), data, size, options.repeats, precision, best, options.device
        )
        hours += cost
        work += count
        figures.append(figure)
        Console(stderr=True).print(
            f"[dim]{len(figures)} of {len(combinations)}  {figure.name}  {figure.value:,.0f} samples/s[/dim]"
        )
        gc.collect()
    device = torch.cuda.get_device_name(options.device) if on_gpu else f"{torch.get_num_threads()} CPU cores"
    size = f"{len(figures)} combinations x {EPOCHS} epochs x {SEQUENCES:,} sequences"
    extrapolated = f"extrapolated from the measured rates: {size}, "
    return [
        *figures,
        Figure("the full grid", hours, "hours", note=f"{extrapolated}one after the other without stops, on {device}"),
        Figure(
            "the full grid, operations",
            work / 1e18,
            "10^18",
            note="counted, of training alone: as many on any device",
        ),
    ]


def combination(
    choices: dict[str, str],
    data: Measurements,
    size: int,
    repeats: int,
    precision: torch.dtype,
    best: float,
    device: torch.device,
) -> tuple[Figure, float, float]:
    """One combination's rate, and the hours and operations that its training would take in full."""
    config = configuration(*(f"{slot}={choice}" for slot, choice in choices.items()))
    recipe, network, samples = built(config, data, device)
    task, generator = example_task(), torch.Generator(device).manual_seed(0)
    train = training_step(network, recipe, precision)

    def step() -> None:
        chosen = torch.randint(len(samples) * recipe.samples_per_sequence, (size,), device=device)
        train(recipe.training_batch(samples, chosen, task, generator))

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step()
    taken = statistics.median(seconds(step, device, at_a_time(device)) for _ in range(repeats))
    notes = []
    if device.type == "cuda":
        notes = [
            f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB",
            f"the GPU busy {utilisation(step, taken, device):.0%} of the time",
        ]
    scoring = statistics.median(
        seconds(lambda: predict(network, recipe, task, samples, batch_size=size), device) for _ in range(repeats)
    )
    batch = recipe.training_batch(samples, torch.arange(4, device=device), task, generator)
    sequences_per_second = size / recipe.samples_per_sequence / taken
    per_epoch = SEQUENCES * (1 - SCORED) / sequences_per_second + SEQUENCES * SCORED * scoring / len(samples)
    hours = EPOCHS * per_epoch / 3600
    inputs = size * (2 if recipe.samples_per_sequence < recipe.views else 1)
    each = operations(network, batch)
    count = EPOCHS * SEQUENCES * (1 - SCORED) * recipe.samples_per_sequence * inputs / size * each
    figure = Figure(
        "+".join(choices.values()),
        inputs / taken,
        "samples/s",
        limited_by="a large matrix product",
        limit=best / each,
        repeats=repeats,
        note="; ".join([f"{hours:,.0f} h for {EPOCHS} epochs (extrapolated)", *notes]),
    )
    return figure, hours, count
