"""Run folders with known numbers, made in milliseconds: what results, figures and the report are tested on.

    sweep = make_grid(tmp_path / "runs" / "grid81", seeds=(0, 1), n=300, failed={"bhi+conv+bilstm+mlp": "the loss is not
    finite"})

The validation set is the same in every run. A run's Pearson r on it is exactly what `planted` gives for its choices.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from prixfixe.analysis.evaluation import evaluate
from prixfixe.data.sequences import Sequences
from prixfixe.data.testset import TestSet
from prixfixe.dream.testset import WEIGHTS
from prixfixe.runs.folder import SLOTS, as_yaml, run_name
from prixfixe.tasks.metrics import scores
from prixfixe.tasks.scores import EXPRESSION, Score

CHOICES = {
    "recipe": ("autosome", "bhi", "unlockdna"),
    "first": ("conv", "parallel_conv", "kmer"),
    "core": ("efficientnet", "bilstm", "proformer"),
    "final": ("soft_bins", "mlp", "expression_heads"),
}
EFFECTS = {"autosome": 0.03, "bilstm": 0.02, "proformer": -0.02, "soft_bins": 0.005}
INTERACTIONS = {("proformer", "expression_heads"): 0.04}

# as much text as a real config.yaml
CONFIG = """\
recipe:
  {{_target_: blocks.recipe.{recipe}.Recipe, length: 150, widths: [1, 2, 3],
    published: {{_target_: torch.optim.AdamW, lr: 0.005}}}}
first:
  _target_: blocks.first.{first}.First
  channels: 256
  kernel_size: 7
  dropout: 0.2
  max_learning_rate: 0.005
core:
  _target_: blocks.core.{core}.Core
  widths:
  - 128
  - 128
  - 64
  - 64
  - 64
  - 64
  expand: 4
  group_width: 2
  kernel_size: 7
  max_learning_rate: 0.005
final:
  _target_: blocks.final.{final}.Final
  hidden:
  - 64
  - 64
  max_learning_rate: 0.005
optim:
  optimizer:
    _target_: torch.optim.AdamW
    _partial_: true
    weight_decay: 0.01
    betas:
    - 0.9
    - 0.999
  schedule:
    _target_: prixfixe.training.optim.OneCycle
    initial_divisor: 25.0
    warm_up: 0.3
  clip_norm: 1.0
  clip_value: null
dataset:
  _target_: prixfixe.data.datasets.{dataset}
  size: 6500
  seed: 1
  validation: null
sweep: {sweep}
seed: {seed}
variant: {variant}
training:
  epochs: {epochs}
  batch_size: 1024
  micro_batch: null
  precision: auto
  device: auto
  checkpoint_minutes: 10.0
bins:
  number: 18
  shift: 0.5
  sd: 0.5
  range: null
choices:
  recipe: {recipe}
  first: {first}
  core: {core}
  final: {final}
