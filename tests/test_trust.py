"""Nothing of a folder that somebody sent is executed or imported: a canary in every place where Python looks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import demo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.common.paths import packages_named
from prixfixe.data.datasets import Dataset
from prixfixe.data.recipe import Recipe
from prixfixe.networks.parts import LOADED, OWN, Origin, factory, find_class, judged
from prixfixe.runs.folder import SLOTS
from prixfixe.training.experiment import run
from prixfixe.training.resume import plain_configuration

CANARY = "import os\nopen(os.environ['CANARY'], 'a').write(__file__ + '\\n')\n"
CLASSES = "from blocks.core.efficientnet import EfficientNet\nX = EfficientNet\n"
SEQUENCES = "TGCATTTTTTTCACATCAAAGGTTACCCGGTTACGGCTGTT\t11.5\nTGCATTTTTTTCACATCAAAGGTTACCCGATTACGGCTGTA\t3.5\n"
PLACES = (  # of modules below the received folder, which is `received` in the working folder
    *("evil.py", "sub/evil.py", "pkg/__init__.py", "blocks/core/evil.py", "blocks/core/efficientnet.py", "hubconf.py"),
    *("sitecustomize.py", "usercustomize.py", "conftest.py", "hydra_plugins/evil.py", "hydra_plugins/evil/__init__.py"),
    *("torch.py", "numpy.py", "yaml.py", "hydra.py", "typing.py", "__future__.py", "argparse.py", "pickle.py"),
    *("numexpr.py", "bottleneck.py", "tensorboard.py", "prixfixe_plugins.py", "omegaconf.py", "pydantic.py"),
)
TARGETS = (
    *("evil.EfficientNet", "evil.X", "sub.evil.X", "pkg.X", "received.evil.X", "received.sub.evil.X", "hubconf.X"),
    *("blocks.core.evil.EfficientNet", "received.blocks.core.evil.X", "torch.hub.load", "antigravity.x", "this.s"),
    *("unittest.__main__.x", "os.system", "builtins.exec", "prixfixe.__main__.main", "evil", "", "a..b", ".evil.X"),
    *(
        "prixfixe.cli.main",
        "hydra_plugins.evil.X",
        "sitecustomize.X",
        "beside.X",
        "torch.nn.Identity",
        "runpy.run_path",
    ),
)
FIELDS = (
    *("recipe", "first", "core", "final", "dataset", "logger", "optim.optimizer", "optim.schedule"),
    *("recipe.published.optimizer", "recipe.published.schedule"),
)


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that somebody made, with nothing wrong about it."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    config = demo("bhi", "conv", "efficientnet", "mlp", "dataset.size=60", "first.channels=8", "core.widths=[8]")
    run(config, folder, show_progress=False)
    return folder


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says which modules were executed."""
    file = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(file))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return file


@pytest.fixture
def received(honest: Path, canary: Path, tmp_path: Path) -> Path:
    """The run as it comes from elsewhere, with a canary in every place, and one beside it."""
    folder = tmp_path / "work" / "received"
    shutil.copytree(honest, folder)
    for place in PLACES:
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CANARY + CLASSES)
    (folder / "blocks" / "__init__.py").write_text(CANARY)
    (folder / "conf" / "core").mkdir(parents=True)
    (folder / "conf" / "core" / "evil.yaml").write_text("_target_: evil.X\n")
    (folder.parent / "beside.py").write_text(CANARY + CLASSES)
    (folder.parent / "table.tsv").write_text(SEQUENCES)
    (folder / "table.tsv").write_text(SEQUENCES)
    return folder


def point(folder: Path, field: str, target: str, **values: Any) -> None:
    """Has a field of a run's configuration name a target."""
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    node = config
    *path, last = field.split(".")
    for key in path:
        node = node[key]
    node[last] = {**(node[last] or {}), "_target_": target, **values}
    file.write_text(yaml.safe_dump(config, sort_keys=False))


COMMANDS = (
    ("predict", "{run}", "table.tsv"),
    ("evaluate", "{run}", "table.tsv"),
    ("train", "--resume", "{run}"),
)


