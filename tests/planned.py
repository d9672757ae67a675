"""What a sweep would run: its combinations, without their data being read or anything being launched."""

from collections.abc import Sequence
from typing import Any

import pytest

from prixfixe.common.errors import InputError
from prixfixe.sweeps.app import train


def planned(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, dict[str, Any]]:
    """The folder names of `prixfixe train -m ARGUMENTS` and each one's resolved configuration."""
    found: dict[str, dict[str, Any]] = {}

    def plan_sweep(folder: Any, names: Sequence[str], batch: Any, configs: Sequence[dict[str, Any]], *_: Any) -> None:
        assert len({*names}) == len(names)
        found.update(zip(names, configs, strict=True))
        raise InputError("planned")

    monkeypatch.setattr("prixfixe.sweeps.plan.plan_sweep", plan_sweep)
    with pytest.raises(InputError, match="planned"):
        train(["-m", *arguments, "training.device=cpu"])
    return found
