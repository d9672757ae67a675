"""A grid that is planned before it runs: names are known and unique, bad input is refused once and not 81 times."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from prixfixe.sweeps.hydra_internals import BasicSweeper


class GridSweeper(BasicSweeper):
    """All combinations of the swept values, as Hydra's basic sweeper has them, with a plan (sweep.json) in the sweep's
    folder, what is
    done already left out, and an account at the end: what is not done, why, and how to run it. Works with every
    launcher.
    """

    def __init__(self, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)  # a failed batch would stop the later ones

    def sweep(self, arguments: list[str]) -> Any:
        """Raises SweepError where not all is done at the end, and SystemExit (130, 143) where the sweep was told to
        stop."""
        from prixfixe.common.simulated import is_simulated, simulated_suffix
        from prixfixe.common.text import printable
        from prixfixe.networks.parts import OWN
        from prixfixe.sweeps.hydra_job import RememberedFiles
        from prixfixe.sweeps.plan import elsewhere, plan_sweep, resolved
        from prixfixe.training.settings import check_settings

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        [batch] = self.split_arguments(overrides, None)
        # type: ignore[attr-defined]  # travels to the jobs, too
        loader.repository = RememberedFiles(loader.get_search_path())
        names, configs = [], []
        for combination in batch:
            config = loader.load_sweep_config(self.config, combination)
            HydraConfig.instance().set_config(config)  # what ${hydra:...} in the configuration reads
            configs.append(resolved(config))
            check_settings(elsewhere(configs[-1]), OWN)  # a device is sought where the job runs
            names.append(str(config.hydra.sweep.subdir))
        HydraConfig.instance().set_config(self.config)
        plan, still_open = plan_sweep(Path(self.config.hydra.sweep.dir), names, batch, configs, self.launched_with())
        try:
            returns = self.launcher.launch(still_open, initial_job_idx=0) if still_open else []
        except KeyboardInterrupt as error:
            print(f"prixfixe: interrupted: {plan.count()}; the same command goes on from there", file=sys.stderr)
            raise SystemExit(128 + getattr(error, "signal", 2)) from error
        if failure := plan.failure():
            raise failure
        simulated = simulated_suffix(any(map(is_simulated, configs)))
        print(printable(f"{plan.count()}{simulated}; to compare them: prixfixe results {plan.folder}"), file=sys.stderr)
        return returns

    def launched_with(self) -> list[str]:
        """What the command line said beside the combinations, and a run by itself needs as well: where configurations
        are found."""
        assert self.config is not None
        sources = self.config.hydra.runtime.config_sources
        named = [
            source.path
            for source in sources
            if source.provider == "command-line" and Path(source.path) != Path("conf").resolve()
        ]
        searched = [
            override for override in self.config.hydra.overrides.hydra if override.startswith("hydra.searchpath=")
        ]
        return [*(word for path in named for word in ("--config-dir", path)), *searched]
