"""Whatever has happened to the files of a run: a command is right, or ends soon with one message that says what is
wrong.

A run that was trained here, evaluated, and one that was interrupted are changed in every way that comes to mind:
bytes, lengths, kinds of values, kinds of files.
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

from prixfixe.cli import main
from prixfixe.common.errors import BusyError, InputError, TrainingError
from prixfixe.runs.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.lock import RunLock
from prixfixe.runs.reader import read_evaluation
from prixfixe.simulation import simulate
from prixfixe.training import fit
from prixfixe.training.experiment import run

FEW = {
    "recipe": ("autosome", "bhi"),
    "first": ("conv",),
    "core": ("bilstm", "efficientnet"),
    "final": ("mlp", "soft_bins"),
}
RUN = "bhi+conv+efficientnet+mlp"
SECONDS = 10  # within which all but figures and training must have ended
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
    assert main(["evaluate", str(sweep / RUN), str(promoters), "--bootstrap", "0", "-o", str(home / "out.txt")]) == 0
    interrupted(config, home / "begun", 5)
    return Runs(sweep, home / "begun", config, promoters)


class Hangs(BaseException):
    """Raised by the clock. No handler of the commands takes it for an error of its own."""


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raises Hangs after so many seconds of work, or after six times as many of waiting: the machine may be busy."""

    def ring(*_: Any) -> None:
        raise Hangs

    clocks = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, 6 * seconds)}
    before = {number: signal.signal(number, ring) for number, _ in clocks.values()}
    for clock, (_, limit) in clocks.items():
        signal.setitimer(clock, limit)
    try:
        yield
    finally:
        for clock, (number, _) in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, before[number])


