"""How fast saturation mutagenesis is, beside bare forward passes of as many sequences and tangermeme's, in one run.

DREAM-CNN at published size with random weights, large enough in the final block that predictions differ. Bare: the same
number of sequences, encoded beforehand, both strands, through the network in the same batches. tangermeme's
saturation_mutagenesis is given the same network and sequences (`prixfixe.inference.tangermeme_model`), and must agree
to 1e-5. The three are timed in turns, in processor time, so that other work on the machine counts little.

    OMP_NUM_THREADS=1 python benchmarks/mutagenesis.py -o benchmarks/mutagenesis.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from machine import machine

sys.path.insert(0, str(Path(__file__).parent / "speed"))
from inference import random_run
from tangermeme.saturation_mutagenesis import saturation_mutagenesis

import prixfixe
from prixfixe.common.files import write_json
from prixfixe.inference.mutagenesis import mutate_rows
from prixfixe.inference.tangermeme_model import TangermemeModel, one_hot_letters

LENGTH = 110
READY = 16  # batches that are encoded beforehand and taken in turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    drawn = np.random.default_rng(0).choice(list("ACGT"), (args.sequences, LENGTH))
    sequences = ["".join(row) for row in drawn]
    with tempfile.TemporaryDirectory() as folder:
        model = prixfixe.load(random_run(Path(folder) / "dream_cnn", "experiment=dream_cnn"), device="cpu")
    (member,) = model.members
    torch.manual_seed(0)
    with torch.no_grad():  # as they are initialised, every sequence has the same prediction
        for weights in member.network.final.parameters():
            weights.normal_()
    rows, size = model.rows_of(sequences), member.at_once.size
    count = args.sequences * (1 + 3 * LENGTH)
    some = model.rows_of(
        ["".join(row) for row in np.random.default_rng(1).choice(list("ACGT"), (READY * size, LENGTH))]
    )
    ready = list(member.recipe.scoring_batches(member.samples(some), size))
    adapter = TangermemeModel(member, LENGTH).eval()
    letters = one_hot_letters(rows.sequences, range(len(sequences)), member.device)

    @torch.no_grad()
    def bare() -> None:
        done = 0
        for views in islice(cycle(ready), -(-count // size)):
            for batch in views:
                left = min(size, count - done)
                member.network({key: value[:left] for key, value in batch.items()})
            done += left

    works = {
        "ours": lambda: list(mutate_rows(model, [rows])),
        "bare": bare,
        "tangermeme": lambda: saturation_mutagenesis(
            adapter, letters, raw_outputs=True, device="cpu", batch_size=size, fast=False
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results = {}
    for _ in range(args.repeats):
        for name, work in works.items():
            began, cpu = time.perf_counter(), time.process_time()
            results[name] = work()
            seconds[name].append(time.process_time() - cpu)
            print(
                f"{name}: {time.perf_counter() - began:.1f} s, {seconds[name][-1]:.1f} s of the processor", flush=True
            )
    before, after = results["tangermeme"]  # (n, tasks), (n, 4, L, tasks)
    ours = np.stack([one.effects for one in results["ours"]])  # (n, L, 4, tasks)
    theirs = (after - before[:, None, None]).numpy().transpose(0, 2, 1, 3)
    difference = float(np.abs(ours - theirs).max())
    rate = {name: count / statistics.median(each) for name, each in seconds.items()}
    write_json(
        args.output,
        {
            "sequences": args.sequences,
            "length": LENGTH,
            "predictions": count,
            "batch_size": size,
            "median_of": args.repeats,
            "per_second_of_processor_time": {name: round(value, 1) for name, value in rate.items()},
            "ours_over_bare": round(rate["ours"] / rate["bare"], 4),
            "ours_over_tangermeme": round(rate["ours"] / rate["tangermeme"], 4),
            "largest_effect": round(float(np.abs(ours).max()), 4),
            "largest_difference_from_tangermeme": difference,
            "threads": torch.get_num_threads(),
            **machine("torch", "numpy", "tangermeme"),
        },
    )
    print(args.output.read_text())


if __name__ == "__main__":
    main()
