"""Sweeps through the command line: what fails is named and can be run by itself, and what is interrupted goes on."""

import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from prixfixe.analysis.results import collect
from prixfixe.common.errors import InputError
from prixfixe.common.overrides import quoted
from prixfixe.runs.folder import RunFolder
from prixfixe.sweeps.app import train
from prixfixe.sweeps.live_view import Cell, GridView, LineView, cells_that_fit, slots, watch
from prixfixe.sweeps.plan import Plan, end_line, record_end
from prixfixe.sweeps.pool import JobDiedError, JobRaisedError, JobStoppedError, JobTimeoutError

TINY = ("experiment=demo", "recipe=bhi", "first=conv", "final=soft_bins", "dataset.size=60")


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "prixfixe", "train", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        process_group=0,
    )


def test_the_printed_command_runs_a_failed_combination_by_itself(tmp_path: Path) -> None:
    (tmp_path / "my conf" / "core").mkdir(parents=True)
    (tmp_path / "my conf" / "core" / "fragile.yaml").write_text("_target_: fragile.Fragile\n")
    (tmp_path / "fragile.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nfrom prixfixe.contract import Block\n\n"
        "class Fragile(Block):\n"
        "    def __init__(self, inputs):\n"
        "        super().__init__()\n"
        "        self.out_channels = inputs.channels\n"
        "        self.scale = nn.Conv1d(inputs.channels, inputs.channels, 1)\n"
        "    def forward(self, x):\n"
        "        if self.training and not Path('mended').exists():\n"
        "            raise SystemExit(3)\n"
        "        return self.scale(x)\n"
    )
    folder = "runs/it's (mine), a=b"
    sweep = ("--config-dir", "my conf", "-m", *TINY, "core=efficientnet,fragile", f"hydra.sweep.dir={quoted(folder)}")
    first = start(*sweep, cwd=tmp_path)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 1, err
    assert "2 combinations in runs/it's (mine), a=b (simulated assay): 2 to run" in err
    assert "1 of 2 combinations are not done" in err
    assert "bhi+conv+fragile+soft_bins: SystemExit: 3" in err
    assert "Traceback" not in err
    (tmp_path / "mended").touch()
    words = shlex.split(err.splitlines()[-1])
    assert words[:2] == ["prixfixe", "train"]
    assert [shlex.split(row["command"]) for row in collect([tmp_path / folder]).others] == [
        [*words[:-1], f"hydra.run.dir={quoted(str(tmp_path / folder / 'bhi+conv+fragile+soft_bins'))}"]
    ]
    again = start(*words[2:], cwd=tmp_path)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert RunFolder(tmp_path / folder / "bhi+conv+fragile+soft_bins").status()["state"] == "done"
    assert Plan(tmp_path / folder, Plan.read(tmp_path / folder).jobs).failure() is None


def test_ctrl_c_lets_the_jobs_save_and_says_how_to_go_on(tmp_path: Path) -> None:
    sweep = (
        "-m",
        *TINY[:-1],
        "core=efficientnet,bilstm",
        "dataset.size=200",
        "training.epochs=400",
        "hydra.launcher.jobs=2",
    )
    first = start(*sweep, cwd=tmp_path)
    runs = [tmp_path / "runs" / "demo" / f"bhi+conv+{core}+soft_bins" for core in ("efficientnet", "bilstm")]
    deadline = time.monotonic() + 240
    while not all((run / "history.csv").exists() for run in runs):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGINT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 130
    assert err.rstrip().endswith("interrupted: 0 of 2 combinations done; the same command goes on from there")
    assert "Traceback" not in err
    for run in runs:
        status = RunFolder(run).status()
        assert status["state"] == "failed"
        assert status["reason"].startswith("interrupted")


def test_a_sweep_whose_processes_are_killed_ends_with_the_same_numbers(tmp_path: Path) -> None:
    chaos = Path(__file__).parents[1] / "benchmarks" / "chaos.py"
    small = (
        "--combinations",
        "2",
        "--size",
        "300",
        "--epochs",
        "6",
        "--every",
        "1.5",
        "-o",
        str(tmp_path / "chaos.json"),
    )
    subprocess.run([sys.executable, str(chaos), *small], cwd=tmp_path, check=True, timeout=900, capture_output=True)
    result = json.loads((tmp_path / "chaos.json").read_text())
    assert result["combinations"] == 2
    assert sum(result["kills"].values()) > 0
    assert result["different"] == []


PLAN = {f"bhi+conv+{core}+mlp": ["recipe=bhi", f"core={core}"] for core in ("bilstm", "efficientnet")}