"""


def additive(choices: Mapping[str, str]) -> float:
    """0.6, the effects of the parts, and the interactions of pairs of parts."""
    parts = set(choices.values())
    return (
        0.6
        + sum(EFFECTS.get(part, 0.0) for part in parts)
        + sum(v for pair, v in INTERACTIONS.items() if parts.issuperset(pair))
    )


def make_grid(
    folder: Path,
    *,
    seeds: Sequence[int] = (0,),
    n: int = 200,
    test: int = 0,
    choices: Mapping[str, Sequence[str]] = CHOICES,
    planted: Callable[[Mapping[str, str]], float] = additive,
    noise: float = 0.005,
    failed: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    running: Mapping[str, int] | None = None,
    stopped: Mapping[str, int] | None = None,
    epochs: int = 4,
    simulated: bool = True,
    predictions: bool = True,
    keep_subsets: bool = False,
    seed: int = 0,
    model_seed: int | None = None,
) -> Path:
    """A sweep of all combinations of `choices` and seeds; returns its folder.

    n: validation sequences; test: sequences of a test set, 0 for none (then test.npz and evaluation.json are written,
    too, and with keep_subsets the rows of its subsets). planted: a combination's Pearson r; noise: the spread that
    every run adds to it.
    failed: folder name -> reason. missing: names that are planned and not there. running: name -> epochs done so far,
    on another host; stopped: the same, with nobody at it any more. predictions: write validation.npz. seed: of the
    measurements and all chance; model_seed: of what the models add to it.
    """
    failed, alive = failed or {}, running or {}
    running = {**alive, **(stopped or {})}
    generator = np.random.default_rng(seed)
    measured = np.clip(generator.normal(8.0, 3.0, n), 0, 17)
    test_set = _test_set(generator, test) if test else None
    generator = generator if model_seed is None else np.random.default_rng(model_seed)
    jobs = {}
    for values in itertools.product(*(choices[slot] for slot in SLOTS), seeds):
        parts, run_seed = dict(zip(SLOTS, values[:-1], strict=True)), int(values[-1])
        name = run_name(parts, run_seed)
        overrides = [f"{slot}={choice}" for slot, choice in parts.items()] + (
            [f"seed={run_seed}"] if len(seeds) > 1 else []
        )
        jobs[name] = [*overrides, "experiment=demo"]
        target = float(np.clip(planted(parts) + generator.normal(0, noise), -0.99, 0.99))
        if name in missing:
            continue
        path = folder / name
        path.mkdir(parents=True)
        state = "failed" if name in failed else "running" if name in running else "done"
        dataset = "Simulated" if simulated else "Table"
        text = CONFIG.format(**parts, dataset=dataset, sweep=folder.name, seed=run_seed, variant="null", epochs=epochs)
        (path / "config.yaml").write_text(text)
        write_json(path / "status.json", _status(state, failed.get(name)))
        if name in alive:
            write_json(
                path / "lock.1",
                {"host": "node7", "processes": "", "pid": 4711, "born": "1", "since": "2026-11-21 12:30 UTC"},
            )
        if state == "failed":
            continue
        predicted = correlated(measured, target, generator) if n > 2 else measured
        metrics = {
            "kl": float(2.0 - target),
            "pearson_r": target,
            "spearman_rho": float(spearmanr(measured, predicted).statistic) if n <= 2000 else target - 0.01,
            "mse": float(np.square(measured - predicted).mean()),
            "n": n,
        }
        write_history(path, metrics, running.get(name, epochs))
        if state == "running":
            continue
        size = sum(ord(letter) for letter in "".join(parts.values()))
        write_json(path / "metrics.json", {**metrics, **_costs(size, epochs, simulated)})
        if predictions:
            np.savez(path / "validation.npz", measured=measured, predicted=predicted)
        if test_set is not None:
            _evaluate(path, test_set, correlated(test_set.expression, target, generator), simulated, keep_subsets)
    write_json(folder / "sweep.json", {"jobs": jobs})
    return folder


def make_runs(
    folder: Path,
    task: str,
    scores: Sequence[Score],
    select: str,
    values: Callable[[Mapping[str, str], int], Mapping[str, Any]],
    *,
    choices: Mapping[str, Sequence[str]],
    seeds: Sequence[int] = (0,),
    dataset: Mapping[str, Any] | None = None,
    predictions: Callable[[float], Mapping[str, np.ndarray]] | None = None,
) -> Path:
    """Runs of any task that are done, which declare their own scores; returns their sweep's folder.

    values: of a combination and a seed, what metrics.json holds: the scores, `tasks`, `test`. dataset: its settings.
    predictions: of the selecting score, the arrays of validation.npz.
    """
    settings = {"_target_": "prixfixe.data.datasets.Table", "path": "own.tsv", **(dataset or {})}
    for chosen in itertools.product(*(choices[slot] for slot in SLOTS), seeds):
        parts, seed = dict(zip(SLOTS, chosen[:-1], strict=True)), int(chosen[-1])
        path = folder / run_name(parts, seed, None, settings)
        path.mkdir(parents=True)
        config = {"dataset": settings, "seed": seed, "variant": None, "sweep": folder.name, "training": {"epochs": 2}}
        config["choices"] = {"task": task, "dataset": "table", **parts}
        (path / "config.yaml").write_text(as_yaml(config))
        write_json(path / "status.json", _status("done", None))
        facts = {"task": task, "select": select, "scores": [asdict(score) for score in scores]}
        found = values(parts, seed)
        own = {score.name: found[score.name] for score in scores}
        lines = ["epoch,step,training_loss," + ",".join(own) + ",n,learning_rate,seconds"]
        for epoch in (1, 2):
            numbers = ",".join(str(value * epoch / 2) for value in own.values())
            lines.append(f"{epoch},{10 * epoch},{1 / epoch},{numbers},40,0.001,2.5")
        (path / "history.csv").write_text("\n".join(lines) + "\n")
        size = sum(ord(letter) for letter in "".join(parts.values()))
        write_json(path / "metrics.json", {"n": 40, **_costs(size, 2, False), **facts, **found})
        write_json(
            path / "targets.json", {"tasks": ["label"], "mean": [0.5], "std": [0.5], **facts, "residual_sd": None}
        )
        if predictions is not None:
            np.savez(path / "validation.npz", **predictions(own[select]))
    return folder


def make_folds(
    folder: Path,
    *,
    models: Mapping[str, float],
    test_folds: Sequence[Any],
    folds: Sequence[Any],
    missing: Callable[[str, Any, Any], bool] = lambda core, test_fold, fold: False,
    n: int = 60,
    noise: float = 1.0,
    tasks: Sequence[str] = ("expression",),
    kept: bool = True,
    sample: bool = True,
    seeds: Sequence[int] = (0,),
) -> Path:
    """A sweep over test folds and validation folds, never the same one twice in a run; returns its folder.

    models: core -> the deviation of what each run adds of its own to the prediction. missing: which runs are planned
    and not there. noise: of a measurement, whose true value has a deviation of 1. kept: whether test predictions are;
    sample: whether those of training rows are. The test rows of a fold are the same in all runs.
    """
    task = {"_target_": "prixfixe.tasks.expression.Expression", "select": "pearson_r", "sorted_into": None}
    task |= {"bins": {"number": 18, "shift": 0.5, "sd": 0.5, "range": None}}
    bins = {"number": 18, "shift": 0.5, "sd": 0.5}
    bins |= {"low": -4.0, "high": 4.0} if len(tasks) == 1 else {"low": [-4.0] * len(tasks), "high": [4.0] * len(tasks)}
    jobs: dict[str, list[str]] = {}
    for core, test_fold, fold, seed in itertools.product(models, test_folds, folds, seeds):
        if fold == test_fold:
            continue
        parts = {"recipe": "plain", "first": "parallel_conv", "core": core, "final": "task_heads"}
        settings = {"_target_": "prixfixe.data.datasets.Table", "path": "own.tsv"}
        settings |= {"fold": fold, "test_fold": test_fold}
        name = run_name(parts, seed, None, settings)
        jobs[name] = [f"core={core}", f"dataset.test_fold={test_fold}", f"dataset.fold={fold}", f"seed={seed}"]
        if missing(core, test_fold, fold):
            continue
        choices = {slot: (part,) for slot, part in parts.items()}
        own = np.random.default_rng([len(jobs), seed])
        rows = np.random.default_rng(sum(map(ord, str(test_fold))))
        shape = (n,) if len(tasks) == 1 else (n, len(tasks))
        truth = rows.normal(0, 1, shape)
        arrays = {"measured": truth + rows.normal(0, noise, shape), "rows": rows.integers(0, 2**63, n, dtype=np.uint64)}
        arrays["predicted"] = truth + models[core] * own.normal(0, 1, shape)
        found = expression_scores(arrays["measured"], arrays["predicted"], 0.0)
        values = {**found, "pearson_r": found["pearson_r"] + 0.02, "test": {**found, "n": n}}
        if len(tasks) > 1:
            values |= {"tasks": dict.fromkeys(tasks, found), "test_tasks": dict.fromkeys(tasks, found)}
        make_runs(folder, "expression", EXPRESSION, "pearson_r", lambda parts, seed, values=values: values,
                  choices=choices, seeds=(seed,), dataset=settings)  # fmt: skip
        path = folder / name
        (path / "config.yaml").write_text((path / "config.yaml").read_text() + as_yaml({"task": task}))
        targets = json.loads((path / "targets.json").read_text()) | {"tasks": list(tasks), "bins": bins}
        spread = [1.0] * len(tasks)
        targets |= {"mean": [0.0] * len(tasks), "std": spread, "residual_sd": spread}
        write_json(path / "targets.json", targets)
        if kept:
            np.savez(path / "predictions_test.npz", **arrays)
        if sample:
            some = {"measured": arrays["measured"], "predicted": arrays["predicted"]}  # as good on training rows
            keys = rows.integers(0, 2**63, n, dtype=np.uint64)
            np.savez(path / "training_sample.npz", rows=keys, below=np.array([2**64 - 1], dtype=np.uint64), **some)
    write_json(folder / "sweep.json", {"jobs": jobs})
    return folder


def expression_scores(measured: np.ndarray, predicted: np.ndarray, kl: float) -> dict[str, Any]:
    return {"kl": kl, **scores(measured, predicted)}


def correlated(measured: np.ndarray, r: float, generator: np.random.Generator) -> np.ndarray:
    """Predictions, on the scale of the measurement, whose Pearson correlation with it is exactly r."""
    truth = measured - measured.mean()
    noise = generator.normal(size=len(truth))
    noise -= noise.mean()
    noise -= truth * (noise @ truth) / (truth @ truth)
    mixed = r * truth / np.linalg.norm(truth) + np.sqrt(1 - r * r) * noise / np.linalg.norm(noise)
    return np.asarray(measured.mean() + mixed * np.linalg.norm(truth))


def write_history(path: Path, metrics: Mapping[str, float], epochs: int) -> None:
    """history.csv of a run that has done so many epochs, the last of them the best."""
    lines = ["epoch,step,loss,kl,pearson_r,spearman_rho,mse,n,learning_rate,seconds"]
    for epoch in range(1, epochs + 1):
        share = 1 - 0.5**epoch * (epoch < epochs)
        r, rho = metrics["pearson_r"] * share, metrics["spearman_rho"] * share
        loss, kl, mse = 3.0 - share, metrics["kl"] + 1 - share, metrics["mse"] / share
        lines.append(f"{epoch},{epoch * 10},{loss},{kl},{r},{rho},{mse},{metrics['n']},0.001,{epoch * 2.5}")
    (path / "history.csv").write_text("\n".join(lines) + "\n")


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _status(state: str, reason: str | None) -> dict[str, Any]:
    ended = {} if state == "running" else {"ended": "2026-11-21T04:10:00+00:00"}
    versions = {"python": "3.11.7", "prixfixe": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "hydra-core": "1.3.8"}
    return {
        "versions": versions,
        "started": "2026-11-21T04:00:00+00:00",
        "configuration_hash": "0123456789abcdef",
        **ended,
        "state": state,
        "reason": reason,
    }


def _costs(size: int, epochs: int, simulated: bool) -> dict[str, Any]:
    """Facts of a run's cost, different for every combination."""
    return {
        "best_epoch": epochs,
        "samples_per_second": 2_000_000 / size,
        "training_seconds": size / 10,
        "inference_per_second": 9_000_000 / size,
        "gpu_memory_bytes": size * 1_000_000,
        "epochs": epochs,
        "steps": epochs * 10,
        "micro_batch": None,
        "parameters": (size - 2000) * 3000 + size % 7 * 500_000,
        "left_out": 0,
        "simulated": simulated,
        "device": "NVIDIA H200",
        "processes": 1,
    }


def _test_set(generator: np.random.Generator, n: int) -> TestSet:
    subsets = {"all": np.arange(n), "high": np.arange(0, n, 4), "native": np.arange(1, n, 4)}
    subsets["SNVs"] = np.stack([np.arange(0, n // 2), np.arange(n // 2, n // 2 * 2)], axis=1)
    sequences = Sequences.from_padded(np.zeros((n, 10), dtype=np.uint8), np.full(n, 10, dtype=np.int32))
    return TestSet(sequences, generator.normal(8.0, 3.0, n), subsets, simulated=True, weights=WEIGHTS)


def _evaluate(path: Path, test_set: TestSet, predicted: np.ndarray, simulated: bool, keep_subsets: bool) -> None:
    content = {"model": str(path), "test_set": "assay/test", "without_leaderboard": False, "simulated": simulated}
    subsets = (
        {f"subset_{name}": rows for name, rows in test_set.subsets.items() if name != "all"} if keep_subsets else {}
    )
    write_json(path / "evaluation.json", {**content, **evaluate(test_set, predicted, bootstrap=0).to_dict()})
    np.savez(
        path / "test.npz", measured=test_set.expression, predicted=predicted, test_set=np.array("fabricated"), **subsets
    )
