"""Runs in processes of their own that start in a fraction of a second, to be killed."""

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from prixfixe.sweeps.pool import PRELOADED

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


def start(config: dict[str, Any], folder: Path, environment: dict[str, str] | None = None) -> BaseProcess:
    """Trains in a process of its own; what it says goes to FOLDER.err beside the folder."""
    process = context.Process(target=_train, args=(config, folder, environment or {}, Path(f"{folder}.err")))
    process.start()
    return process


def finish(process: BaseProcess, folder: Path) -> str:
    """Waits for a run that must end well; what it said."""
    process.join(300)
    errors = Path(f"{folder}.err").read_text()
    assert process.exitcode == 0, errors
    return errors


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ranks(count: int) -> list[dict[str, str]]:
    """The environments of `count` processes as torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _train(config: dict[str, Any], folder: Path, environment: dict[str, str], errors: Path) -> None:
    import torch

    from prixfixe.networks.parts import OWN
    from prixfixe.training.experiment import run

    os.environ.update(environment)
    torch.set_num_threads(1)
    with errors.open("a", buffering=1) as sys.stderr:
        try:
            run(config, folder, show_progress=True, origin=OWN)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
