"""A real Slurm of one node with two fake GPUs, without systemd and without accounting: for tests, as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=5
KillWait=20
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here; None where there can."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "the Slurm of this test is started by root"


@contextmanager
def one_node() -> Iterator[dict[str, str]]:
    """Starts Slurm and stops it at the end. Yields the environment in which its commands find it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    folder.chmod(0o755)  # munged refuses a socket in a folder that others cannot enter
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "dev"):
        (folder / name).mkdir()
    for number, device in enumerate(("null", "zero")):  # Slurm wants character devices
        (folder / "dev" / f"nvidia{number}").symlink_to(f"/dev/{device}")
    key = folder / "key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/dev/nvidia[0-1]\n")
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, ports=free_ports(2)))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munged = ["munged", f"--key-file={key}", f"--socket={folder}/munge.sock", f"--pid-file={folder}/munge.pid"]
    subprocess.run([*munged, f"--log-file={folder}/munge.log", f"--seed-file={folder}/seed"], check=True, timeout=60)
    try:
        subprocess.run(["slurmctld", "-c"], env=environment, check=True, timeout=60)
        subprocess.run(["slurmd"], env=environment, check=True, timeout=60)
        wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--full", f"--user={os.getuid()}"], env=environment, capture_output=True, timeout=60)
        subprocess.run(["scontrol", "shutdown"], env=environment, capture_output=True, timeout=60)
        time.sleep(1)
        for name in ("slurmd", "slurmctld", "munge"):
            stop(folder / f"{name}.pid")
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], env=environment, capture_output=True, text=True, timeout=60
        )
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
    raise TimeoutError(f"Slurm's node did not become idle:\n{logs}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def stop(pid_file: Path) -> None:
    """Ends a daemon by the number in its file, where it still runs."""
    with suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text()), 15)
