"""The training loop: one flat function, the same for every combination and every task."""

from __future__ import annotations

import math
import sys
import time
import traceback
from dataclasses import dataclass
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.common.errors import InterruptedRunError, TrainingError
from prixfixe.common.memory import halved
from prixfixe.common.progress import TrainingProgress
from prixfixe.contract import Batch, TargetSpec
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.networks.network import Network
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.log import RunLog
from prixfixe.tasks.bins import Bins
from prixfixe.training.processes import Processes
from prixfixe.training.scoring import (
    AT_ONCE,
    PRECISIONS,
    AtOnce,
    autocast,
    predict,
    residual_rows,
    residual_sd,
    score,
    to_host,
)
from prixfixe.training.signals import StopRequest
from prixfixe.training.state import TrainingState

CHECK_EVERY = 20  # steps between two looks at the losses, each of which waits for the device


@dataclass(frozen=True)
class Loop:
    """How long, how much at a time, how precisely, and how often to save (seconds)."""

    epochs: int
    batch_size: int
    micro_batch: int | None
    precision: str
    clip_norm: float | None
    clip_value: float | None
    seed: int
    checkpoint_seconds: float


@dataclass(frozen=True)
class Data:
    """What is trained on and scored on. measured: the validation expression, float64, NaN where there is none."""

    train: Samples
    validation: Samples
    measured: np.ndarray
    targets: TargetSpec

    @property
    def bins(self) -> Bins:
        return self.targets.bins


