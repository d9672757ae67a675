"""A grid that is planned before it runs: names are known and unique, bad input is refused once and not 81 times."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import OmegaConf


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, with a plan (sweep.json) in the sweep's folder and an account of what failed at the end."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        from prixfixe.sweep import Plan, prepare_dataset, resolved

        assert self.config is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        configs = [loader.load_sweep_config(self.config, list(overrides)) for overrides in batch]
        names = [str(config.hydra.sweep.subdir) for config in configs]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            from prixfixe.errors import InputError

            raise InputError(f"several combinations of this sweep would share the folder {twice[0]}; sweep over the slots and the seed, or give each sweep=NAME")
        for dataset in {OmegaConf.to_yaml(config.dataset): config for config in configs}.values():
            prepare_dataset(resolved(dataset))
        self.plan = Plan(Path(self.config.hydra.sweep.dir), dict(zip(names, map(list, batch), strict=True)))
        self.plan.write(started=time.time())

    def sweep(self, arguments: list[str]) -> Any:
        try:
            return super().sweep(arguments)
        except Exception as error:
            plan = getattr(self, "plan", None)
            if plan is None or not (failure := plan.failure()):
                raise
            raise failure from error
