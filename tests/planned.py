"""What a sweep would run: its combinations, without their data being read or anything being launched."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from prixfixe.common.errors import InputError
from prixfixe.sweeps.app import train


def planned(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, dict[str, Any]]:
    """The folder names of `prixfixe train -m ARGUMENTS` and each one's resolved configuration. What is swept are values,
    not choices: so configurations are copied, not composed anew, which takes Hydra a third of a second each."""
    found: dict[str, dict[str, Any]] = {}

    def plan_sweep(folder: Any, names: Sequence[str], batch: Any, configs: Sequence[dict[str, Any]], *_: Any) -> None:
        assert len({*names}) == len(names)
        found.update(zip(names, configs, strict=True))
        raise InputError("planned")

    def load_sweep_config(self: Any, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config = copy.deepcopy(master_config)
        with open_dict(config):
            for override in OverridesParser.create().parse_overrides(sweep_overrides):
                key = override.key_or_group
                if key.split(".")[0] in config and not isinstance(OmegaConf.select(config, key), DictConfig):
                    OmegaConf.update(config, key, override.value())
        return config

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", load_sweep_config)
    monkeypatch.setattr("prixfixe.sweeps.plan.plan_sweep", plan_sweep)
    monkeypatch.setattr("prixfixe.training.settings.check_settings", lambda *_: None)
    with pytest.raises(InputError, match="planned"):
        train(["-m", *arguments, "training.device=cpu"])
    return found
