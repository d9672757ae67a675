"""What is taken of Hydra's own, private parts, in this one place: another version of Hydra may have moved it."""

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser

__all__ = ["BasicSweeper", "ConfigRepository", "Hydra", "create_config_search_path", "get_args_parser"]
