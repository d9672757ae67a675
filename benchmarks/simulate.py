"""How long the simulated assay takes, and in how much memory: as arrays, and as the files of `prixfixe data simulate`.

    python benchmarks/simulate.py --size 6739258 -o benchmarks/simulate.json

Every measurement is made in a fresh process; files go to a temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine

from prixfixe.common.files import write_json

TEST_SIZE = 71_103
PACKAGES = ("numpy", "scipy", "pyarrow")
STEPS = {
    "arrays": "from prixfixe.simulation import simulate; simulate(size, seed=1)",
    "test set": "from prixfixe.simulation import simulate_test_set; simulate_test_set(test_size, seed=1)",
    "files": (
        "from pathlib import Path; from prixfixe.simulation.export import export; "
        "export(Path(folder) / 'simulated', size=size, test_size=test_size, seed=1)"
    ),
}
MEASURE = """
import json, resource, sys, time
folder, size, test_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
started = time.perf_counter()
{step}
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({{
    "seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "gigabytes": used.ru_maxrss * 1024 / 1e9,
}}))
"""


def measure(step: str, size: int, test_size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MEASURE.format(step=step), folder, str(size), str(test_size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=200_000, help="training promoters (%(default)s)")
    parser.add_argument("--test-size", type=int, default=TEST_SIZE, help="test sequences (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="write the result here as JSON, too")
    arguments = parser.parse_args()

    result = {
        **machine(*PACKAGES),
        "size": arguments.size,
        "test_size": arguments.test_size,
        "repeats": arguments.repeats,
        "medians": {},
    }
    print(f"{'':10} {'seconds':>8} {'CPU s':>8} {'GB':>6}")
    for name, step in STEPS.items():
        runs = [measure(step, arguments.size, arguments.test_size) for _ in range(arguments.repeats)]
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        result["medians"][name] = medians
        seconds, cpu_seconds, gigabytes = medians.values()
        print(f"{name:10} {seconds:>8.1f} {cpu_seconds:>8.1f} {gigabytes:>6.2f}", flush=True)
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
