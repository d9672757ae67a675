"""How long a table takes to be parsed, prepared and opened again, and in how much memory.

Writes a table of random promoters between the yeast construct's flanks, then measures in fresh processes: parsing, the
first start (parsing, and writing the cache), the second start (the cache is checked and mapped), and a split.

    python benchmarks/prepare.py --rows 6700000 -o benchmarks/prepare.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine

from prixfixe.common.files import write_json
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK

ROWS_AT_A_TIME = 100_000
STEPS = {
    "parse": "from prixfixe.data.tables import read_measurements as read; result = read(path)",
    "first start": "from prixfixe.data.prepared import prepare; result = prepare(path, {}, cache)[0]",
    "second start": "from prixfixe.data.prepared import prepare; result = prepare(path, {}, cache)[0]",
    "second start and split": (
        "from prixfixe.data.prepared import prepare; from prixfixe.data.splits import split; result = "
        "split(prepare(path, {}, cache)[0])[0]"
    ),
}
MEASURE = """
import json, resource, sys, time
path, cache = sys.argv[1:]
started = time.perf_counter()
{step}
seconds = time.perf_counter() - started
kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"seconds": seconds, "gigabytes": kibibytes * 1024 / 1e9, "rows": len(result)}}))
"""


def write_table(path: Path, rows: int, seed: int = 0) -> None:
    """Inserts of 80 nucleotides, one in five a little longer or shorter; expression 0 to 17, six in ten integers."""
    rng = np.random.default_rng(seed)
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    with open(path, "w") as file:
        for start in range(0, rows, ROWS_AT_A_TIME):
            count = min(ROWS_AT_A_TIME, rows - start)
            inserts = letters[rng.integers(0, 4, (count, 112), dtype=np.uint8)].tobytes().decode()
            lengths = np.where(rng.random(count) < 0.8, 80, rng.integers(57, 113, count)).tolist()
            expression = rng.uniform(0, 17, count)
            expression = np.where(rng.random(count) < 0.58, expression.round(), expression).tolist()
            file.writelines(
                f"{LEFT_FLANK}{inserts[row * 112 : row * 112 + lengths[row]]}{RIGHT_FLANK}\t{expression[row]:.15g}\n"
                for row in range(count)
            )


def measure(step: str, table: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, "-c", MEASURE.format(step=STEPS[step]), str(table), str(cache)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6_700_000)
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often each step is measured, the first start excepted"
    )
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        table, cache = Path(folder, "table.tsv"), Path(folder, "cache")
        write_table(table, arguments.rows)
        time.sleep(6)  # a file written a moment ago may still change, so its hash is not remembered
        size = table.stat().st_size / 1e9
        print(f"{arguments.rows:,} rows, {size:.2f} GB, {os.cpu_count()} CPUs")
        print(f"{'step':<24}{'seconds':>10}{'peak GB':>10}")
        for step in STEPS:
            runs = [measure(step, table, cache) for _ in range(1 if step == "first start" else arguments.repeats)]
            results[step] = {
                name: round(statistics.median(run[name] for run in runs), 3) for name in ("seconds", "gigabytes")
            }
            print(f"{step:<24}{results[step]['seconds']:>10.2f}{results[step]['gigabytes']:>10.2f}", flush=True)
    if arguments.output:
        content = {
            "rows": arguments.rows,
            "table_gigabytes": round(size, 3),
            "median_of": arguments.repeats,
            "results": results,
        }
        write_json(arguments.output, {**content, **machine("numpy", "pyarrow")})


if __name__ == "__main__":
    main()