def ended(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and the message of a command, which ends well, or with one message in plain words."""
    out, err = io.StringIO(), io.StringIO()
    seconds = SECONDS * (3 if arguments[0] == "report" else 1)  # figures take their time
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), in_time(seconds):
        code = main([str(argument) for argument in arguments])
    said = [line for line in err.getvalue().splitlines() if not line.startswith("warning: ")]
    assert not EXCEPTION.search(err.getvalue() + out.getvalue()), err.getvalue() + out.getvalue()
    assert code in (0, 1, 2), err.getvalue()
    if code:
        assert len([line for line in said if line.startswith("prixfixe: ")]) == 1, err.getvalue()
    return code, out.getvalue(), err.getvalue()


WEIRD: list[Any] = [
    *(None, True, 0, -1, 10**9, 10**400, 0.5, float("nan"), float("inf"), 1e308, -1e308),
    *("", "x", "1", "a\x1b[31mb", "a\nb\rc", "$x_{$", "\\frac$ $", "=cmd|x", "[bold]x[/bold]", "<b>", "../.."),
    "é" * 300,
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
    *("bytes", "cut", "value", "value", "value", "deep", "text", "arrays"),
    *("pipe", "folder", "loop", "device", "gone"),
)


def damage(file: Path, draw: st.DataObject) -> str:
    """Changes a file, or what has its name, in one way; returns what was done."""
    kind = draw.draw(st.sampled_from(KINDS))
    if not file.is_file():
        file.write_bytes(b"{}")  # of a run that has not come so far
    content = file.read_bytes()
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


@bounded(40)
@given(draw=st.data())
def test_results_show_the_others(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.sweep) as sweep:
        damage(sweep / RUN / draw.draw(st.sampled_from(FILES)), draw)
        if draw.draw(st.booleans()):
            with contextlib.suppress(OSError):
                (sweep / RUN / "status.json").unlink()
                (sweep / RUN / "status.json").write_text('{"state": "running"}')
        code, out, _ = ended("results", sweep, "--format", "csv")
        assert code == 0
        rows = list(csv.DictReader(io.StringIO(out)))
        others = {path.name for path in runs.sweep.iterdir() if "+" in path.name} - {RUN}
        assert {Path(row["run"]).name for row in rows} >= others
        for view in ([], ["--effects"], ["--columns", "slots,scores,reason,variant", "--format", "md"]):
            assert ended("results", sweep, *view)[0] == 0


@bounded(5)
@given(draw=st.data())
def test_a_report_shows_the_others(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.sweep) as sweep:
        damage(sweep / RUN / draw.draw(st.sampled_from(FILES)), draw)
        code, _, _ = ended("report", sweep, "-o", sweep.parent / "report.html", "--samples", "20")
        assert code == 0
        page = (sweep.parent / "report.html").read_text()
        assert "7 of 8" in page or "6 of" in page


@bounded(25)
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


@bounded(12)
@given(draw=st.data())
def test_a_run_goes_on_or_says_why_not(runs: Runs, draw: st.DataObject) -> None:
    with copied(runs.begun) as folder:
        names = [*FILES[:8], *(path.name for path in checkpoints(folder))]
        damage(folder / draw.draw(st.sampled_from(names)), draw)
        err = io.StringIO()
        with contextlib.redirect_stderr(err), in_time(3 * SECONDS):
            try:
                run(runs.config, folder, show_progress=True)
                assert json.loads((folder / "metrics.json").read_text())["steps"] == 6
                assert not (folder / "metrics.json").is_symlink()
            except (InputError, TrainingError, BusyError, OSError) as error:
                assert not EXCEPTION.search(str(error)), error
                assert str(folder) in str(error)
        assert not EXCEPTION.search(err.getvalue())


CHOICES = "choices: {recipe: bhi, first: conv, core: efficientnet, final: mlp}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
ALIASES = f"{CHOICES}dataset:\n  " + BOMB.replace("\n", "\n  ")
SAID = {
    "a seed that is a list": ("config.yaml", f"{CHOICES}seed: [1]\n", "seed is [1], no whole number"),
    "aliases without end": ("config.yaml", ALIASES, "anchors or aliases"),
    "a tag": ("config.yaml", f"{CHOICES}dataset: !!python/object/apply:os.getcwd []\n", "it has a tag"),
    "a key twice": ("config.yaml", f"{CHOICES}{CHOICES}", "a key comes twice"),
    "a number of 400 digits": ("metrics.json", '{"parameters": 1' + "0" * 400 + "}", "a whole number beyond 64 bits"),
    "a score out of its range": ("metrics.json", '{"pearson_r": 7}', "pearson_r is 7, out of its range"),
    "deep JSON": ("metrics.json", '{"a":' * 100_000, "it is nested too deeply"),
    "another state": ("status.json", '{"state": "\\u001b[2Jdone"}', "none of the words that it can be"),
}


@pytest.mark.parametrize("case", SAID)
def test_one_bad_file_is_named_and_costs_no_other_row(case: str, tmp_path: Path) -> None:
    file, content, message = SAID[case]
    sweep = make_grid(tmp_path / "sweep", choices=FEW, n=10)
    (sweep / RUN / file).write_text(content)
    code, out, _ = ended("results", sweep)
    assert code == 0
    assert "7 of 7 combinations done" in out
    [line] = [line for line in out.splitlines() if line.startswith("damaged: ")]
    assert str(sweep / RUN / file) in line and message in line


def test_strange_locks_and_a_strange_plan_cost_no_row(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "sweep", choices=FEW, n=10, running={RUN: 1})
    here = {"host": os.uname().nodename, "processes": os.readlink("/proc/self/ns/pid"), "born": "1", "since": "x"}
    for name, owner in {"lock.2": {**here, "pid": 10**30}, "lock.3": {**here, "pid": "x"}, "lock.²": {}}.items():
        (sweep / RUN / name).write_text(json.dumps(owner))
    (sweep / "sweep.json").write_text('{"jobs": {"../../elsewhere": []}}')
    code, out, _ = ended("results", sweep)
    assert code == 0
    assert "7 of 8 combinations done" in out
    assert "sweep.json is damaged" in out


def test_no_name_or_reason_reaches_a_terminal_or_a_table_as_it_is(tmp_path: Path) -> None:
    evil = "\x1b[2J\rdone\n4 of 4 done | <b> \u202e"
    failed = {RUN: evil, "bhi+conv+bilstm+mlp": "=cmd|'/c calc'!A0"}
    sweep = make_grid(tmp_path / "sweep", choices=FEW, n=10, failed=failed)
    (sweep / RUN).rename(sweep / f"{RUN}+{evil}".replace("/", "_"))
    for form in ("table", "md", "latex", "csv"):
        for options in ([], ["--columns", "slots,state,reason,run,command"]):
            code, out, _ = ended("results", sweep, "--format", form, *options)
            assert code == 0
            assert not {"\x1b", "\r", "\u202e"} & set(out)
            assert not any(line.startswith("4 of 4 done") for line in out.splitlines())
    code, out, _ = ended("results", sweep, "--format", "csv")
    assert len(out.splitlines()) == 1 + len({row["run"] for row in csv.DictReader(io.StringIO(out))})
    assert "'=cmd|" in out and ",=cmd|" not in out
    code, out, err = ended("results", tmp_path / evil)
    assert (code, err.count("\n")) == (2, 1)
    assert not {"\x1b", "\r"} & set(err)


def test_dollars_in_names_are_letters_in_figures(tmp_path: Path) -> None:
    names = {**FEW, "core": ("$x_{$", "bilstm"), "recipe": ("[bold]\\frac$", "bhi")}
    sweep = make_grid(tmp_path / "sweep", choices=names, n=40)
    for config in sweep.glob("*/config.yaml"):
        text = config.read_text().replace("recipe: [bold]", "recipe: '[bold]").replace("frac$\n", "frac$'\n")
        config.write_text(re.sub(r"_target_: blocks\S+", "_target_: blocks.x.X", text).replace(", length", ", size"))
    assert ended("report", sweep, "-o", tmp_path / "report.html", "--samples", "20")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("$x_{$") > 10 and "mathdefault" not in page


WEIGHTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "NaN": (lambda tensor: tensor * float("nan"), "values that are not finite"),
    "infinite": (lambda tensor: tensor + float("inf"), "values that are not finite"),
    "whole numbers": (lambda tensor: tensor.int(), "holds int32, not float32"),
    "bool": (lambda tensor: tensor.bool(), "holds bool, not float32"),
    "complex": (lambda tensor: tensor.to(__import__("torch").complex64), "holds complex64, not float32"),
    "half": (lambda tensor: tensor.half(), "holds float16, not float32"),
    "shape": (lambda tensor: tensor[:1], "has shape"),
    "so large that nothing comes out": (lambda tensor: tensor.sign() * 3e38, "predicts values that are not finite"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none_are_refused(case: str, runs: Runs) -> None:
    from safetensors.torch import load_file, save_file

    change, message = WEIGHTS[case]
    with copied(runs.sweep / RUN) as folder:
        weights = load_file(folder / "weights.safetensors")
        name = next(name for name in weights if name.startswith("final.") and weights[name].ndim == 2)
        save_file({**weights, name: change(weights[name]).contiguous()}, folder / "weights.safetensors")
        code, _, err = ended("predict", folder, runs.table, "--device", "cpu")
        assert code == 2
        assert message in err


@pytest.mark.parametrize(
    "change",
    [{"std": [0]}, {"std": [-1]}, {"std": [float("inf")]}, {"mean": ["a"]}, {"mean": [float("nan")]}, {"mean": [1, 2]},
     {"tasks": []}, {"bins": {"number": 1}}, {"bins": {}}, {"std": [10**400]}, {"tasks": [1]}],
    ids=str,
)  # fmt: skip
def test_targets_that_are_none_are_refused(change: dict[str, Any], runs: Runs) -> None:
    with copied(runs.sweep / RUN) as folder:
        file = folder / "targets.json"
        known = json.loads(file.read_text())
        bins = {**known["bins"], **change["bins"]} if change.get("bins") else change.get("bins", known["bins"])
        file.write_text(json.dumps({**known, **change, "bins": bins}))
        code, _, err = ended("predict", folder, runs.table, "--device", "cpu")
        assert code == 2
        assert f"{file} is damaged" in err


def test_targets_of_version_0_1_have_no_deviation_of_the_errors(runs: Runs) -> None:
    with copied(runs.sweep / RUN) as folder:
        now = ended("predict", folder, runs.table, "--device", "cpu")
        file = folder / "targets.json"
        known = json.loads(file.read_text())
        del known["residual_sd"]
        file.write_text(json.dumps(known))
        assert ended("predict", folder, runs.table, "--device", "cpu") == now
        assert now[0] == 0


@pytest.mark.parametrize("content", ["[" + "[]," * 20_000_000 + "[]]", '{"subsets":[' + "{}," * 20_000_000 + "{}]}"])
def test_a_file_of_millions_of_values_is_damaged_at_once(content: str, tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(content)
    with in_time(3), pytest.raises(InputError, match="is damaged: it holds more than 2,097,152 values"):
        read_evaluation(file)


FACTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a step far beyond the end": lambda facts: facts["account"].update(step=10**9),
    "an epoch beyond the end": lambda facts: facts["account"].update(epoch=3),
    "a step that is text": lambda facts: facts["account"].update(step="5"),
    "an unknown count": lambda facts: facts["account"].update(colour=1),
    "no processes": lambda facts: facts.pop("processes"),
    "a schedule's method": lambda facts: facts["scheduler"].update(step=1),
    "a schedule at another step": lambda facts: facts["scheduler"].update(last_epoch=10**9),
    "a group of the optimizer": lambda facts: facts["param_groups"].pop(),
    "a list": lambda facts: facts.update(account=[]),
}


@pytest.mark.parametrize("case", FACTS)
def test_a_checkpoint_whose_facts_do_not_fit_is_damaged_and_the_one_before_is_used(
    case: str, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    with copied(runs.begun) as folder:
        found = load_checkpoint(folder)
        assert found is not None
        tensors, facts = found
        FACTS[case](facts)
        account = facts["account"]
        step = account["step"] if isinstance(account, dict) and isinstance(account["step"], int) else 5
        checkpoints(folder)[0].unlink()
        path = save_checkpoint(folder, step, tensors, facts)
        metrics = run(runs.config, folder, show_progress=True)
        err = capsys.readouterr().err
        assert f"{path} is damaged and removed" in err
        assert "going on after step 4 of 6" in err
        assert metrics["steps"] == 6


def test_a_run_that_has_lost_its_folder_writes_nothing_more(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with copied(runs.begun) as folder:
        backward, after = fit.backward, {}

        def taken_over(*arguments: Any, **options: Any) -> Any:
            facts = {"host": "node7", "processes": "", "pid": 1, "born": "1", "since": "2026-01-02 03:04 UTC"}
            (folder / f"lock.{10**17}").write_text(json.dumps(facts))
            after.update({path.name: path.read_bytes() for path in folder.iterdir()})
            return backward(*arguments, **options)

        monkeypatch.setattr(fit, "backward", taken_over)
        with pytest.raises(BusyError, match=r"was taken over by process 1 on node7.*writes nothing more there"):
            run(runs.config, folder, show_progress=False)
        now = {path.name: path.read_bytes() for path in folder.iterdir()}
        own = [name for name in after if name.startswith("lock.") and name != f"lock.{10**17}"]
        assert now == {name: content for name, content in after.items() if name not in own}
        assert json.loads(now["status.json"])["state"] == "running"
        before = dict(now)
        with RunLock(folder / "other") as held:
            (folder / "other" / f"lock.{10**17}").write_text("{}")
            for write in (
                lambda: RunFolder(folder / "other").write_status("failed"),
                lambda: save_checkpoint(folder / "other", 1, {}, {}),
                lambda: RunFolder(folder / "other").write_metrics({}),
            ):
                with pytest.raises(BusyError):
                    write()
            assert {path.name for path in (folder / "other").iterdir()} == {held.file.name, f"lock.{10**17}"}
        assert {path.name for path in folder.iterdir()} == {*before, "other"}


def test_links_of_a_run_are_never_written_through(runs: Runs) -> None:
    with copied(runs.begun) as folder:
        mine = folder.parent / "mine.txt"
        mine.write_text("mine")
        for name in (*FILES[2:4], *FILES[5:8], "weights.safetensors"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(mine)
        run(runs.config, folder, show_progress=False)
        assert mine.read_text() == "mine"
        assert json.loads((folder / "metrics.json").read_text())["steps"] == 6