def fit(
    network: Network,
    recipe: Recipe,
    data: Data,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    loop: Loop,
    folder: RunFolder,
    *,
    log: RunLog,
    stop: StopRequest,
    processes: Processes,
    show_progress: bool,
) -> dict[str, Any]:
    """Trains, scores after every epoch, keeps the weights of the epoch with the highest Pearson r; returns that epoch's
    scores.

    Goes on from the folder's newest checkpoint where there is one. All that is random in a step follows from the seed,
    the step and the process, so that a run that was interrupted ends with the weights of one that was not. Scoring
    draws from none of it. Writes history.csv, targets.json, weights.safetensors, validation.npz and checkpoints.
    Raises TrainingError where the loss is not finite or not even one sample fits into memory, InterruptedRunError when
    told to stop.
    """
    device = data.train.codes.device
    total = len(data.train) * recipe.samples_per_sequence
    steps_per_epoch = math.ceil(total / loop.batch_size)
    total_steps = loop.epochs * steps_per_epoch
    state = TrainingState(network, optimizer, scheduler, losses=torch.zeros((), device=device))
    begun = state.restore(
        folder.path,
        processes.count,
        epochs=loop.epochs,
        steps_per_epoch=steps_per_epoch,
        predicted=data.measured.shape,
    )
    if begun and processes.is_first:
        state.write_results(folder, data.measured, data.targets)
        log.event("resume", step=state.account.step)
        if show_progress:
            print(f"going on after step {state.account.step} of {total_steps}", file=sys.stderr)
    account = state.account
    account.micro_batch = loop.micro_batch or account.micro_batch
    account.precision = loop.precision
    precision = PRECISIONS[account.precision]
    saved_buffers, missing = SavedBuffers(network), bool(data.train.y is not None and data.train.y.isnan().any())
    at_once = AtOnce(min(AT_ONCE[device.type], account.micro_batch or AT_ONCE[device.type]))
    sample = residual_rows(data.train, loop.seed)
    generator = torch.Generator(device)
    unchecked: list[tuple[int, float, Tensor]] = []  # step, learning rate, loss
    saved = time.monotonic()

    with TrainingProgress(total_steps, loop.epochs, begun=account.step, show=show_progress) as progress:
        for epoch in range(account.epoch, loop.epochs + 1):
            network.train()
            order = torch.randperm(total, generator=generator.manual_seed(seed_from(loop.seed, epoch)), device=device)
            # equal parts, so that no epoch ends with a step of a few samples
            for chosen in order.tensor_split(steps_per_epoch)[account.step - (epoch - 1) * steps_per_epoch :]:
                began = time.monotonic()
                seed, part = seed_from(loop.seed, account.step, processes.rank, 1), processes.part(chosen)
                batch = recipe.training_batch(data.train, part, data.bins, generator.manual_seed(seed))
                share = share_of(data.train, part, chosen) if missing else len(part) / len(chosen)
                loss, micro_batch = backward(network, batch, account.micro_batch, precision, share, seed, saved_buffers)
                if micro_batch != account.micro_batch:
                    log.event("out_of_memory", step=account.step, micro_batch=micro_batch)
                    account.micro_batch = micro_batch
                asked = processes.add_up(network, loss, stop.signal is not None)
                if loop.clip_norm is not None:
                    clip_grad_norm_(network.parameters(), loop.clip_norm)
                if loop.clip_value is not None:
                    clip_grad_value_(network.parameters(), loop.clip_value)
                unchecked.append((account.step, optimizer.param_groups[0]["lr"], loss))
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                state.losses += loss
                account.step += 1
                account.inputs += len(chosen) * len(batch["y"]) // len(part)
                progress.after_step(epoch, len(batch["y"]), loss)
                if looked := len(unchecked) == CHECK_EVERY or account.step % steps_per_epoch == 0:
                    check_finite(unchecked, missing)
                    unchecked.clear()
                account.training_seconds += time.monotonic() - began
                stopping = bool(asked) if looked or isinstance(asked, bool) else False
                if processes.is_first and (stopping or time.monotonic() - saved > loop.checkpoint_seconds):
                    check_finite(unchecked, missing)
                    state.save(folder.path, processes.count)
                    log.event("checkpoint", step=account.step)
                    saved = time.monotonic()
                if stopping:
                    raise interrupted(stop, account.step, total_steps)

            if processes.is_first:
                began = time.monotonic()
                at_once.size = min(at_once.size, account.micro_batch or at_once.size)
                expression, log_probs = predict(network, recipe, data.validation, batch_size=at_once)
                account.scored += len(expression)
                sds = None
                if log_probs is None:
                    assert sample.y is not None
                    fitted, _ = predict(network, recipe, sample, batch_size=at_once)
                    sds = residual_sd(to_host(sample.y), fitted)
                    account.scored += len(fitted)
                account.scoring_seconds += time.monotonic() - began
                scores = score(data.measured, expression, log_probs, data.bins, sds)
                row = {
                    "epoch": epoch,
                    "step": account.step,
                    "loss": float(state.losses) / steps_per_epoch,
                    **scores,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "seconds": round(account.training_seconds, 3),
                }
                account.history.append(row)
                best = account.best
                if not best or scores["pearson_r"] > best["pearson_r"] or math.isnan(best["pearson_r"]):
                    state.keep_best(scores, expression, sds)
                state.write_results(folder, data.measured, data.targets)
                log.scores(account.step, {key: value for key, value in row.items() if key != "step"})
                progress.after_epoch(row)
            state.losses.zero_()
            account.epoch += 1

    return {
        **account.best,
        "samples_per_second": round(account.inputs / account.training_seconds, 1),
        "training_seconds": round(account.training_seconds, 2),
        "inference_per_second": round(account.scored / account.scoring_seconds, 1) if account.scored else None,
        "epochs": loop.epochs,
        "steps": account.step,
        "micro_batch": account.micro_batch,
        "precision": account.precision,
    }


def seed_from(*numbers: int) -> int:
    """One seed from several numbers, unlike that of any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds what blocks draw from on a device. torch.manual_seed seeds every kind of device there may be, a millisecond
    each time."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class SavedBuffers:
    """A network's buffers, such as running statistics, as they were before a step that may not fit into memory.

    Copied into the same tensors every time, all of a kind at once: on a GPU a few launches a step.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.copies: list[Tensor] = []

    def save(self) -> None:
        buffers = list(self.network.buffers())
        if [*map(_kind, buffers)] != [*map(_kind, self.copies)]:  # at first, or where a block has put others there
            self.copies = [torch.empty_like(buffer) for buffer in buffers]
        _copy(buffers, self.copies)

    def restore(self) -> None:
        _copy(self.copies, list(self.network.buffers()))


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        of_kind = kinds.setdefault(source.dtype, ([], []))
        of_kind[0].append(source)
        of_kind[1].append(target)
    for some_sources, some_targets in kinds.values():
        torch._foreach_copy_(some_targets, some_sources)


