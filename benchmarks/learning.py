"""Whether ours learns as much as the published code from the same samples: the DREAM models on real promoters, scored
on the leaderboard.

    python benchmarks/learning.py DATA [--published CODE] [--models dream_cnn ...] [--epochs 1] \\
        [-o benchmarks/learning.json]

DATA: a folder with yeast/random_promoters.txt, yeast/plasmid.json and yeast/leaderboard/. CODE: a checkout of the
published repository (github.com/de-Boer-Lab/random-promoter-dream-challenge-2022), run as it is, in a process of its
own; without it only ours is trained.
Both see the same 90 % of the promoters on both strands, the same number of samples, batches of 128, AdamW with the
one-cycle schedule to 0.005 (attention: 0.001), on one core; the epoch with the best Pearson r on the other 10 %
predicts the leaderboard's sequences, both strands averaged, is_singleton 0. A result is added to those that the output
file has already.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

import prixfixe
from prixfixe.common.files import write_json
from prixfixe.dream.testset import read_test_set
from prixfixe.tasks import metrics

MODELS = ("dream_cnn", "dream_rnn", "dream_attn")
BATCH = 128

# drives the published package as its notebook does, in a folder with job.json, the data and the plasmid
PUBLISHED = """
import json, random
import numpy as np, torch
from prixfixe.autosome import (
    AutosomeCoreBlock, AutosomeDataProcessor, AutosomeFinalLayersBlock,
    AutosomeFirstLayersBlock, AutosomePredictor, AutosomeTrainer,
)
from prixfixe.autosome.utils import revcomp
from prixfixe.bhi import BHICoreBlock, BHIFirstLayersBlock
from prixfixe.prixfixe import PrixFixeNet
from prixfixe.unlockdna import UnlockDNACoreBlock
job = json.load(open("job.json"))
torch.set_num_threads(1), torch.manual_seed(job["seed"]), random.seed(job["seed"]), np.random.seed(job["seed"])
generator = torch.Generator().manual_seed(job["seed"])
data = AutosomeDataProcessor(
    path_to_training_data=job["train"], path_to_validation_data=job["validation"],
    plasmid_path="data/plasmid.json", seqsize=150,
    generator=generator, train_batch_size=job["batch"], batch_per_epoch=job["steps"], train_workers=0,
    valid_batch_size=256, valid_workers=0,
)
attention = job["model"] == "dream_attn"
first = AutosomeFirstLayersBlock(6, 256, 150) if attention else BHIFirstLayersBlock(6, 320, 150)
core = {
    "dream_cnn": lambda: AutosomeCoreBlock(320, 64, 150),
    "dream_rnn": lambda: BHICoreBlock(320, 320, 150),
    "dream_attn": lambda: UnlockDNACoreBlock(256, 256, 150),
}[job["model"]]()
model = PrixFixeNet(first, core, AutosomeFinalLayersBlock(core.out_channels, 150), generator)
trainer = AutosomeTrainer(model, data, "weights", job["epochs"], lr=0.001 if attention else 0.005)
one_epoch = trainer.train_epoch
def train_epoch():
    # the published loader loses a batch whenever it wraps around: every epoch begins anew, so that none is lost
    trainer.train_dataloader.iterator = iter(trainer.train_dataloader.dataloader)
    return one_epoch()
object.__setattr__(trainer, "train_epoch", train_epoch)
trainer.fit()
predictor = AutosomePredictor(model, "weights/model_best.pth", torch.device("cpu"))
def strands(sequence):
    window = predictor._add_plasmid(sequence)
    both = (window, revcomp(window))
    return [predictor._add_channels(predictor._preprocess_sequence(s), i) for i, s in enumerate(both)]
predictions = []
with torch.no_grad():
    for start in range(0, len(job["test"]), 128):
        plus, minus = (torch.stack(x) for x in zip(*map(strands, job["test"][start : start + 128])))
        predictions += ((model(plus) + model(minus)) / 2).tolist()