@pytest.mark.parametrize(
    "value",
    [
        "runs/demo/bhi+conv",
        "a b",
        "it's",
        "a,b",
        "x=y",
        "[1]",
        "{a}",
        "back\\slash'",
        "ends in \\",
        '"',
        "(c)",
        "ümlaut",
        "a\\\\'b",
    ],
)
def test_values_are_quoted_as_hydra_reads_them(value: str) -> None:
    [override] = OverridesParser.create().parse_overrides([f"key={quoted(value)}"])
    assert override.value() == value


def test_a_plan_names_what_is_open_and_why(tmp_path: Path) -> None:
    plan = Plan(tmp_path, {**PLAN, "bhi+conv+proformer+mlp": ["core=proformer"]})
    RunFolder(tmp_path / "bhi+conv+bilstm+mlp").write_status("done")
    RunFolder(tmp_path / "bhi+conv+efficientnet+mlp").write_status("running")
    assert plan.open() == {
        "bhi+conv+efficientnet+mlp": "its process is gone, and said nothing",
        "bhi+conv+proformer+mlp": "never started",
    }
    assert plan.count() == "1 of 3 combinations done"
    (tmp_path / "bhi+conv+bilstm+mlp" / "status.json").write_text("{")
    assert "is damaged" in plan.open()["bhi+conv+bilstm+mlp"]
    assert "3 of 3 combinations are not done" in str(plan.failure())
    one = Plan(tmp_path, {"bhi+conv+proformer+mlp": []})
    assert one.count() == "0 of 1 combination done"
    assert str(one.failure()).startswith("1 of 1 combination is not done:")


def test_a_running_one_is_named_with_its_process(tmp_path: Path) -> None:
    from prixfixe.runs.lock import RunLock

    plan = Plan(tmp_path, {"bhi+conv+bilstm+mlp": []})
    RunFolder(tmp_path / "bhi+conv+bilstm+mlp").write_status("running")
    with RunLock(tmp_path / "bhi+conv+bilstm+mlp"):
        assert f"running elsewhere: process {os.getpid()}" in plan.open()["bhi+conv+bilstm+mlp"]