@pytest.mark.parametrize(
    ("field", "inside"),
    [*((field, True) for field in FIELDS), ("core", False), ("dataset", False)],
    ids=[*FIELDS, "core beside", "dataset beside"],
)
def test_no_name_of_a_received_run_is_imported(
    field: str,
    inside: bool,
    received: Path,
    canary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(received if inside else received.parent)
    where = "." if inside else "received"
    good = (received / "config.yaml").read_text()
    before = set(sys.modules)
    for target in TARGETS if field in ("core", "dataset") else TARGETS[::3]:
        (received / "config.yaml").write_text(good)
        point(received, field, target)
        # a part that is not built is judged by its name alone, and these names may be parts
        passed_over = field not in SLOTS and target.startswith(("blocks.", "prixfixe.cli"))
        for command in [] if passed_over else COMMANDS:
            status = main([word.format(run=where) for word in command])
            out, err = capsys.readouterr()
            assert (status, out, err.count("\n")) == (2, "", 1), (target, command, err)
            assert err.startswith("prixfixe: ")
        if passed_over:
            prixfixe.load(where)
        assert main(["results", where]) == 0
        capsys.readouterr()
    assert not canary.exists(), canary.read_text()
    named = {"evil", "sub", "pkg", "beside", "antigravity", "this", "hubconf", "sitecustomize", "blocks.core.evil"}
    assert not named & (set(sys.modules) - before)


@pytest.mark.parametrize("way", ["-m", "script"])
@pytest.mark.parametrize("target", [None, "evil.X", "blocks.core.evil.EfficientNet", "received.evil.X"])
def test_the_current_folder_is_the_received_one(
    way: str, target: str | None, received: Path, canary: Path, tmp_path: Path
) -> None:
    """Also for all that Python and packages import besides: torch.py, typing.py, an optional numexpr.py."""
    script = tmp_path / "bin" / "prixfixe"
    script.parent.mkdir()
    script.write_text("import sys\nfrom prixfixe.cli import main\nsys.exit(main())\n")
    start = [sys.executable, "-m", "prixfixe"] if way == "-m" else [sys.executable, str(script)]
    if target:
        point(received, "core", target)
    where = os.environ.get("PYTHONPATH", ""), str(Path(prixfixe.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, where))}
    for command in (*COMMANDS, ("results", "."), ("report", ".", "-o", str(tmp_path / "report.html"))):
        words = [word.format(run=".") for word in command]
        done = subprocess.run(
            [*start, *words], cwd=received, env=environment, capture_output=True, text=True, timeout=300
        )
        assert not canary.exists(), (command, canary.read_text())
        refused = target is not None and command in COMMANDS
        few = command[0] in ("evaluate", "report")  # two sequences and one run are too few, but that is all
        assert done.returncode == 2 if refused else done.returncode in ((0, 1, 2) if few else (0,)), done.stderr
        assert "Traceback" not in done.stderr


def test_a_program_that_loads_a_run_where_it_lies(received: Path, canary: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import prixfixe\nprint(prixfixe.load('.').predict(['ACGT' * 20]).shape)\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(prixfixe.__file__).parents[1])}
    done = subprocess.run([sys.executable, program], cwd=received, env=environment, capture_output=True, text=True)
    assert done.stdout == "(1,)\n", done.stderr
    assert not canary.exists()


