"""Settings are checked before anything is made: one message with the setting, its value and what is allowed."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import compose, demo
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.common.overrides import override, quoted
from prixfixe.common.text import printable
from prixfixe.networks.parts import OWN, _fits, factory
from prixfixe.sweeps.typed import as_hydra_takes_it, refuse_accidental_sweeps
from prixfixe.training.settings import LONGEST_NAME, check_settings, plain_name

NOT_SETTINGS = {
    "seed=-1": "seed=-1: a whole number",
    "seed=1.5": "seed=1.5: a whole number",
    "seed=true": "seed=true: a whole number",
    "seed=null": "seed=null: a whole number",
    "seed=1" + "0" * 26: "a whole number, at least 0 and at most 9223372036854775807",
    "training=null": "training=null: ",
    "bins=null": "bins=null: ",
    "optim=null": "optim=null: no choice has that name",
    "choices=null": "choices=null: ",
    "recipe=null": "recipe=null: no choice has that name; choose recipe=NAME",
    "training.epochs=0": "training.epochs=0: a whole number, at least 1",
    "training.epochs=true": "training.epochs=true: a whole number",
    "training.epochs=1.5": "training.epochs=1.5: a whole number",
    "training.epochs='3'": "training.epochs='3': a whole number",
    "training.epochs=null": "training.epochs=null: a whole number",
    "training.batch_size=true": "training.batch_size=true: a whole number",
    "training.batch_size=1000000000000": "training.batch_size=1000000000000: ",
    "training.micro_batch=0": "training.micro_batch=0: a whole number, at least 1, or null",
    "training.checkpoint_minutes=nan": "training.checkpoint_minutes=nan: a number",
    "training.checkpoint_minutes=inf": "training.checkpoint_minutes=inf: a number",
    "training.checkpoint_minutes=false": "training.checkpoint_minutes=false: a number",
    "training.precision=fp16": "training.precision='fp16': choose auto, fp32 or bf16",
    "training.compile=1": "training.compile=1: choose auto, true or false",
    "training.device=cpu:99": "training.device=cpu:99",
    "training.device=cuda:99": "training.device=cuda:99",
    "training.device=cuda:200": "training.device=cuda:200",
    "training.device=null": "training.device=null: choose",
    "training.device=meta": "training.device=meta",
    "+training.foo=1": "no such setting: training.foo",
    "+foo=1": "no such setting: foo; did you mean",
    "+optim.clip=1": "no such setting: optim.clip; did you mean optim.clip_",
    "bins.range=[0]": "bins.range=[0]: the expressions of the first and the last bin",
    "bins.range=[1,2,3]": "bins.range=",
    "bins.range=[3,1]": "bins.range=[3, 1]: the first number must be the lower one",
    "bins.range=[[0,5],[3,1]]": "bins.range=[[0, 5], [3, 1]]: the first number must be the lower one",
    "bins.range=[[0,5],[3]]": "bins.range=",
    "bins.range=[]": "bins.range=[]: the expressions of the first and the last bin",
    "bins.range=[0,inf]": "bins.range=",
    "bins.range=3": "bins.range=3: ",
    "bins.sd=nan": "bins.sd=nan: a number above 0",
    "bins.sd=0": "bins.sd=0: a number above 0",
    "bins.number=1": "bins.number=1: a whole number, at least 2",
    "bins.number=1000000000": "bins.number=1000000000: ",
    "bins.shift=null": "bins.shift=null: a number",
    "optim.clip_norm=x": "optim.clip_norm='x': a number above 0, or null",
    "optim.clip_norm=-1": "optim.clip_norm=-1: a number above 0, or null",
    "optim.clip_value=nan": "optim.clip_value=nan: a number above 0, or null",
    "optim.schedule.max_lr=-1": "optim.schedule.max_lr=-1: OneCycle takes float, above 0 here",
    "optim.schedule.max_lr=nan": "optim.schedule.max_lr=nan: a number must be finite",
    "optim.schedule.warmup=2": "optim.schedule.warmup=2: OneCycle takes float, at least 0, at most 1 here",
    "optim.optimizer.weight_decay=nan": "optim.optimizer.weight_decay=nan: a number must be finite",
    "optim.optimizer.weight_decay=true": "optim.optimizer.weight_decay=True: AdamW takes float here",
    "+optim.optimizer.lr=-1": "Invalid learning rate: -1",
    "+core.max_lr=-1": "core.train.max_lr=-1: a number above 0, or null",
    "+core.max_lr=nan": "core.train.max_lr=nan: a number above 0, or null",
    "+core.max_lr=true": "core.train.max_lr=true: a number above 0, or null",
    "recipe.length=1e9": "recipe.length=1000000000.0: ",
    "recipe.length=1000000000": "both must be 1 to 1,048,576",
    "recipe.length=0": "both must be 1 to 1,048,576",
    "recipe.length=null": "recipe.length=None: ",
    "core.widths=[100000,100000]": "GB of weights, and this machine has",
    "core.kernel_size=nan": "core.kernel_size=nan: ",
    "core.kernel_size=0": "core.kernel_size=0: EfficientNet takes int, at least 1",
    "core.kernel_size=1000000": "core.kernel_size=1000000: EfficientNet takes int, at least 1",
    "core.widths=[0]": "core.widths=[0]: EfficientNet takes list[int, at least 1",
    "core.widths=[8,true]": "core.widths=[8, True]: ",
    "core.widths=8": "core.widths=8: ",
    "dataset.size=1000000000000": "dataset.size=1000000000000: Simulated takes int, at most 100,000,000 here",
    "dataset.seed=-1": "dataset.seed=-1: Simulated takes int, at least 0 here",
    "logger=3": "logger=3: no choice has that name",
    "sweep=''": "sweep='': a name of at most",
    "sweep=../../x": "sweep='../../x': a name of at most",
    "sweep=/x": "sweep='/x': a name of at most",
    "sweep=..": "sweep='..': a name of at most",
    "sweep=.x": "sweep='.x': a name of at most",
    "sweep=null": "sweep=null: a name of at most",
    "sweep=true": "sweep=true: a name of at most",
    "sweep='a\x1bb'": "sweep='a\\x1bb': a name of at most",
    "sweep=" + "x" * 101: "a name of at most 100 visible letters",
    "variant=../x": "variant='../x': a name of at most",
    "variant=a/b": "variant='a/b': a name of at most",
    "variant=''": "variant='': a name of at most",
    "choices.core=../../x": "choices.core='../../x': a name of at most",
    "values=3": "no such setting: values",
}
BASE = ("recipe=bhi", "first=conv", "core=efficientnet", "final=mlp", "dataset.size=60", "training.epochs=1")


@pytest.mark.parametrize("setting", NOT_SETTINGS)
@pytest.mark.parametrize("sweep", [False, True], ids=["one", "-m"])
def test_a_wrong_setting_is_refused_before_anything_is_made(
    setting: str, sweep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prixfixe"])
    words = ["train", *(["-m"] if sweep else []), *BASE, setting]
    late = ("+optim.optimizer.lr=-1", "core.widths=[100000,100000]", "recipe.length=0", "recipe.length=1000000000")
    if sweep and setting in late:
        pytest.skip("found where the network is built, by the job, whose reason it is")
    assert main(words) == 2
    out, err = capsys.readouterr()
    message = [line for line in err.splitlines() if line.startswith("prixfixe: ")]
    assert out == "" and len(message) == 1, err
    assert NOT_SETTINGS[setting] in message[0]
    assert not list(tmp_path.rglob("*"))
    assert not (tmp_path.parent / "x").exists() and not (tmp_path.parents[1] / "x").exists()


@pytest.mark.parametrize("setting", ["experiment=3", "experiment=null", "sizes=1", "hydra=null", "seed=" + "9" * 5000])
@pytest.mark.parametrize("mode", [[], ["-m"], ["--cfg", "job"]], ids=["one", "-m", "--cfg"])
def test_what_is_no_choice_is_refused_however_it_is_asked_for(
    setting: str, mode: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prixfixe"])
    assert main(["train", *mode, *BASE, setting]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert err.startswith("prixfixe: ") and "ValueError" not in err
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unrecognized arguments: --nope (prixfixe train --help shows"),
        (["--cfg"], "argument --cfg/-c: expected one argument"),
        (["--cfg=nope"], "argument --cfg/-c: invalid choice: 'nope'"),
        (["--force=1"], "argument"),
        (["--resume"], "argument --resume: expected one argument: give one"),
        (["training.epochs=${oc.env:NO_SUCH_NAME}"], "Environment variable 'NO_SUCH_NAME' not found"),
        (["-m", "+hydra.launcher.x=1"], "unexpected keyword argument 'x'"),
    ],
    ids=str,
)
def test_what_argparse_and_hydra_refuse_is_one_message(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prixfixe"])
    assert main(["train", *words[:-1], *([] if "--resume" in words else BASE), words[-1]]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert err.startswith("prixfixe: ") and "usage:" not in err and "KeyError" not in err and "TypeError" not in err
    assert not list(tmp_path.rglob("*"))


def test_a_sweep_finds_yamls_in_a_folder_of_hydras_searchpath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more" / "experiment").mkdir(parents=True)
    (tmp_path / "more" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prixfixe"])
    small = ("first.channels=8", "core.widths=[8]", "experiment=mine")
    code = main(["train", "-m", f"hydra.searchpath=[file://{tmp_path}/more]", *BASE, *small])
    assert code == 0, capfd.readouterr().err
    assert (tmp_path / "runs" / "single" / "bhi+conv+efficientnet+mlp+seed7" / "metrics.json").is_file()


LEAVES = ("seed", "sweep", "variant", "force", "logger")
GROUPS = ("training", "bins", "optim", "choices", "core", "recipe", "dataset")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=120),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(data=st.data(), value=ANYTHING)
def test_any_value_anywhere_is_taken_or_refused_in_one_message(data: st.DataObject, value: Any) -> None:
    config = demo("bhi", "conv", "efficientnet", "mlp")
    group = data.draw(st.sampled_from((*LEAVES, *GROUPS, "unknown")))
    if group in GROUPS and data.draw(st.booleans()):
        key = data.draw(st.sampled_from([key for key in config[group] if key != "_target_"] + ["unknown"]))
        config[group] = {**config[group], key: value}
        group = f"{group}.{key}"
    else:
        config[group] = value
    try:
        check_settings(config, OWN)
    except InputError as error:
        assert printable(error) == str(error)
        assert group.partition(".")[0] in str(error)
    else:
        assert value is None or not (isinstance(value, float) and not math.isfinite(value))
        assert "unknown" not in group


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=130))
def test_a_name_is_one_part_of_a_path(text: str) -> None:
    try:
        plain_name(text)
    except ValueError:
        return
    assert Path("runs", text).parts == ("runs", text)
    assert text.isprintable() and 0 < len(text.encode()) <= LONGEST_NAME and not text.startswith(".")


SIGNS = st.text(
    st.sampled_from("\\'\"${}()[],=# ~:;*?@%+-.0159eE_naulftrINF&|<>!^`äö\t\n")
    | st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    max_size=30,
)


@settings(max_examples=1000, deadline=None)
@given(SIGNS)
@example("log2(RNA/DNA)")
@example("data (1).tsv")
@example("${x}")
@example("a\\${x}.tsv")
@example("\\\\")
@example('it\'s "so"')
@example("2")
@example("true")
@example("1e5")
@example("")
def test_what_is_told_to_be_typed_is_that_text(text: str) -> None:
    """Through the shell, Hydra's parser, a sweep's job, and the configuration."""
    [word] = shlex.split(override("key", text))
    for typed in (word, f"key={quoted(text)}"):
        parsed = OverridesParser.create().parse_override(typed)
        again = OverridesParser.create().parse_override(f"key={parsed.get_value_element_as_str()}")
        for value in (parsed.value(), again.value()):
            config = OmegaConf.create({"key": None})
            OmegaConf.update(config, "key", value)
            assert type(config.key) is str and config.key == text


@settings(max_examples=500, deadline=None)
@given(SIGNS.filter(lambda text: not text.startswith(("'", '"', "[", "{"))))
def test_a_file_name_is_taken_or_told_how_to_type(text: str) -> None:
    try:
        word = as_hydra_takes_it(f"dataset.path={text}")
    except InputError as error:
        assert printable(error) == str(error) and "dataset.path" in str(error)
    else:
        OverridesParser.create().parse_override(word)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dataset.expression=2", "2"),
        ("dataset.expression=true", "true"),
        ("dataset.expression=2.50", "2.50"),
        ("dataset.sequence=1e5", "1e5"),
        ("dataset.expression=[1,b,true]", ["1", "b", "true"]),
        ("dataset.expression=null", None),
        ("dataset.expression=Dev_log2", "Dev_log2"),
        ("+dataset.expression=7", "7"),
        ("dataset.expression='2'", "2"),
        ("training.epochs=2", 2),
    ],
)
def test_columns_are_text(typed: str, meant: Any) -> None:
    assert OverridesParser.create().parse_override(as_hydra_takes_it(typed)).value() == meant


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/so me")
    parsed = OverridesParser.create().parse_override(as_hydra_takes_it("dataset.path=~/t (1).tsv"))
    assert parsed.value() == "/home/so me/t (1).tsv"


TOLD = {
    "dataset.path=data (1).tsv": """'dataset.path="data (1).tsv"'""",
    "dataset.path=plate=3.tsv": """'dataset.path="plate=3.tsv"'""",
    "dataset.path=größe.tsv": """'dataset.path="größe.tsv"'""",
    "dataset.path=run[2].tsv": """'dataset.path="run[2].tsv"'""",
    "dataset.path=a#b.tsv": """'dataset.path="a#b.tsv"'""",
    "dataset.path=it's.tsv": "'dataset.path=\"it'\"'\"'s.tsv\"'",
    "dataset.path=a,b.tsv": """'dataset.path="a,b.tsv"'""",
    "dataset.expression=log2(RNA/DNA)": """'dataset.expression="log2(RNA/DNA)"'""",
}


@pytest.mark.parametrize("typed", TOLD)
def test_special_signs_are_told_with_the_quoted_form(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.tsv").touch()
    modes = [["experiment=demo"], ["-m"], []] if "/" not in typed or "," not in typed else [[]]
    for mode in modes:
        assert main(["train", *mode, "dataset=table", typed]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"prixfixe: {typed}: ") and err.count("\n") == 1
        assert TOLD[typed] in err and "http" not in err and "mismatched" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["a,b.tsv"]


def test_a_sweep_over_files_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tsv").touch()
    refuse_accidental_sweeps(["dataset.path=a.tsv,b.tsv", "core=bilstm,proformer"], sweeps=True)
    with pytest.raises(InputError, match=r"core=bilstm,proformer: .* only a sweep \(-m\) has several"):
        refuse_accidental_sweeps(["core=bilstm,proformer"], sweeps=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=demo", "hydra.run.dir=x"], "its experiment says so; hydra.mode=RUN runs one combination"),
        (["-m", "hydra.run.dir=x"], "that is the folder of a single run, and this is a sweep; choose"),
        (["hydra.sweep.dir=x"], "that is the folder of a sweep, and this is a single run; choose"),
    ],
)
def test_a_folder_that_would_be_ignored_is_said(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_pair_is_a_pair() -> None:
    assert _fits([1, 0.5], tuple[int, float]) and _fits((1, 2), tuple[int, float])
    assert not _fits([1], tuple[int, float]) and not _fits([0.5, 1], tuple[int, float])
    assert not _fits([1, 2, 3], tuple[int, float]) and not _fits([True, 1.0], tuple[int, float])
    assert _fits([], tuple[int, ...]) and _fits([1, 2, 3], tuple[int, ...]) and not _fits(["a"], tuple[int, ...])
    assert _fits({"a": 1}, dict[str, int]) and not _fits({"a": True}, dict[str, int])
    assert _fits([1], list) and not _fits(True, int | None) and _fits(None, int | None)


def test_a_framework_part_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train`, `blocks` and `blocks --check` alike, and each says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "core").mkdir(parents=True)
    (tmp_path / "conf" / "core" / "bilstm.yaml").write_text("_target_: nowhere.Mine\n")
    told = (
        "not used, since the framework has parts of the same name: conf/core/bilstm.yaml; give yours names of their own"
    )
    for words in (["blocks"], ["blocks", "--check", "bilstm"], ["train", "core=bilstm", "--cfg", "job"]):
        try:
            assert main(words) == 0
        except SystemExit as stopped:
            assert not stopped.code
        out, err = capsys.readouterr()
        assert told in err and "nowhere" not in out
    assert "blocks.core.bilstm.BiLSTM" in out


@pytest.mark.parametrize("place", ["blocks/__init__.py", "blocks/core/__init__.py", "blocks.py"])
def test_what_hides_the_frameworks_blocks_is_named(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from torch import nn

    from prixfixe.networks.parts import find_class

    for name in [name for name in sys.modules if name == "blocks" or name.startswith("blocks.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    (tmp_path / "blocks" / "core").mkdir(parents=True, exist_ok=True)
    (tmp_path / "blocks" / "core" / "mine.py").write_text("class Mine: pass\n")
    assert find_class("blocks.core.bilstm.BiLSTM", nn.Module).__name__ == "BiLSTM"
    for name in [name for name in sys.modules if name == "blocks" or name.startswith("blocks.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"hides the framework's blocks.*: remove or rename it"):
        find_class("blocks.core.mine.Mine", nn.Module, OWN)


def test_a_missing_class_is_a_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="core=3: a class and its values"):
        factory(3, object, where="core")  # type: ignore[arg-type]


def test_a_checkout_that_is_not_installed_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib
    from importlib.metadata import PackageNotFoundError

    from prixfixe.common import version as module
    from prixfixe.runs.folder import versions

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(module, "version", missing)
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    assert versions()["prixfixe"] == project["version"]
    assert versions()["torch"] == "unknown"


@pytest.mark.parametrize(
    "typed", ["dataset.columns.gc=number", "++dataset.columns.gc=number", "+dataset.columns.gc=number"]
)
def test_a_column_of_ones_own_needs_no_plus(typed: str) -> None:
    word = as_hydra_takes_it(typed)
    config = compose("dataset=table", "dataset.path=x", word)
    assert config["dataset"]["columns"] == {"gc": "number"}
