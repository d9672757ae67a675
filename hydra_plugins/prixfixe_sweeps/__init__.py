"""Hydra's way to `hydra/sweeper=grid` and `hydra/launcher=pool`. Hydra imports this at every start: it stays light."""

from hydra_plugins.prixfixe_sweeps.grid_sweeper import GridSweeper
from hydra_plugins.prixfixe_sweeps.pool_launcher import PoolLauncher

__all__ = ["GridSweeper", "PoolLauncher"]
