"""A grid that is planned before it runs: names are known and unique, bad input is refused once and not 81 times."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import ListConfig, OmegaConf

from prixfixe.sweeps.hydra_internals import BasicSweeper


class GridSweeper(BasicSweeper):
    """All combinations of the swept values, as Hydra's basic sweeper has them, with a plan (sweep.json) in the sweep's
    folder, what is
    done already left out, and an account at the end: what is not done, why, and how to run it. Works with every
    launcher.

    differ: lists of settings; a combination in which all settings of one of them are equal is none.
    """

    def __init__(self, params: dict[str, str] | None, differ: list[list[str]] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)  # a failed batch would stop the later ones
        self.differ = differ

    def sweep(self, arguments: list[str]) -> Any:
        """Raises SweepError where not all is done at the end, and SystemExit (130, 143) where the sweep was told to
        stop."""
        from prixfixe.common.simulated import is_simulated, simulated_suffix
        from prixfixe.common.text import printable
        from prixfixe.networks.parts import OWN
        from prixfixe.sweeps.hydra_job import RememberedFiles
        from prixfixe.sweeps.plan import elsewhere, equal_settings, plan_sweep, resolved
        from prixfixe.training.settings import check_settings

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        [batch] = self.split_arguments(overrides, None)
        # type: ignore[attr-defined]  # travels to the jobs, too
        loader.repository = RememberedFiles(loader.get_search_path())
        differ = checked_differ(self.differ)
        names, configs, combinations = [], [], []
        for combination in batch:
            config = loader.load_sweep_config(self.config, combination)
            HydraConfig.instance().set_config(config)  # what ${hydra:...} in the configuration reads
            values = resolved(config)
            if equal_settings(values, differ):
                continue
            combinations.append(combination)
            configs.append(values)
            check_settings(elsewhere(configs[-1]), OWN)  # a device is sought where the job runs
            names.append(str(config.hydra.sweep.subdir))
        HydraConfig.instance().set_config(self.config)
        if left_out := len(batch) - len(combinations):
            pairs = ", or ".join(" and ".join(settings) for settings in differ)
            print(f"{left_out} of {len(batch)} combinations are none: their {pairs} are equal", file=sys.stderr)
        folder = Path(self.config.hydra.sweep.dir)
        plan, still_open = plan_sweep(folder, names, combinations, configs, self.launched_with())
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


def checked_differ(given: Any) -> list[list[str]]:
    """`hydra.sweeper.differ` as plain lists; InputError for anything but lists of two settings or more."""
    from prixfixe.common.errors import InputError

    lists = OmegaConf.to_container(given) if isinstance(given, ListConfig) else given or []
    sound = isinstance(lists, list) and all(isinstance(names, list) and len(names) > 1 for names in lists)
    if not sound or not all(isinstance(name, str) for names in lists for name in names):
        raise InputError(
            f"hydra.sweeper.differ={lists}: lists of settings, as in [[dataset.fold,dataset.test_fold]]"
        )
    return lists
