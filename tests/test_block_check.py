"""A user's part that breaks off, at import, when it is built or when it runs, is shown as broken, and nothing else
is."""

from pathlib import Path

import pytest
from conftest import demo

from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.data.recipe import Recipe
from prixfixe.menu.check import describe_part, violations
from prixfixe.menu.parts import Part, menu
from prixfixe.networks.parts import OWN, find_class

BLOCK = """\
from torch import nn
from prixfixe.contract import Block

class Mine(Block):
    def __init__(self, inputs):
        super().__init__()
        self.out_channels = inputs.channels
        self.scale = nn.Conv1d(inputs.channels, inputs.channels, 1)
        self.setup()

    def setup(self):
        SETUP

    def forward(self, x):
        FORWARD
        return self.scale(x)
"""


def write(folder: Path, name: str, *, top: str = "", setup: str = "pass", forward: str = "pass") -> None:
    """A core block in `folder`, in a module that no other test has imported."""
    (folder / f"{name}.py").write_text(top + BLOCK.replace("SETUP", setup).replace("FORWARD", forward))
    (folder / "conf" / "core").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "core" / f"{name}.yaml").write_text(f"_target_: {name}.Mine\n")


def test_the_menu_shows_what_is_broken_and_all_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "mine_syntax", top="def (\n")
    write(tmp_path, "mine_import", top="raise RuntimeError('no licence')\n")
    write(tmp_path, "mine_built", setup="{}['absent']")
    write(tmp_path, "mine_sound")
    parts = menu(tmp_path / "conf")
    gives = {part.name: describe_part(part, parts)[1] for part in parts if part.name.startswith("mine")}
    assert gives["mine_syntax"].endswith("cannot be imported: SyntaxError: invalid syntax (mine_syntax.py, line 1)")
    assert gives["mine_import"].endswith("cannot be imported: RuntimeError: no licence")
    assert gives["mine_built"].endswith("'absent' (KeyError, mine_built.py line 12)")
    assert "broken" not in gives["mine_sound"]
    assert main(["blocks", "--config-dir", str(tmp_path / "conf")]) == 0
    out = capsys.readouterr().out
    assert out.count("broken: ") == 3
    assert {*gives, "bilstm", "soft_bins"} <= set(out.split())


UNUSABLE = {
    "flow": (
        b"_target_: x.Y\nchannels: [64,\nkernel_size: 7\n",
        "line 4: no YAML: expected ',' or ']', but got '<stream end>' while parsing",
    ),
    "indent": (b"_target_: x.Y\n  channels: 64\n", "line 2: no YAML: mapping values are not allowed here"),
    "tab": (b"_target_: x.Y\nwidths:\n\t- 4\n", "line 3: no YAML: found character '\\t' that cannot start any token"),
    "letters": (b"\xff\xfe", "no text: "),
    "zero": (b"_target_: \0", "no text: unacceptable character #x0000"),
    "words": (b"only words\n", "must hold `_target_` and the block's values"),
    "empty": (b"", "must hold `_target_` and the block's values"),
}


def test_a_file_that_is_no_yaml_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "mine_beside")
    for name, (content, _) in UNUSABLE.items():
        (tmp_path / "conf" / "core" / f"{name}.yaml").write_bytes(content)
    (tmp_path / "conf" / "core" / "folder.yaml").mkdir()
    assert main(["blocks"]) == 0
    out = capsys.readouterr().out
    assert {"mine_beside", "bilstm", "soft_bins", *UNUSABLE} <= set(out.split())
    for name, (_, reason) in UNUSABLE.items():
        [line] = [line for line in out.splitlines() if line.startswith(f"core/{name} is broken: conf/core/{name}.yaml")]
        assert reason in line
        assert main(["blocks", "--check", name]) == 1
        told = capsys.readouterr().out
        assert told.startswith(f"core/{name}: conf/core/{name}.yaml")
        assert reason in told
        assert len(told.splitlines()) == 1
    assert "core/folder is broken: conf/core/folder.yaml cannot be read: Is a directory" in out
    assert main(["blocks", "--check", "mine_beside"]) == 0


def test_a_block_that_needs_a_key_of_the_recipe_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "block_with_a_key.py").write_text(
        "import torch\nfrom prixfixe.contract import KeySpec\nfrom blocks.recipe.autosome import Autosome\n"
        + BLOCK.replace("SETUP", "pass").replace("FORWARD", "x = x * group").replace("(self, x)", "(self, x, group)")
        + "    requires = ('group',)\n\n"
        "class Grouped(Autosome):\n    keys = {'group': KeySpec((1, 1), torch.float32)}\n"
    )
    recipe = {"_target_": "block_with_a_key.Grouped", "length": 150, "is_reverse": True, "is_singleton": True}
    parts = [Part("recipe", "autosome", tmp_path, recipe), *(part for part in menu() if part.slot != "recipe")]
    (tmp_path / "conf" / "core").mkdir(parents=True)
    file = tmp_path / "conf" / "core" / "grouped.yaml"
    file.write_text("_target_: block_with_a_key.Mine\n")
    part = Part("core", "grouped", file, {"_target_": "block_with_a_key.Mine"})
    assert describe_part(part, parts) == ("(batch, 256, 150)", "(batch, 256, 150)", "65,792")


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        (
            "mine_training",
            "if self.training: raise ArithmeticError('it broke')",
            "it cannot be trained and scored: ArithmeticError: it broke",
        ),
        (
            "mine_scoring",
            "if not self.training and x.device.type == 'cpu': raise OSError('no file')",
            "scored: OSError: no file",
        ),
    ],
    ids=["training", "scoring"],
)
def test_what_a_block_raises_is_a_violation(
    name: str, broken: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, name, forward=broken)
    config = {**demo("bhi", "conv", "bilstm", "mlp"), "core": {"_target_": f"{name}.Mine"}}
    found = list(violations(config))
    assert any(message in violation for violation in found), found


def test_a_name_that_stands_for_nothing_is_bad_input() -> None:
    for target in ("nowhere.Mine", "prixfixe.data.recipe.Absent"):
        with pytest.raises(
            InputError, match=f"{target} cannot be imported .*; is its folder the current one or installed"
        ):
            find_class(target, Recipe, OWN)
    with pytest.raises(InputError, match="Absent is no class's name"):
        find_class("Absent", Recipe, OWN)
