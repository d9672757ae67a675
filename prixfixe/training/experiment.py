"""One combination, from its configuration to its scores."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prixfixe.common.errors import BusyError, InputError, InterruptedRunError
from prixfixe.common.files import json_values, write_json
from prixfixe.common.simulated import SIMULATED
from prixfixe.common.text import printable
from prixfixe.contract import Batch
from prixfixe.data.datasets import TEST, Split
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.splits import strand_hash
from prixfixe.networks.network import Network, build
from prixfixe.networks.parts import LOADED, Origin
from prixfixe.networks.weights import load_own_state, prepare, slot_of
from prixfixe.runs.checkpoint import remove_checkpoints
from prixfixe.runs.folder import RunFolder, identity, versions
from prixfixe.runs.lock import RunLock
from prixfixe.runs.log import NoLog, open_log
from prixfixe.runs.sources import find_sources, pinned, read_tensors
from prixfixe.runs.targets import load_targets, save_targets
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_dataset, build_optimizer, build_recipe, build_task, training_rows
from prixfixe.training.fit import fit
from prixfixe.training.job import Data, Job, Loop
from prixfixe.training.kept import ceilings, sample_of, save_test_predictions, save_training_sample
from prixfixe.training.processes import Processes, processes
from prixfixe.training.scoring import AT_ONCE, PRECISIONS, AtOnce, predict
from prixfixe.training.seen import check_unseen
from prixfixe.training.settings import check_settings, training_settings
from prixfixe.training.signals import StopRequest, stop_request

WORTH_COMPILING = 20_000  # steps; compiling takes minutes, and on a CPU it does not pay at all (benchmarks/speed)


def run(config: Mapping[str, Any], path: Path, *, show_progress: bool, origin: Origin = LOADED) -> dict[str, Any]:
    """Trains the combination that a resolved configuration describes, in the folder `path`; returns its scores.

    origin: where the configuration came from, which decides what its names may stand for.
    1. The dataset is read and split. 2. The recipe and the network are built for the task and checked against each
    other; parts that start from elsewhere are loaded. 3. The folder is claimed: a run of the same identity that is done
    is not run again, one of another is refused, and one that another process has raises BusyError. 4. `fit` trains and
    scores, from the last checkpoint where there is one. 5. metrics.json is written and the status says done, or failed
    with the reason.
    """
    check_settings(config, origin)
    settings = training_settings(config["training"])
    split = build_dataset(config, origin).read()
    folder = RunFolder(path)
    sources = find_sources(config, folder)
    config = with_precision_used(pinned(config, sources, origin), folder, split.content, settings["precision"])
    fingerprint = identity(config, split.content)
    if sources and folder.is_done(config, fingerprint):  # and they may be gone
        return folder.metrics()
    recipe = build_recipe(config, origin)
    taken = training_rows(recipe, split)
    task = build_task(config, origin).fitted(split.train, taken)
    for held_out in (split.validation, *split.tests.values()):
        task.check(held_out)
    torch.manual_seed(config["seed"])
    network = build(recipe, config, task, origin=origin)
    task = task.with_names_of({*network.training_columns, *recipe.takes})
    loaded = prepare(network, config, sources)
    seen = check_unseen(config, split, allowed=bool(settings.get("allow_seen")), origin=origin)
    steps_per_epoch = recipe.steps(split.train[taken], settings["batch_size"])
    steps = settings["epochs"] * steps_per_epoch
    optimizer, scheduler = build_optimizer(network, config, steps, origin)
    with ExitStack() as stack:
        together, device = stack.enter_context(processes(settings["device"]))
        stop = stack.enter_context(stop_request())
        if not stack.enter_context(claimed(folder, config, fingerprint, together, stop)):
            return folder.metrics()
        log = stack.enter_context(open_log(folder, config, origin) if together.is_first else nullcontext(NoLog()))
        said = [*remarks(config, split, origin), *seen] if show_progress and together.is_first else []
        for remark in said:
            print(f"warning: {printable(remark)}", file=sys.stderr)
        if split.simulated and show_progress and together.is_first:
            print(SIMULATED, file=sys.stderr)
        for source in loaded.values() if show_progress and together.is_first else ():
            print(f"{source.slot}: {source.tensors} tensors from {printable(source.file)}", file=sys.stderr)
        log.event(
            "start",
            parameters=network.parameter_count(),
            sequences=len(taken),
            device=device_name(device),
            versions=versions(),
        )
        if device.type == "cuda":
            compute_deterministically()
        wanted = dict.fromkeys((*network.training_columns, *recipe.takes, *recipe.orders_by, *task.columns))
        columns = {name: column_of(split.train, name) for name in wanted}
        measured, specs = split.train.expression[taken], task.spec.columns
        train = recipe.load(split.train.sequences, device, measured, taken, columns, specs)
        validation = held_out_samples(network, recipe, task, split.validation, device)
        network.to(device)
        prepare_blocks(network, lambda: measured_batches(network, recipe, task, split, train, device))
        loop = Loop(
            settings["epochs"],
            settings["batch_size"],
            settings["micro_batch"],
            config["training"]["precision"],
            config["optim"]["clip_norm"],
            config["optim"]["clip_value"],
            config["seed"],
            60 * settings["checkpoint_minutes"],
            settings.get("score_every"),  # which a run of version 0.1 has not
            settings.get("patience"),
        )
        if compiles(settings["compile"], device, steps):
            network.compile(dynamic=False)
        rows = len(taken) * recipe.samples_per_sequence // steps_per_epoch
        if rows // recipe.unit < together.count:
            raise InputError(
                f"training.batch_size={loop.batch_size} is too few samples a step for {together.count} processes"
            )
        if together.is_first:
            save_targets(folder, task)
            if loaded:
                write_json(folder.sources_file, {s: source.facts() for s, source in loaded.items()}, follow=False)
        data = Data(train, validation, split.validation, task)
        shown = show_progress and together.is_first
        metrics = fit(Job(network, recipe, data, optimizer, scheduler, loop, folder, log, stop, together, shown))
        metrics |= {
            "task": task.name,
            "select": task.select.name,
            "scores": [asdict(score) for score in task.scores],
            "parameters": network.parameter_count(),
            "gpu_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
            "left_out": len(split.train) - len(taken),
            "validation_near_duplicates": split.near_duplicates,
            "simulated": split.simulated,
            "device": device_name(device),
            "processes": together.count,
        }
        if together.is_first:
            metrics |= last_scores(network, recipe, task, split, taken, train, folder, metrics["micro_batch"])
            folder.write_metrics(json_values(metrics))
            folder.write_status("done")
            remove_checkpoints(path)
        return together.from_first(metrics)


def last_scores(
    network: Network,
    recipe: Recipe,
    task: Task,
    split: Split,
    taken: np.ndarray,
    train: Samples,
    folder: RunFolder,
    micro_batch: int | None,
) -> dict[str, Any]:
    """What is scored once, with the weights of the best epoch, which are in the folder: each of several tasks on the
    validation rows (`tasks`), and what neither an epoch nor its choice has seen (`test`; of other names, `tests`); and
    the noise ceilings of both. Predictions of test parts are kept, and so is a sample of the rows that were trained on.

    taken: int64 (m,), the rows that were trained on; train: they themselves, on the device.
    """
    several, device = len(task.spec.tasks) > 1, train.codes.device
    task = task.with_spec(load_targets(folder))
    scalar = task.spec.residual_sd is not None
    if several or split.tests or scalar:
        load_own_state(network, read_tensors(folder.weights_file))
    at_once = AtOnce(min(AT_ONCE[device.type], micro_batch or AT_ONCE[device.type]))

    def outputs_of(samples: Samples) -> dict[str, np.ndarray]:
        return predict(network, recipe, task, samples, batch_size=at_once)

    found: dict[str, Any] = {}
    if several:
        samples = held_out_samples(network, recipe, task, split.validation, device)
        found["tasks"] = task.score_each(split.validation, outputs_of(samples))
    for name, rows in split.tests.items():
        outputs = outputs_of(held_out_samples(network, recipe, task, rows, device))
        scores = task.score(rows, outputs)
        if name == TEST:
            found["test"] = scores
        else:
            found.setdefault("tests", {})[name] = scores
        if several:
            found[f"{name}_tasks"] = task.score_each(rows, outputs)
        save_test_predictions(folder, name, task, rows, outputs)
    if task.predicts is not None:
        numbers, hashes, below = sample_of(strand_hash(split.train.sequences)[taken])
        sample = train[torch.from_numpy(numbers).to(device)]
        predicted = outputs_of(sample)[task.predicts] if scalar else None
        measured = sample["expression"].double().cpu().numpy() if scalar else None
        save_training_sample(folder, hashes, below, measured, predicted)
    takes = dict.fromkeys((*network.columns, *recipe.takes))
    for name, rows in {"validation": split.validation, **split.tests}.items():
        if of_part := ceilings(task, rows, {column: column_of(rows, column) for column in takes}):
            found.setdefault("noise_ceiling", {})[name] = of_part
    return found


def held_out_samples(network: Network, recipe: Recipe, task: Task, rows: Measurements, device: torch.device) -> Samples:
    """Rows that are scored, on the device, with what is drawn of them once; without what was measured of them."""
    columns = {name: column_of(rows, name) for name in dict.fromkeys((*network.columns, *recipe.takes))}
    return task.hold_out(recipe, recipe.load(rows.sequences, device, columns=columns, specs=task.spec.columns))


def prepare_blocks(network: Network, batches: Callable[[], Iterator[Batch]]) -> None:
    """Calls `prepare` of each block once, before anything is trained; not of those that stay as they came from
    elsewhere."""
    kept = {slot_of(name) for name in network.from_sources}
    network.eval()
    with torch.no_grad():
        for slot, block in network.blocks().items():
            if slot not in kept and hasattr(block, "prepare"):  # a plain module is a block, too
                block.prepare(batches())
    network.train()


def measured_batches(
    network: Network, recipe: Recipe, task: Task, split: Split, train: Samples, device: torch.device
) -> Iterator[Batch]:
    """The training rows and then the validation rows, as they are scored, with their targets and all keys. Nothing is
    read before the first one is asked for."""
    columns = dict.fromkeys((*network.training_columns, *recipe.takes, *task.columns))
    for rows in (None, split.validation):
        if rows is not None:
            given = {name: column_of(rows, name) for name in columns}
            samples = recipe.load(rows.sequences, device, rows.expression, columns=given, specs=task.spec.columns)
        else:
            samples = train
        done = 0
        for views in recipe.scoring_batches(samples, AT_ONCE[device.type], network.training_columns):
            batch = views[0]
            chosen = torch.arange(done, done + len(batch["x"]), device=device)
            done += len(chosen)
            yield {**batch, **task.aligned(task.targets(samples, chosen, batch["reverse"]), batch)}


def column_of(rows: Measurements, name: str) -> Any:
    """A column of a dataset; InputError where it has none of that name."""
    if name not in rows.columns:
        have = ", ".join(rows.columns) or "none beside these"
        raise InputError(
            f"the data have no column {name}; they have {have} (dataset.columns names further columns of a table)"
        )
    return rows.columns[name]


@contextmanager
def claimed(
    folder: RunFolder, config: Mapping[str, Any], fingerprint: str, together: Processes, stop: StopRequest
) -> Iterator[bool]:
    """Holds a folder for a run: False where the run is done in it already. What goes wrong inside is written to its
    status.

    The first of several processes claims it for all of them. Raises BusyError where another run has it, and InputError
    as `RunFolder.is_done`.
    """
    with ExitStack() as stack:
        outcome: bool | Exception = True
        if together.is_first:
            try:
                if folder.is_done(config, fingerprint):
                    outcome = False
                else:
                    stack.enter_context(RunLock(folder.path, lost=lambda: setattr(stop, "signal", signal.SIGTERM)))
                    outcome = not folder.is_done(config, fingerprint)  # another process may just have finished it
            except (BusyError, InputError) as error:
                outcome = error
        outcome = together.from_first(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        if not outcome or not together.is_first:
            yield outcome
            return
        folder.begin(config, fingerprint)
        try:
            yield True
        except BaseException as error:
            reason = str(error) if isinstance(error, InterruptedRunError) else f"{type(error).__name__}: {error}"
            with suppress(OSError, BusyError):  # a disk that is full, a lock that is lost; the error itself says so
                folder.write_status("failed", reason=reason)
            raise


def remarks(config: Mapping[str, Any], split: Split, origin: Origin = LOADED) -> list[str]:
    """What the user should know of a dataset and of what recipe and task make of it, a sentence each."""
    recipe = build_recipe(config, origin)
    name, found = type(recipe).__name__, list(split.warnings)
    if left_out := len(split.train) - len(training_rows(recipe, split)):
        found.append(
            f"{left_out:,} of the {len(split.train):,} training sequences are left out: recipe {name} cannot "
            "take their length"
        )
    if longer := int((np.asarray(split.validation.sequences.lengths) > recipe.longest).sum()):
        cut = recipe.cut_off(longer, len(split.validation), "validation sequences")
        found.append(f"{cut}, as in training; its settings widen that (prixfixe train --cfg job shows them)")
    return [*found, *recipe.remarks(split.train), *build_task(config, origin).remarks(split.train)]


def with_precision_used(config: Mapping[str, Any], folder: RunFolder, content: str, precision: str) -> dict[str, Any]:
    """The configuration with a precision in place of `auto`, so that a run's identity says what its numbers come from.

    It is the one that a run of otherwise this configuration was begun with in the folder, on whatever device that was;
    else the one given, which `auto` stands for on this device. content: of the data, see `identity`.
    """
    training = config["training"]
    if training["precision"] != "auto":
        return dict(config)
    begun = folder.status().get("configuration_hash")
    for used in PRECISIONS:
        candidate = {**config, "training": {**training, "precision": used}}
        if begun is not None and identity(candidate, content) == begun:
            return candidate
    return {**config, "training": {**training, "precision": precision}}


def compute_deterministically() -> None:
    """The same seed, the same numbers, on a GPU too. Where torch has no such way of computing something, `fit` allows
    it another."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS and cuDNN's LSTM need for it
    torch.use_deterministic_algorithms(True)  # not warn_only, under which attention is not deterministic
    # which takes time, and helps to find errors
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")


def compiles(setting: str | bool, device: torch.device, steps: int) -> bool:
    """Whether a run of so many steps is compiled. What cannot be compiled runs as it is.

    Jobs of a sweep share what torch has compiled before: it keeps it on disk.
    """
    chosen = setting is True or (setting == "auto" and device.type == "cuda" and steps >= WORTH_COMPILING)
    if chosen:
        import torch._dynamo  # some seconds

        torch._dynamo.config.suppress_errors = True
    return chosen


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
