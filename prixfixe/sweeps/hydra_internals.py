"""What is taken of Hydra's own, private parts, in this one place: another version of Hydra may have moved it."""

from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser

if TYPE_CHECKING:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

__all__ = ["BasicSweeper", "Callbacks", "ConfigRepository", "Hydra", "create_config_search_path", "get_args_parser"]


def __getattr__(name: str) -> Any:
    """BasicSweeper only where it is asked for: Hydra executes its module once more when it looks for plugins, and a
    class of before is another one."""
    if name == "BasicSweeper":
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        return BasicSweeper
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
