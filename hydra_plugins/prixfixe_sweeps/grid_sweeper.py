"""A grid that is planned before it runs: names are known and unique, bad input is refused once and not 81 times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, with a plan (sweep.json) in the sweep's folder, what is done already left out, and an account
    of what failed at the end."""

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        from prixfixe.sweep import plan_sweep, resolved

        assert self.config is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        batch = [list(overrides) for overrides in super().get_job_batch()]
        names, configs = [], []
        for overrides in batch:
            config = loader.load_sweep_config(self.config, overrides)
            HydraConfig.instance().set_config(config)  # what ${hydra:...} in the configuration reads
            names.append(str(config.hydra.sweep.subdir))
            configs.append(resolved(config))
        HydraConfig.instance().set_config(self.config)
        self.plan, still_open = plan_sweep(Path(self.config.hydra.sweep.dir), names, batch, configs)
        return still_open

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing is left to do: every configuration of the batch was composed when it was planned."""

    def sweep(self, arguments: list[str]) -> Any:
        try:
            return super().sweep(arguments)
        except Exception as error:
            plan = getattr(self, "plan", None)
            if plan is None or not (failure := plan.failure()):
                raise
            raise failure from error