def test_links_into_a_run_and_packages_with_runs_in_them(
    received: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the user himself names is never of a folder that holds a run."""
    work = received.parent
    monkeypatch.chdir(work)
    (work / "linked.py").symlink_to(received / "evil.py")
    (work / "lane").symlink_to(received)
    (work / "shelf").mkdir()
    shutil.copytree(received, work / "shelf" / "run")
    (work / "shelf" / "evil.py").write_text(CANARY)
    (work / "blocks" / "core").mkdir(parents=True)
    (work / "blocks" / "core" / "linked.py").symlink_to(received / "evil.py")
    names = ("linked.X", "lane.evil.X", "received.evil.X", "shelf.evil.X", "shelf.run.evil.X", "blocks.core.linked.X")
    for name in names:
        with pytest.raises(InputError, match=r"holds a run|has runs in it"):
            find_class(name, nn.Module, OWN)
    assert not canary.exists()


def own_block(folder: Path, package: str = "blocks.core") -> None:
    """A block of the user's own, in a folder of his."""
    file = folder.joinpath(*package.split("."), "mine_of_trust.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("from blocks.core.efficientnet import EfficientNet\n\nclass Mine(EfficientNet):\n    pass\n")


def test_ones_own_blocks_are_found(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    own_block(tmp_path)
    own_block(tmp_path, "labtrust")
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "runs" / "single" / "run"
    shutil.copytree(honest, mine)
    point(mine, "core", "blocks.core.mine_of_trust.Mine")
    expected = prixfixe.load(honest).predict(["ACGT" * 20])
    np.testing.assert_array_equal(prixfixe.load(mine).predict(["ACGT" * 20]), expected)

    point(mine, "core", "labtrust.mine_of_trust.Mine")
    with pytest.raises(InputError, match="if you trust labtrust, name it in a YAML in conf/"):
        prixfixe.load(mine)
    assert "labtrust" not in sys.modules
    for conf in (tmp_path / "elsewhere", tmp_path / "conf"):
        (conf / "core").mkdir(parents=True)
        (conf / "core" / "mine.yaml").write_text("_target_: labtrust.mine_of_trust.Mine\n")
    np.testing.assert_array_equal(prixfixe.load(mine).predict(["ACGT" * 20]), expected)
    shutil.rmtree(tmp_path / "conf")
    for module in [name for name in sys.modules if name.startswith("labtrust")]:
        del sys.modules[module]
    with pytest.raises(InputError, match="if you trust labtrust"):
        prixfixe.load(mine)
    np.testing.assert_array_equal(
        prixfixe.load(mine, config_dir=tmp_path / "elsewhere").predict(["ACGT" * 20]), expected
    )


def test_a_run_that_came_with_blocks_beside_it(received: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = received.parent
    (work / "blocks" / "core").mkdir(parents=True)
    (work / "blocks" / "core" / "evil_beside.py").write_text(CANARY + CLASSES)
    (work / "conf" / "core").mkdir(parents=True)
    (work / "conf" / "core" / "evil.yaml").write_text("_target_: beside.X\n")
    monkeypatch.chdir(work)
    for target, words in (("blocks.core.evil_beside.X", "it came beside"), ("beside.X", "if you trust beside")):
        point(received, "core", target)
        with pytest.raises(InputError, match=words):
            prixfixe.load("received")
    assert not canary.exists()


@pytest.mark.parametrize("raised", ["SystemExit(0)", "SystemExit('bye')", "RuntimeError('no')", "GeneratorExit()"])
def test_what_a_module_of_ones_own_raises_is_bad_input(
    raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaves_trust.py").write_text(f"raise {raised}\n")
    with pytest.raises(InputError, match=r"leaves_trust\.X cannot be imported: "):
        find_class("leaves_trust.X", nn.Module, OWN)
    (tmp_path / "stops_trust.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        find_class("stops_trust.X", nn.Module, OWN)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[a-z_.]{1,20}(\.[A-Za-z_]{1,9}){0,3}", fullmatch=True))
def test_no_text_is_imported_that_is_no_name(text: str) -> None:
    before = set(sys.modules)
    parts = text.split(".")
    try:
        judged(text, LOADED)
    except InputError as error:
        assert str(error).isprintable()
    else:
        assert all(part.isidentifier() for part in parts) and len(parts) > 1
        assert parts[0] in ("prixfixe", "blocks") or text.startswith("torch.optim.") or ".".join(parts[:-1]) in before
    assert set(sys.modules) == before


@pytest.mark.parametrize("value", [None, 3, ["evil.X"], {"a": 1}, True, "x" * 10_000 + ".X"])
def test_a_target_that_is_no_text(value: Any) -> None:
    for origin in (OWN, LOADED):
        with pytest.raises(InputError, match="is no class's name"):
            judged(value, origin)


@pytest.mark.parametrize(
    ("target", "kind", "values", "message"),
    [
        ("prixfixe.data.datasets.Dataset", Dataset, {}, "cannot be built, since it has no read of its own"),
        ("prixfixe.data.recipe.Recipe", Recipe, {}, "cannot be built, since it has no encode of its own"),
        ("torch.optim.swa_utils.AveragedModel", nn.Module, {"x": 1}, "AveragedModel takes no such value"),
        ("prixfixe.networks.layers.LSTM", nn.Module, {"kwargs": 3}, "LSTM takes no such value"),
        ("torch.optim.Optimizer", Optimizer, {}, "Optimizer needs this value"),
    ],
)
def test_a_class_that_is_no_part_is_refused(target: str, kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        factory({"_target_": target, **values}, kind, where="core", given=int(kind in (nn.Module, Optimizer)))


def test_packages_of_a_conf_folder(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.yaml").write_text("_target_: lab.core.A\nother: x.y\n")
    (tmp_path / "b.yml").write_text("_target_: not_read.B\n")
    (tmp_path / "c.yaml").write_text(
        "optimizer:\n  '_target_': 'opt.C'\nlist: [{_target_: deep.D}]\n# _target_: no.E\n"
    )
    assert packages_named(tmp_path) == {"lab", "opt"}
    assert packages_named(None) == frozenset()
    assert not Origin(conf=tmp_path).allows("no.E")


HOSTILE = {
    "a callback": "hydra: {callbacks: {x: {_target_: torch.hub.load, repo_or_dir: ., source: local, model: m}}}\n",
    "defaults": "defaults: [recipe: bhi]\n",
    "an interpolation": "variant: ${oc.decode:x}\n",
    "an escaped interpolation": 'variant: "\\x24{oc.env:HOME}"\n',
    "an interpolation in a key": "values: {'${oc.env:HOME}': 1}\n",
    "another setting": "foo: 1\n",
    "an anchor": "values: &a {b: 1}\n",
    "a tag": "values: !!python/object/apply:os.system [touch x]\n",
    "a folder elsewhere": "sweep: ../../x\n",
    "a logger elsewhere": "logger: {_target_: prixfixe.runs.loggers.TensorBoard, directory: /tmp/elsewhere}\n",
    "nesting": "values: " + "[" * 5000 + "]" * 5000 + "\n",
    "a number of many digits": "seed: " + "9" * 5000 + "\n",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_resuming_takes_plain_values_alone(
    case: str, received: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(received.parent)
    file = received / "config.yaml"
    key = HOSTILE[case].partition(":")[0]
    config = {name: value for name, value in yaml.safe_load(file.read_text()).items() if name != key}
    file.write_text(yaml.safe_dump(config, sort_keys=False) + HOSTILE[case])
    before = {path: path.read_bytes() for path in received.rglob("*") if path.is_file()}
    assert main(["train", "--resume", "received"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("prixfixe: ") and err.count("\n") == 1
    assert not canary.exists()
    assert before == {path: path.read_bytes() for path in received.rglob("*") if path.is_file()}


def test_an_alias_bomb_ends_at_once(received: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    (received / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="it has anchors or aliases, in line 1"):
        plain_configuration(received)


def test_a_failed_run_goes_on_by_the_command_that_results_prints(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import shlex

    from prixfixe.analysis.results import collect

    folder = tmp_path / "it's (mine)" / "bhi+conv+efficientnet+mlp"
    shutil.copytree(honest, folder)
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "state": "failed", "reason": "it broke"}))
    scores = (folder / "metrics.json").read_text()
    (folder / "metrics.json").unlink()
    [row] = collect([folder]).rows
    words = shlex.split(row["command"])
    assert words == ["prixfixe", "train", "--resume", str(folder)]
    assert main(words[1:]) == 0
    assert "Pearson r" in capsys.readouterr().out
    again = json.loads((folder / "metrics.json").read_text())
    assert again["pearson_r"] == json.loads(scores)["pearson_r"]
    assert main([*words[1:], "seed=3"]) == 2
    assert "takes no settings: seed=3" in capsys.readouterr().err


def test_a_run_folder_is_no_folder_of_configuration(
    received: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(received.parent)
    options = (
        ["--config-dir", "received"],
        ["--config-dir=received/conf"],
        ["-cd", "received"],
        ["--config-path", "x"],
    )
    for words in (*options, ["--experimental-rerun", "received/config.yaml"]):
        assert main(["train", *words, "core=evil"]) == 2, words
        assert capsys.readouterr().err.startswith("prixfixe: --")
    assert not canary.exists()


def test_a_plan_that_says_more_than_settings_is_damaged(received: Path) -> None:
    import json

    from prixfixe.sweeps.plan import Plan

    plans = (
        {"jobs": {"a": ["hydra.callbacks.x._target_=torch.hub.load"]}},
        {"jobs": {"a": ["+hydra.callbacks.x=1"]}},
        {"jobs": {"a": ["--config-dir", "evil"]}},
        {"jobs": {"a": []}, "launched_with": ["--experimental-rerun", "x"]},
        {"jobs": {"a": []}, "launched_with": ["--config-dir"]},
    )
    for plan in plans:
        (received / "sweep.json").write_text(json.dumps(plan))
        with pytest.raises(InputError, match="is damaged"):
            Plan.read(received)
