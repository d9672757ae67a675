"""A sweep of 81 demo jobs whose processes are killed at random, compared with an undisturbed one: weights and scores,
bit for bit.

    OMP_NUM_THREADS=1 python benchmarks/chaos.py -o benchmarks/chaos.json

While jobs train, every few seconds one of them is killed (SIGKILL or SIGTERM), and now and then the command itself; the
command is started again until it ends with 0. Small: --combinations 6 --size 200.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

from prixfixe.common.files import write_json
from prixfixe.runs.lock import holder

SLOTS = {
    "recipe": ("bhi", "autosome", "unlockdna"),
    "first": ("conv", "kmer", "parallel_conv"),
    "core": ("efficientnet", "bilstm", "proformer"),
    "final": ("soft_bins", "mlp", "expression_heads"),
}
MEASURED = (
    "samples_per_second",
    "training_seconds",
    "inference_per_second",
    "gpu_memory_bytes",
)  # may differ; every other number may not
MOST_STARTS = 200


def command(folder: Path, combinations: int, size: int, epochs: int, jobs: int) -> list[str]:
    """The sweep's command line: all 81, or fewer by narrowing core, then recipe, and so on, to a number that such a
    grid can have."""
    taken = {slot: list(choices) for slot, choices in SLOTS.items()}
    for slot in ("first", "core", "final", "recipe"):
        others = count(taken) // len(taken[slot])
        taken[slot] = (
            taken[slot][: max(1, min(len(taken[slot]), combinations // others))]
            if others <= combinations
            else taken[slot][:1]
        )
    words = [f"{slot}={','.join(choices)}" for slot, choices in taken.items()]
    settings = [
        f"dataset.size={size}",
        f"training.epochs={epochs}",
        "training.checkpoint_minutes=0.005",
        f"hydra.launcher.jobs={jobs}",
        "hydra.launcher.retries=5",
    ]
    return [
        sys.executable,
        "-m",
        "prixfixe",
        "train",
        "-m",
        "experiment=demo",
        *words,
        *settings,
        f"hydra.sweep.dir={folder}",
    ]


def count(taken: dict[str, list[str]]) -> int:
    number = 1
    for choices in taken.values():
        number *= len(choices)
    return number


def trainers(folder: Path) -> list[int]:
    """The processes that hold a run of the sweep at this moment."""
    found = []
    for lock in folder.glob("*/lock.*"):
        try:
            if holder(lock.parent):  # not one that a killed process has left
                found.append(int(json.loads(lock.read_text())["pid"]))
        except (OSError, ValueError, KeyError):  # between its making and its content
            continue
    return found


def disturbed(words: list[str], folder: Path, every: float, rng: random.Random) -> dict[str, Any]:
    """Runs the sweep until it ends with 0 while its processes are killed; returns what was done to it."""
    kills = {"SIGKILL": 0, "SIGTERM": 0, "command SIGKILL": 0, "command SIGTERM": 0}
    for starts in range(1, MOST_STARTS + 1):
        sweep = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        while sweep.poll() is None:
            try:
                sweep.wait(rng.uniform(0.5, 1.5) * every)
                break
            except subprocess.TimeoutExpired:
                pass
            victims = trainers(folder)
            if not victims:
                continue  # still starting: killed there, on a slow machine it would never come to anything
            number = rng.choice((signal.SIGKILL, signal.SIGTERM))
            if rng.random() < 0.1:
                sweep.send_signal(number)
                kills[f"command {number.name}"] += 1
                continue
            try:
                os.kill(rng.choice(victims), number)
                kills[number.name] += 1
            except ProcessLookupError:
                pass  # it has ended by itself
        print(
            f"start {starts} ended with {sweep.returncode}; killed so far: {sum(kills.values())}",
            file=sys.stderr,
            flush=True,
        )
        if sweep.returncode == 0:
            return {"starts": starts, "kills": kills}
    raise SystemExit(f"not done after {MOST_STARTS} starts")


def differences(one: Path, other: Path) -> list[str]:
    """The runs of two sweeps that differ in their weights or in a score, by name."""
    names = sorted({path.parent.name for path in [*one.glob("*/status.json"), *other.glob("*/status.json")]})
    differ = []
    for name in names:
        scores = []
        for folder in (one / name, other / name):
            metrics = json.loads((folder / "metrics.json").read_text())
            scores.append({key: value for key, value in metrics.items() if key not in MEASURED})
        same = (one / name / "weights.safetensors").read_bytes() == (other / name / "weights.safetensors").read_bytes()
        if not same or scores[0] != scores[1]:
            differ.append(name)
    return differ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--combinations", type=int, default=81, help="at most this many (%(default)s)")
    parser.add_argument("--size", type=int, default=1500, help="promoters (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (%(default)s)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two kills, on average (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="write the result here as JSON, too")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # more threads add up in another order

    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, name) for name in ("undisturbed", "disturbed")]
        words = [command(f, arguments.combinations, arguments.size, arguments.epochs, arguments.jobs) for f in folders]
        began = time.monotonic()
        subprocess.run(words[0], check=True, stderr=subprocess.DEVNULL)
        undisturbed_seconds = time.monotonic() - began
        began = time.monotonic()
        done_to_it = disturbed(words[1], folders[1], arguments.every, random.Random(arguments.seed))
        result = {
            **machine("torch", "numpy"),
            "command": " ".join(["python", "benchmarks/chaos.py", *sys.argv[1:]]),
            "combinations": len(list(folders[0].glob("*/metrics.json"))),
            "undisturbed_seconds": round(undisturbed_seconds, 1),
            "disturbed_seconds": round(time.monotonic() - began, 1),
            **done_to_it,
            "different": differences(*folders),
        }
    if arguments.output:
        write_json(arguments.output, result)
    print(json.dumps(result, indent=2))
    if result["different"]:
        raise SystemExit(f"{len(result['different'])} of {result['combinations']} results differ")


if __name__ == "__main__":
    main()
