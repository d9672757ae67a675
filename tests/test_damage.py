"""Whatever has happened to the files of a run: a command is right, or ends soon with one message that says what is wrong.

A run that was trained here, evaluated, and one that was interrupted are changed in every way that comes to mind: bytes,
lengths, kinds of values, kinds of files.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import demo
from fabricated_runs import make_grid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_fit import table
from test_resume import interrupted

from prixfixe.checkpoint import checkpoints
from prixfixe.cli import main
from prixfixe.errors import BusyError, InputError, TrainingError
from prixfixe.experiment import run
from prixfixe.simulation import simulate

FEW = {
    "recipe": ("autosome", "bhi"),
    "first": ("conv",),
    "core": ("bilstm", "efficientnet"),
    "final": ("mlp", "soft_bins"),
}
RUN = "bhi+conv+efficientnet+mlp"
SECONDS = 10  # within which all but training must have ended
EXCEPTION = re.compile(r"\b(?!InputError\b)[A-Z][a-z]\w*(Error|Exception)\b|Traceback")


@dataclass(frozen=True)
class Runs:
    """sweep: seven fabricated runs and the one that is damaged; begun: one that was interrupted, and its configuration;
    table: sequences and their measurements."""

    sweep: Path
    begun: Path
    config: dict[str, Any]
    table: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    home = tmp_path_factory.mktemp("damage")
    measurements = simulate(60, seed=3).measurements
    rows = zip(measurements.sequences.to_strings(), measurements.expression, strict=True)
    promoters = home / "promoters.tsv"
    promoters.write_text("sequence\texpression\n" + "".join(f"{sequence}\t{value}\n" for sequence, value in rows))
    config = table(
        demo("bhi", "conv", "efficientnet", "mlp", "first.channels=8"), promoters, epochs=2, batch_size=16,
        checkpoint_minutes=0,
    )  # fmt: skip
    sweep = make_grid(home / "sweep", choices=FEW, n=30, test=60, failed={"bhi+conv+bilstm+mlp": "killed"})
    shutil.rmtree(sweep / RUN)
    run(config, sweep / RUN, show_progress=False)
    assert main(["evaluate", str(sweep / RUN), str(promoters), "--bootstrap", "0", "-o", str(home / "out")]) == 0
    interrupted(config, home / "begun", 5)
    return Runs(sweep, home / "begun", config, promoters)


class Hangs(BaseException):
    """Raised by the clock. No handler of the commands takes it for an error of its own."""


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ended(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and the message of a command, which ends well, or with one message in plain words."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), in_time(SECONDS):
        code = main([str(argument) for argument in arguments])
    said = [line for line in err.getvalue().splitlines() if not line.startswith("warning: ")]
    assert not EXCEPTION.search(err.getvalue() + out.getvalue()), err.getvalue() + out.getvalue()
    assert code in (0, 1, 2), err.getvalue()
    if code:
        assert len([line for line in said if line.startswith("prixfixe: ")]) == 1, err.getvalue()
    return code, out.getvalue(), err.getvalue()


WEIRD: list[Any] = [
    *(None, True, 0, -1, 10**9, 10**400, 0.5, float("nan"), float("inf"), 1e308, -1e308),
    *(
        "",
        "x",
        "1",
        "a\x1b[31mb",
        "a\nb\rc",
        "$x_{$",
        "\\frac$ $",
        "=cmd|x",
        "[bold]x[/bold]",
        "<b>",
        "../..",
        "é" * 300,
    ),
    *([], [1], ["a"], {}, {"a": 1}, [[[[]]]]),
]


def put(content: Any, chance: Callable[[int], int], value: Any) -> Any:
    """The content with one value of it, wherever it lies, replaced, left out or given another key."""
    if isinstance(content, dict) and content:
        key = list(content)[chance(len(content))]
        way = chance(4)
        if way == 0 or not isinstance(content[key], dict | list):
            return {**content, key: value}
        if way == 1:
            return {k: v for k, v in content.items() if k != key}
        return {**content, key: put(content[key], chance, value)}
    if isinstance(content, list) and content:
        index = chance(len(content))
        return [*content[:index], put(content[index], chance, value), *content[index + 1 :]]
    return value


def dumped(content: Any) -> str:
    return json.dumps(content)


KINDS = (
    "bytes",
    "cut",
    "value",
    "value",
    "value",
    "deep",
    "text",
    "pipe",
    "folder",
    "loop",
    "device",
    "gone",
    "arrays",
)


def damage(file: Path, draw: st.DataObject) -> str:
    """Changes a file, or what has its name, in one way; returns what was done."""
    kind = draw.draw(st.sampled_from(KINDS))
    content = file.read_bytes() if file.is_file() else b"x"
    if kind == "bytes" and content:
        changed = bytearray(content)
        for place, value in draw.draw(
            st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
        ):
            changed[place] = value
        file.write_bytes(bytes(changed))
    elif kind == "cut":
        file.write_bytes(content[: draw.draw(st.integers(0, len(content)))])
    elif kind == "value" and file.suffix in (".json", ".yaml"):
        known = yaml.safe_load(content) if file.suffix == ".yaml" else json.loads(content)
        for _ in range(draw.draw(st.integers(1, 2))):
            value = draw.draw(st.sampled_from(WEIRD))
            known = put(known, lambda n: draw.draw(st.integers(0, n - 1)), value)
        file.write_text(dumped(known) if file.suffix == ".json" else yaml.safe_dump(known, sort_keys=False))
    elif kind == "value" and file.suffix == ".csv":
        lines = [line.split(",") for line in content.decode().splitlines()]
        row = draw.draw(st.sampled_from(lines))
        row[draw.draw(st.integers(0, len(row) - 1))] = str(draw.draw(st.sampled_from(WEIRD)))
        file.write_text("\n".join(map(",".join, lines)))
    elif kind == "deep":
        file.write_text(draw.draw(st.sampled_from(["[" * 50_000, '{"a":' * 50_000, "- " * 20_000, "a: " * 2000])))
    elif kind == "arrays" and file.suffix == ".npz":
        n = draw.draw(st.sampled_from([0, 1, 12, 10_000]))
        dtype = draw.draw(st.sampled_from(["f8", "f2", "i8", "U3", "c16", "?", "S2"]))
        shape = draw.draw(st.sampled_from([(n,), (n, 2), (1, n), (n, 1, 1), ()]))
        value = draw.draw(st.sampled_from([0, 1]))
        both = {name: np.full(shape, value).astype(dtype) for name in ("measured", "predicted")}
        np.savez(file, **both, subset_high=np.array([10**6, -1]))
    else:
        file.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "folder":
            file.mkdir()
        elif kind == "loop":
            file.symlink_to(file)
        elif kind == "device":
            file.symlink_to("/dev/zero")
        elif kind == "text":
            file.write_text("\x1b[2J\u202e= $ \\ \0 {}\n" * 10)
    return kind


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as home:
        yield Path(shutil.copytree(folder, Path(home) / folder.name, symlinks=True))


def bounded(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


FILES = (
    *("config.yaml", "status.json", "metrics.json", "targets.json", "evaluation.json", "history.csv", "log.jsonl"),
    *("validation.npz", "test.npz", "weights.safetensors", "../sweep.json", "lock.7", "error.txt"),
)


@bounded(80)
@given(draw=st.data())
def test_results_show_the_others(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.sweep) as sweep:
        damage(sweep / RUN / draw.draw(st.sampled_from(FILES)), draw)
        if draw.draw(st.booleans()):
            status = sweep / RUN / "status.json"
            status.unlink() if status.is_file() else None
            status.exists() or status.is_symlink() or status.write_text('{"state": "running"}')
        code, out, _ = ended("results", sweep, "--format", "csv")
        assert code == 0
        rows = list(csv.DictReader(io.StringIO(out)))
        assert {Path(row["run"]).name for row in rows} >= {
            path.name for path in runs.sweep.iterdir() if "+" in path.name
        } - {RUN}
        for view in ([], ["--effects"], ["--columns", "slots,scores,reason,variant", "--format", "md"]):
            assert ended("results", sweep, *view)[0] == 0


@bounded(8)
@given(draw=st.data())
def test_a_report_shows_the_others(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.sweep) as sweep:
        damage(sweep / RUN / draw.draw(st.sampled_from(FILES)), draw)
        code, _, _ = ended("report", sweep, "-o", sweep.parent / "report.html", "--samples", "20")
        assert code == 0
        page = (sweep.parent / "report.html").read_text()
        assert "7 of 8" in page or "6 of" in page


@bounded(40)
@given(draw=st.data())
def test_predictions_are_right_or_refused(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.sweep / RUN) as folder:
        file = draw.draw(st.sampled_from(["config.yaml", "targets.json", "weights.safetensors", "status.json"]))
        damage(folder / file, draw)
        code, out, _ = ended("predict", folder, runs.table, "--device", "cpu")
        assert code in (0, 2)
        if code == 0:
            values = [float(line.split("\t")[2]) for line in out.splitlines()[1:]]
            assert len(values) == 60 and np.isfinite(values).all()


@bounded(25)
@given(draw=st.data())
def test_a_run_goes_on_or_says_why_not(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.begun) as folder:
        names = [*FILES[:8], *(path.name for path in checkpoints(folder))]
        damage(folder / draw.draw(st.sampled_from(names)), draw)
        err = io.StringIO()
        with contextlib.redirect_stderr(err), in_time(6 * SECONDS):
            try:
                run(runs.config, folder, show_progress=True)
                assert json.loads((folder / "metrics.json").read_text())["steps"] == 6
                assert not (folder / "metrics.json").is_symlink()
            except (InputError, TrainingError, BusyError, OSError) as error:
                assert not EXCEPTION.search(str(error)), error
                assert str(folder) in str(error)
        assert not EXCEPTION.search(err.getvalue())
