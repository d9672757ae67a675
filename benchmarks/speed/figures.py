"""What a benchmark says: a figure, what it is compared with in the same run, and the limit that it cannot pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Options:
    """quick: small enough to see that everything works, not to be quoted. device: what networks run on."""

    device: torch.device
    quick: bool = False
    repeats: int = 5


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    value, compared: in `unit`, medians over `repeats`; None where it could not be measured here.
    limit: the best that the machine could do, in the same unit, by `limited_by`. gain: how many times better than what
    it is compared with. note: what else is needed to read it.
    """

    name: str
    value: float | None
    unit: str
    compared_with: str | None = None
    compared: float | None = None
    gain: float | None = None
    limited_by: str | None = None
    limit: float | None = None
    repeats: int = 1
    note: str | None = None


def seconds(work: Callable[[], object], device: torch.device | None = None, times: int = 1) -> float:
    """How long `work` takes, the device's part included, where it is done so many times on end."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / times


def at_a_time(device: torch.device) -> int:
    """How many steps are measured on end: training waits for a GPU once in 20 of them, so that it always has work."""
    return 20 if device.type == "cuda" else 1


def in_turns(
    works: dict[str, Callable[[], object]], repeats: int, device: torch.device | None = None, times: int = 1
) -> dict[str, float]:
    """The median seconds of each, measured in turns, so that a machine's moods fall on all alike; the first turn is not
    counted."""
    turns = [{name: seconds(work, device, times) for name, work in works.items()} for _ in range(repeats + 1)][1:]
    return {name: statistics.median(turn[name] for turn in turns) for name in works}


def utilisation(work: Callable[[], object], taken: float, device: torch.device) -> float:
    """The share of the `taken` seconds that a GPU computes or copies during `work`."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize(device)
    on_device = [
        event
        for event in profiler.events() or ()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    return sum(event.time_range.elapsed_us() for event in on_device) / 1e6 / taken


def peak_memory(process: int | str = "self") -> int:
    """The most bytes that a process has held so far. ru_maxrss would count what its parent had when it forked."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