def test_the_own_words_of_a_run_stay_unless_it_took_too_long(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    began = time.time()
    run.write_status("failed", reason="its own words")
    assert not record_end(run, "killed", began)
    assert run.status()["reason"] == "its own words"
    assert record_end(run, "interrupted: it took longer", began, overrule=True)
    assert run.status()["reason"] == "interrupted: it took longer"
    run.write_status("done")
    assert not record_end(run, "interrupted: it took longer", began, overrule=True)
    run.write_status("running")
    assert record_end(run, "killed", began)


def test_what_the_view_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a+b+c+d", "a+b+c+e", "a+b+c+f", "a+b+c+g"]
    with LineView(tmp_path, names) as view:
        for index in range(4):
            view.started(index, 1)
            RunFolder(tmp_path / names[index]).write_status("running")
        view.ended(0, JobDiedError("killed by signal 9"), True)
        view.started(0, 2)
        view.ended(0, METRICS, False)
        view.ended(1, JobRaisedError("BusyError", "it is being trained elsewhere", again=False), False)
        view.ended(2, JobTimeoutError("interrupted: too long"), False)
        view.ended(3, JobStoppedError("interrupted by SIGINT"), False)
    err = capsys.readouterr().err
    assert "a+b+c+d is tried again: killed by signal 9" in err
    assert re.search(r"^\[1/4\] a\+b\+c\+d +KL 1.000  r 0.500  rho   -      2.5 s  left ", err, re.MULTILINE)
    assert re.search(r"^\[2/4\] a\+b\+c\+e +FAILED: it is being trained elsewhere$", err, re.MULTILINE)
    assert re.search(r"^\[3/4\] a\+b\+c\+f +FAILED: interrupted: too long$", err, re.MULTILINE)
    assert re.search(r"^\[4/4\] a\+b\+c\+g +FAILED: interrupted by SIGINT$", err, re.MULTILINE)
    assert err.count("]") == 4, "one that is tried again has no last line"
    assert err.rstrip().endswith("tried again: a+b+c+d")
    states = [RunFolder(tmp_path / name).status() for name in names]
    assert [state["state"] for state in states[1:]] == ["running", "failed", "failed"]
    assert [state["reason"] for state in states[2:]] == ["interrupted: too long", "interrupted by SIGINT"]


METRICS = {"kl": 1.0, "pearson_r": 0.5, "spearman_rho": None, "training_seconds": 2.5}


def test_scores_of_one_run_are_labelled_and_need_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prixfixe.sweeps.app.run", lambda *_, **__: {**METRICS, "simulated": True})
    monkeypatch.setattr(sys, "argv", sys.argv)
    train(["hydra.run.dir=runs/x"])
    assert capsys.readouterr().out == "runs/x: KL 1.0000, Pearson r 0.5000, Spearman rho - (simulated assay)\n"
    monkeypatch.setattr("prixfixe.sweeps.app.run", lambda *_, **__: {**METRICS, "kl": float("nan"), "simulated": False})
    train(["hydra.run.dir=runs/x", "dataset=table", "dataset.path=x.tsv"])
    assert capsys.readouterr().out == "runs/x: KL -, Pearson r 0.5000, Spearman rho -\n"


def test_scores_of_a_sweep_are_labelled() -> None:
    assert "rho   -    simulated    2.5 s" in end_line("a+b+c+d", {**METRICS, "simulated": True}, None)
    assert "simulated" not in end_line("a+b+c+d", {**METRICS, "simulated": False}, None)


@pytest.mark.parametrize(
    ("setting", "launcher"),
    [
        ("epochs=0", "pool"),
        ("batch_size=many", "pool"),
        ("precision=fp8", "slurm"),
        ("epochs=2,0", "pool"),
        ("device=gpu", "pool"),
    ],
)
def test_bad_settings_of_training_are_refused_before_anything_starts(
    setting: str, launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(InputError, match=f"training.{setting.partition('=')[0]}="):
        train(
            [
                "-m",
                *TINY,
                "core=bilstm",
                f"training.{setting}",
                "variant=v${training.epochs}",
                f"hydra/launcher={launcher}",
            ]
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("device", "gpus", "at_a_time"), [("cpu", [], 7), ("auto", ["0", "1"], 2)])
def test_jobs_on_the_cpu_are_not_limited_by_gpus(
    device: str, gpus: list[str], at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_in_pool(job: object, arguments: list[tuple[object, ...]], **settings: object) -> list[object]:
        assert (settings["gpus"], settings["at_a_time"]) == (gpus, at_a_time)
        assert arguments[0][3] == bool(gpus)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr("prixfixe.sweeps.pool.gpu_names", lambda: ["0", "1"])
    monkeypatch.setattr("prixfixe.sweeps.pool.cpu_count", lambda: 7)
    monkeypatch.setattr("prixfixe.sweeps.pool.run_in_pool", run_in_pool)
    with pytest.raises(SystemExit) as stopped:
        train(["-m", *TINY, "core=bilstm", f"training.device={device}"])
    assert stopped.value.code == 130


def test_a_line_costs_the_same_however_many_jobs_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(RunFolder, "read_json", lambda self, file: read.append(file) or {})
    names = [f"a+b+c+d+seed{seed}" for seed in range(300)]
    with LineView(tmp_path, names) as view:
        for index in range(300):
            view.started(index, 1)
            view.ended(index, METRICS, False)
    assert len(read) <= 300


def test_a_sweep_composes_what_hydra_composes(tmp_path: Path) -> None:
    from hydra import version
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from prixfixe.common.paths import conf_folder
    from prixfixe.sweeps.hydra_internals import Hydra, create_config_search_path
    from prixfixe.sweeps.hydra_job import RememberedFiles

    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "mine.yaml").write_text("_target_: mine.Mine\nhidden: ${training.batch_size}\n")
    combinations = [
        [
            f"experiment={experiment}",
            f"recipe={recipe}",
            f"core={core}",
            "final=mlp",
            "variant='b${training.batch_size}'",
        ]
        for experiment, recipe, core in (
            ("demo", "bhi", "bilstm"),
            ("proformer", "unlockdna", "proformer"),
            ("demo", "bhi", "mine"),
        )
    ]
    version.setbase("1.3")
    try:
        hydra = Hydra.create_main_hydra2("test", create_config_search_path(str(conf_folder())))
        master = hydra.compose_config("train", [f"hydra.searchpath=[file://{tmp_path}]"], run_mode=RunMode.MULTIRUN)
        loader = hydra.config_loader
        plain = [loader.load_sweep_config(master, combination) for combination in combinations]
        loader.repository = RememberedFiles(loader.get_search_path())  # type: ignore[attr-defined]
        first = [loader.load_sweep_config(master, combination) for combination in combinations]
        in_a_job = pickle.loads(pickle.dumps(loader))  # where nothing is read
        later = [in_a_job.load_sweep_config(master, combination) for combination in combinations]
        assert first == later == plain
        for configs in (first, later):
            assert [OmegaConf.to_yaml(config) for config in configs] == [OmegaConf.to_yaml(config) for config in plain]
    finally:
        GlobalHydra.instance().clear()


def text_of(view: GridView, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> str:
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(view.render())
    return console.export_text()


def test_the_grid_shows_every_combination_and_fits_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots_of = yaml.safe_load((Path(__file__).parents[1] / "conf" / "experiment" / "grid81.yaml").read_text())["hydra"][
        "sweeper"
    ]["params"]
    recipes, firsts, cores, finals = (choices.split(",") for choices in slots_of.values())
    asked = [f"{r}+{f}+{c}+{o}" for r in recipes for f in firsts for c in cores for o in finals]
    done = RunFolder(tmp_path / asked[0])
    done.write_status("done")
    done.metrics_file.write_text(json.dumps({"pearson_r": 0.654}))
    view = GridView(tmp_path, asked, asked[1:], at_a_time=2)
    view.started(0, 1)
    view.started(1, 1)
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", open(os.devnull, "w"))  # noqa: SIM115
        view.ended(1, JobRaisedError("ArithmeticError", "it broke", again=False), False)
    wide = text_of(view, 130, 40, monkeypatch)
    assert "0.654" in wide
    assert wide.count("·") >= 78
    assert "1 done  1 running  78 waiting  1 failed" in wide
    assert f"last failure: {asked[2]}: ArithmeticError: it broke" in wide
    for choices in (recipes, firsts, cores):
        assert all(choice in wide for choice in choices)
    narrow = text_of(view, 70, 40, monkeypatch)
    assert narrow.count("·") >= 78
    assert max(map(len, narrow.splitlines())) <= 70
    small = text_of(view, 40, 8, monkeypatch)
    assert "1 done" in small
    assert len(small.splitlines()) <= 8


def test_seeds_share_a_cell_and_a_list_is_no_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots("bhi+conv+bilstm+mlp+wide+seed3") == ("bhi", "conv", "bilstm", "mlp")
    assert cells_that_fit([Cell("done", 0.5), Cell("waiting")], 7) == ("1/2", "waiting")
    assert cells_that_fit([Cell("running", epoch=1, epochs=4)], 7) == ("▸25%", "running")
    assert cells_that_fit([], 7) == (" ", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(watch(tmp_path, ["a+b+c+d", "a+b+c+d+seed1"], ["a+b+c+d"], 1)) is LineView
    assert type(watch(tmp_path, ["a+b+c+d", "a+b+c+e"], ["a+b+c+e"], 1)) is GridView
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert type(watch(tmp_path, ["a+b+c+d", "a+b+c+e"], ["a+b+c+e"], 1)) is LineView


def test_the_time_left(tmp_path: Path) -> None:
    view = GridView(tmp_path, ["a+b+c+d", "a+b+c+e", "a+b+c+f"], ["a+b+c+d", "a+b+c+e", "a+b+c+f"], at_a_time=2)
    assert view.seconds_left() is None
    view.durations = [10.0, 20.0]
    assert view.seconds_left() == pytest.approx(3 * 15 / 2)
    view.cells["a+b+c+d"] = Cell("running", began=time.monotonic() - 10)
    assert view.seconds_left() == pytest.approx((2 * 15 + 5) / 2, abs=0.5)


@pytest.mark.parametrize(
    "setting", ["jobs=0", "jobs=two", "jobs_per_gpu=null", "retries=-1", "retries=1.5", "timeout_minutes=0"]
)
def test_settings_of_the_pool_are_checked(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omegaconf import OmegaConf

    from hydra_plugins.prixfixe_sweeps.pool_launcher import PoolLauncher

    name, value = setting.split("=")
    settings = {"jobs": None, "jobs_per_gpu": 1, "retries": 1, "timeout_minutes": None, name: yaml.safe_load(value)}
    launcher: Any = PoolLauncher(**settings)
    with pytest.raises(InputError, match=f"hydra.launcher.{name}="):
        launcher.setup(hydra_context=None, task_function=None, config=OmegaConf.create())


def test_a_sweep_on_one_of_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs see that GPU alone, whose number is 0 there."""
    from contextlib import nullcontext

    from hydra_plugins.prixfixe_sweeps.pool_launcher import PoolLauncher

    seen = {}

    def run_in_pool(job: object, arguments: list[tuple[object, ...]], **settings: object) -> list[object]:
        seen.update(settings, overrides=[job[4] for job in arguments])
        return [None for _ in arguments]

    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    monkeypatch.setattr("prixfixe.sweeps.pool.run_in_pool", run_in_pool)
    monkeypatch.setattr("prixfixe.sweeps.hydra_job.job_names", lambda *_: ((), ()))
    monkeypatch.setattr("prixfixe.sweeps.live_view.watch", lambda *_: nullcontext())
    launcher = PoolLauncher(jobs=None, jobs_per_gpu=2, retries=0, timeout_minutes=None)
    config = OmegaConf.create({"training": {"device": "cuda:1"}})
    launcher.setup(hydra_context=None, task_function=None, config=config)  # type: ignore[arg-type]
    launcher.launch([["core=bilstm", "training.device=cuda:1"]], 0)
    assert seen["gpus"] == ["5"] and seen["at_a_time"] == 2
    assert seen["overrides"] == [["core=bilstm", "training.device=cuda:1", "training.device=cuda"]]