def share_of(samples: Samples, part: Tensor, chosen: Tensor) -> Tensor:
    """The share of what was measured in a step, of the sample numbers `chosen`, that `part` of them has; not waited
    for."""
    assert samples.y is not None
    of_part, of_all = ((~samples.y[numbers % len(samples)].isnan()).sum().double() for numbers in (part, chosen))
    return of_part / of_all.clamp(min=1)


def backward(
    network: Network,
    batch: Batch,
    micro_batch: int | None,
    precision: torch.dtype,
    share: float | Tensor,
    seed: int,
    saved: SavedBuffers | None = None,
) -> tuple[Tensor, int | None]:
    """The loss of a batch, its gradients added up from as many parts as memory needs; and the part size that fitted.

    Gradients are those of the whole batch, times `share`; only what is averaged over something else than what was
    measured, such as batch norm and the masked positions of mask filling, sees the parts. What did not fit leaves no
    trace: random numbers and the running statistics begin anew, and its tensors are let go.
    share: a number, or, where `y` holds NaN, a tensor: parts then count by what was measured in them, not by samples.
    saved: the network's, made once; None is new ones.
    """
    size = len(batch["y"])
    saved = saved or SavedBuffers(network)
    saved.save()
    while True:
        seed_dropout(seed, batch["y"].device)
        prediction = loss = None
        try:
            total = torch.zeros((), device=batch["y"].device)
            count = math.ceil(size / (micro_batch or size))
            for parts in zip(
                *(value.tensor_split(count) for value in batch.values()), strict=True
            ):  # equal: none of a few samples
                part = dict(zip(batch, parts, strict=True))
                with autocast(total.device, precision):
                    prediction = network(part)
                loss = weighted(network.loss(prediction, part), part["y"], batch["y"], share)
                loss.backward()
                total += loss.detach()
            return total, micro_batch
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(f"one sample at a time is too few for {what_failed(error, network, batch)}") from error
        except RuntimeError as error:
            if (
                "deterministic implementation" in str(error)
                and not torch.is_deterministic_algorithms_warn_only_enabled()
            ):
                torch.use_deterministic_algorithms(True, warn_only=True)  # of a user's block; from now on in any order
            else:
                micro_batch = halved(micro_batch or size, error)
                if micro_batch is None:
                    raise TrainingError(
                        f"out of memory with one sample at a time: {what_failed(error, network, batch)}"
                    ) from error
            network.zero_grad()
            saved.restore()


def weighted(loss: Tensor, part: Tensor, whole: Tensor, share: float | Tensor) -> Tensor:
    """The loss of a part of a batch as it counts in the step's, by the targets of both; see `backward`."""
    if not isinstance(share, Tensor):
        return loss * (len(part) / len(whole) * share)
    of_part, of_whole = ((~y.isnan()).sum().double() for y in (part, whole))
    return loss * (of_part / of_whole.clamp(min=1) * share).to(loss.dtype)


def what_failed(error: BaseException, network: Network, batch: Batch) -> str:
    """The block in whose forward pass an error came, with the shape of its input; else the backward pass."""
    where = f"the backward pass of an input of shape {(1, *batch['x'].shape[1:])}"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for slot in ("first", "core", "final"):
            block, given = getattr(network, slot), frame.f_locals.get("args")
            if frame.f_locals.get("self") is block and given and isinstance(given[0], Tensor):
                where = f"{slot} block {type(block).__name__}, given an input of shape {tuple(given[0].shape)}"
    return f"{where} ({str(error).splitlines()[0]})"


def check_finite(losses: list[tuple[int, float, Tensor]], missing: bool = False) -> None:
    """Raises TrainingError for the first loss that is not finite. missing: whether some of `y` was not measured."""
    values = torch.stack([loss for _, _, loss in losses]).tolist() if losses else []
    for (step, rate, _), value in zip(losses, values, strict=True):
        if not math.isfinite(value):
            hint = (
                "; batch['y'] is NaN where a task was not measured, which the final block's loss must leave out: "
                "prixfixe.contract.mean_over_measured"
            )
            raise TrainingError(
                f"the loss is not finite ({value}) at step {step + 1}; the last learning rate was {rate:.3g}"
                + (hint if missing and math.isnan(value) else "")
            )


def interrupted(stop: StopRequest, step: int, steps: int) -> InterruptedRunError:
    number = stop.signal or SIGTERM  # another of the run's processes was asked
    return InterruptedRunError(
        f"interrupted by {number.name} after step {step} of {steps}; the same command goes on from there", number
    )
