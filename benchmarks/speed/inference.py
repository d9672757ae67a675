"""`prixfixe predict` from file to file: DREAM-CNN at published size against a bare forward pass, and memory through a
tiny network."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from figures import Figure, Options, in_turns
from networks import configuration, operations, peak, promoters
from safetensors.torch import save_file
from torch import Tensor, nn

import prixfixe
from prixfixe.commands.predict import predict_file
from prixfixe.common.files import write_json
from prixfixe.common.table_writer import as_text
from prixfixe.contract import Batch, Prediction, TargetSpec
from prixfixe.inference.model import Model
from prixfixe.networks.network import build
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.targets import save_targets
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.scoring import AT_ONCE

TINY = (
    "recipe=bhi",
    "first=kmer",
    "first.k=10",
    "first.stride=10",
    "first.channels=4",
    "core=efficientnet",
    "core.widths=[4]",
)
READY = 16  # batches that are encoded beforehand and taken in turns: a million sequences would be 7 GB
ROWS_AT_A_TIME = 100_000
MEMORY = """
import sys
from figures import peak_memory
from prixfixe.cli import main
code = main(["predict", *sys.argv[1:]])
print(peak_memory())
sys.exit(code)
"""


def measure(options: Options) -> list[Figure]:
    on_gpu = options.device.type == "cuda"
    batch_size = AT_ONCE[options.device.type]
    rows = 64 if options.quick else 1_000_000 if on_gpu else 1024
    sizes = (2_000, 4_000) if options.quick else (200_000, 1_000_000, 3_000_000)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tables = {count: table(folder / f"{count}.tsv", count) for count in {rows, *sizes}}
        model = prixfixe.load(random_run(folder / "dream_cnn", "experiment=dream_cnn"), device=str(options.device))
        rate = against_bare(model, tables[rows], rows, batch_size, options)
        outside = outside_network(model, tables[sizes[0]], sizes[0], 1e6 / (rate.compared or rate.value), options)
        tiny = random_run(folder / "tiny", *TINY)
        return [rate, outside, *(memory(tiny, tables[count], count, options) for count in sizes)]


def against_bare(model: Model, path: Path, rows: int, batch_size: int, options: Options) -> Figure:
    samples = model.recipe.load(promoters(min(rows, READY * batch_size)).sequences, model.device)
    ready = list(model.recipe.scoring_batches(samples, batch_size))

    @torch.no_grad()
    def bare() -> Tensor:
        for views in islice(cycle(ready), -(-rows // batch_size)):
            mean = torch.stack([model.network(batch).expression for batch in views]).mean(0)
        return mean.cpu()

    output = path.with_suffix(".predictions.tsv")
    works = {"predict": lambda: predict_file(model, path, output, batch_size=batch_size), "bare": bare}
    times = in_turns(works, options.repeats, model.device)
    done = -(-rows // batch_size) * batch_size  # the bare pass does not shorten its last batch
    first = ready[0][0]
    flops = len(ready[0]) * operations(model.network, first) / 3
    return Figure(
        "inference, dream_cnn, prixfixe predict",
        rows / times["predict"],
        "sequences/s",
        compared_with="a bare forward pass of both strands, averaged, on batches that are encoded already",
        compared=done / times["bare"],
        gain=(rows / times["predict"]) / (done / times["bare"]),
        limited_by="a large fp32 matrix product",
        limit=peak(model.device, torch.float32) / flops,
        repeats=options.repeats,
        note=f"{rows:,} sequences, file to file, in batches of {batch_size}, fp32, both strands of each",
    )


def outside_network(model: Model, path: Path, rows: int, forward: float, options: Options) -> Figure:
    """forward: microseconds of the bare forward pass a sequence."""
    idle: Any = Nothing()
    idle_model = Model(idle, model.recipe, model.task, model.device)
    output = path.with_suffix(".predictions.tsv")
    sequences = promoters(1024).sequences
    names, values = [str(row) for row in range(1024)], promoters(1024).expression
    columns = {"name": "name", "sequence": "letters", "prediction": "number"}

    def written() -> None:
        for _ in range(rows // 1024):
            as_text("tsv", columns, [names, sequences.to_strings(), values])

    times = in_turns(
        {"all": lambda: predict_file(idle_model, path, output), "text": written}, options.repeats, model.device
    )
    microseconds = 1e6 * times["all"] / rows
    text = 1e6 * times["text"] / (rows // 1024 * 1024)
    return Figure(
        "inference, prixfixe predict without a network",
        microseconds,
        "µs/sequence",
        compared_with="dream_cnn's bare forward pass",
        compared=forward,
        gain=forward / microseconds,
        repeats=options.repeats,
        note=f"checked, read, encoded on both strands, written: {100 * microseconds / forward:.2g} % of the forward "
        f"pass (a GPU computes meanwhile); {text:.2g} µs of it are for the text; {rows:,} sequences",
    )


class Nothing(nn.Module):
    """A network that takes no time."""

    columns = ()  # of the dataset, which it needs

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(expression=batch["x"][:, 0, 0])


def memory(run: Path, path: Path, rows: int, options: Options) -> Figure:
    command = [
        sys.executable,
        "-c",
        MEMORY,
        str(run),
        str(path),
        "-o",
        str(path.with_suffix(".out.tsv")),
        "--device",
        str(options.device),
    ]
    command += ["--batch-size", "1024"]  # a tiny network's millions would take long by 32
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    held = int(subprocess.run(command, check=True, capture_output=True, text=True, env=here).stdout)
    size = path.stat().st_size / 1e6
    note = f"of the process, with Python and torch, through a tiny network; the table has {size:,.0f} MB"
    return Figure(f"inference, peak host memory, {rows:,} sequences", held / 1e6, "MB", note=note)


def table(path: Path, rows: int) -> Path:
    """One promoter a line."""
    with open(path, "w") as file:
        for start in range(0, rows, ROWS_AT_A_TIME):
            strings = promoters(min(ROWS_AT_A_TIME, rows - start), seed=start).sequences.to_strings()
            file.writelines(f"{string}\n" for string in strings)
    return path


def random_run(path: Path, *overrides: str) -> Path:
    """A run folder that `prixfixe predict` takes, with the initial weights of seed 0."""
    config = configuration(*overrides)
    task = build_task(config).with_spec(TargetSpec(("expression",), (0.0,), (1.0,), Bins()))
    torch.manual_seed(0)
    network = build(build_recipe(config), config, task)
    folder = RunFolder(path)
    folder.path.mkdir()
    write_json(folder.config_file, config)  # JSON is YAML
    save_targets(folder, task)
    save_file(network.state_dict(), folder.weights_file)
    return path