json.dump(predictions, open("predictions.json", "w"))
"""
STUBS = {  # what the published package imports and this does not need
    "tqdm/__init__.py": "def tqdm(x=None, *args, **kwargs):\n    return x\n",
    "tqdm/auto.py": "from tqdm import tqdm\n",
    "Bio/__init__.py": "",
    "Bio/Seq.py": "Seq = str\n",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--published", type=Path, metavar="CODE")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rows", type=int, help="train on the first so many rows only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    content: dict[str, Any] = (
        json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {"runs": []}
    )
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            rows = split(arguments.data, folder, arguments.rows)
            for code in ("published", "ours"):
                if code == "published" and arguments.published is None:
                    continue
                began = time.monotonic()
                train = train_published if code == "published" else train_ours
                scores = train(model, arguments, folder, rows)
                samples = 2 * rows * arguments.epochs
                steps = math.ceil(2 * rows / BATCH) * arguments.epochs
                run = {
                    "model": model,
                    "code": code,
                    "seed": arguments.seed,
                    "epochs": arguments.epochs,
                    "samples": samples,
                    "steps": steps,
                }
                run |= {**scores, "seconds": round(time.monotonic() - began)}
                print(json.dumps(run), flush=True)
                content["runs"].append(run)
                if arguments.output:
                    content |= {**machine("torch"), "threads": 1}
                    write_json(arguments.output, content)


def split(data: Path, folder: Path, limit: int | None) -> int:
    """Writes train.txt and validation.txt, 90 % and 10 % of the promoters; returns the number of training rows."""
    rows = (data / "yeast" / "random_promoters.txt").read_text().splitlines()
    order = np.random.default_rng(0).permutation(len(rows))
    held_out = len(rows) // 10
    chosen = order[held_out:][:limit]
    (folder / "validation.txt").write_text("".join(f"{rows[i]}\n" for i in order[:held_out]))
    (folder / "train.txt").write_text("".join(f"{rows[i]}\n" for i in chosen))
    return len(chosen)


def train_ours(model: str, arguments: argparse.Namespace, folder: Path, rows: int) -> dict[str, float]:
    run = folder / "run"
    overrides = [
        f"experiment={model}",
        "dataset=table",
        f"dataset.path={folder}/train.txt",
        f"dataset.validation={folder}/validation.txt",
    ]
    overrides += [
        f"training.epochs={arguments.epochs}",
        f"training.batch_size={BATCH}",
        "training.device=cpu",
        f"seed={arguments.seed}",
    ]
    command = [sys.executable, "-m", "prixfixe", "train", *overrides, f"hydra.run.dir={run}"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    test_set = read_test_set(arguments.data / "yeast" / "leaderboard")
    return scored(prixfixe.load(run, device="cpu").predict_sequences(test_set.sequences), arguments.data)


def train_published(model: str, arguments: argparse.Namespace, folder: Path, rows: int) -> dict[str, float]:
    for name, text in STUBS.items():
        (folder / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stubs" / name).write_text(text)
    (folder / "data").mkdir()
    (folder / "data" / "plasmid.json").write_bytes((arguments.data / "yeast" / "plasmid.json").read_bytes())
    job = {
        "model": model,
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "batch": BATCH,
        "steps": math.ceil(2 * rows / BATCH),
    }
    job |= {"train": "train.txt", "validation": "validation.txt"}
    job["test"] = read_test_set(arguments.data / "yeast" / "leaderboard").sequences.to_strings()
    write_json(folder / "job.json", job)
    path = os.pathsep.join([str(folder / "stubs"), str(arguments.published.resolve())])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", PUBLISHED], check=True, cwd=folder, env=environment)
    return scored(np.array(json.loads((folder / "predictions.json").read_text())), arguments.data)


def scored(predictions: np.ndarray, data: Path) -> dict[str, float]:
    scores = metrics.scores(read_test_set(data / "yeast" / "leaderboard").expression, predictions)
    return {key: round(scores[key], 4) for key in ("pearson_r", "spearman_rho")}


if __name__ == "__main__":
    main()
