"""The input: encoded samples a second, against a pipeline that makes one item at a time."""

from __future__ import annotations

import plain
import torch
from figures import Figure, Options, in_turns
from networks import bandwidth, configuration, promoters
from torch.utils.data import DataLoader

from prixfixe.data.measurements import Measurements
from prixfixe.menu.check import example_task
from prixfixe.training.build import build_recipe

BATCH = 1024


def measure(options: Options) -> list[Figure]:
    """On one CPU core, and on the GPU where there is one."""
    data = promoters(20_000 if options.quick else 1_000_000)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = [encoding(name, data, options, torch.device("cpu")) for name in ("autosome", "bhi", "unlockdna")]
    finally:
        torch.set_num_threads(threads)
    if options.device.type == "cuda":
        figures += [encoding(name, data, options, options.device) for name in ("autosome", "bhi", "unlockdna")]
    return figures


def encoding(name: str, data: Measurements, options: Options, device: torch.device) -> Figure:
    recipe = build_recipe(configuration(f"recipe={name}"))
    samples = recipe.load(data.sequences, device, data.expression)
    batches, items = (4, 64) if options.quick else (100, 2048)
    task, generator = example_task(), torch.Generator(device)
    order = torch.randperm(len(samples) * recipe.samples_per_sequence, device=device)[: batches * BATCH].split(BATCH)
    moved = 0  # bytes of a batch, each written once

    def ours() -> None:
        nonlocal moved
        for chosen in order:
            batch = recipe.training_batch(samples, chosen, task, generator)
            moved = sum(tensor.nbytes for tensor in batch.values())

    works = {"ours": ours}
    if name == "autosome":
        strings = data.sequences[:items].to_strings()
        dataset = plain.Promoters([string.rjust(150, "N")[-150:] for string in strings], data.expression[:items])
        loader = DataLoader(dataset, batch_size=min(BATCH, items), shuffle=True)
        works["per item"] = lambda: [None for _ in loader]
    times = in_turns(works, options.repeats, device)
    rate = batches * BATCH / times["ours"]
    compared = 2 * items / times["per item"] if "per item" in times else None
    where = "one CPU core" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return Figure(
        f"input, {name}, {where}",
        rate,
        "samples/s",
        compared_with="one item at a time (one-hot and scipy's distribution each)" if compared else None,
        compared=compared,
        gain=rate / compared if compared else None,
        limited_by="writing each batch once, at the rate of a copy",
        limit=bandwidth(device) / 2 / (moved / BATCH),
        repeats=options.repeats,
    )
