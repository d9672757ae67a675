"""Learning rates over the steps of a run. Each schedule makes one of torch's own schedulers for an optimiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

from annotated_types import Ge, Gt, Le
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR


class Schedule(ABC):
    """What a schedule is: called once, it gives the torch scheduler that is stepped after every optimiser step.

    total_steps: of the whole run. width: the channels of the core's input.
    """

    @abstractmethod
    def __call__(self, optimizer: Optimizer, *, total_steps: int, width: int) -> LRScheduler: ...


class OneCycle(Schedule):
    """One cycle (Smith & Topin 2018) with cosine annealing, the default of every combination (Rafi et al. 2024,
    Methods).

    The rate rises from max_lr / initial_division to max_lr during the share `warmup` of the steps, then falls to nearly
    0.
    A block's own `max_lr` takes the place of a higher one here. AdamW's first beta moves the other way between 0.95 and
    0.85.
    """

    def __init__(
        self,
        *,
        max_lr: Annotated[float, Gt(0)],
        initial_division: Annotated[float, Gt(0)],
        warmup: Annotated[float, Ge(0), Le(1)],
    ) -> None:
        self.max_lr, self.initial_division, self.warmup = max_lr, initial_division, warmup

    def __call__(self, optimizer: Optimizer, *, total_steps: int, width: int) -> LRScheduler:
        highest = [min(self.max_lr, group.get("max_lr") or self.max_lr) for group in optimizer.param_groups]
        return OneCycleLR(
            optimizer, highest, total_steps=total_steps, div_factor=self.initial_division, pct_start=self.warmup
        )


class Constant(Schedule):
    """The optimiser's rate in every step (DeepSTARR, de Almeida et al. 2022; MPRAnn, Agarwal et al. 2023). A block's
    own `max_lr` takes the place of a higher one."""

    def __init__(self) -> None:
        pass

    def __call__(self, optimizer: Optimizer, *, total_steps: int, width: int) -> LRScheduler:
        for group in optimizer.param_groups:
            group["lr"] = min(group["lr"], group.get("max_lr") or group["lr"])
        return LambdaLR(optimizer, lambda step: 1.0)


class Cosine(Schedule):
    """From the optimiser's rate to 0 along half a cosine (BHI; Rafi et al. 2024, Methods)."""

    def __init__(self) -> None:
        pass

    def __call__(self, optimizer: Optimizer, *, total_steps: int, width: int) -> LRScheduler:
        return CosineAnnealingLR(optimizer, T_max=total_steps)


class InverseSquareRoot(Schedule):
    """width^-1/2 * min(step^-1/2, step * warmup_steps^-3/2), times the optimiser's rate (Vaswani et al. 2017; Kwak et
    al. 2024)."""

    def __init__(self, *, warmup_steps: Annotated[int, Ge(1)]) -> None:
        self.warmup_steps = warmup_steps

    def __call__(self, optimizer: Optimizer, *, total_steps: int, width: int) -> LRScheduler:
        return LambdaLR(
            optimizer, lambda step: width**-0.5 * min((step + 1) ** -0.5, (step + 1) * self.warmup_steps**-1.5)
        )
