"""Exported networks predict what the model predicts, for any number of rows, or there is no file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ONE_OF_EACH, random_strings
from small_runs import small_binary_run, small_run

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.inference import export as exporting
from prixfixe.inference.export import FILES, allowed, encoded, export
from prixfixe.inference.model import Model

STRINGS = random_strings(7)
SHORT = {"bhi": ["recipe.length=40"]}  # an LSTM is exported step by step


def run_onnx(file: Path) -> Callable[[list[torch.Tensor]], np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda tensors: session.run(None, dict(zip(names, (t.numpy() for t in tensors), strict=True)))[0]


def run_torch_export(file: Path) -> Callable[[list[torch.Tensor]], np.ndarray]:
    module = torch.export.load(file).module()
    return lambda tensors: module(*tensors).detach().numpy()


RUN = {"onnx": run_onnx, "torch_export": run_torch_export}


def loaded(path: Path) -> Model:
    (model,) = prixfixe.load(path, device="cpu").members
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(small_run(tmp_path_factory.mktemp("runs") / "one"))


def check(model: Model, folder: Path, kind: str, strings: list[str]) -> None:
    """Exports on other sequences than it compares on."""
    model.network.train()  # which an exported file must not be in
    done = export(model, model.rows_of(strings[:4]), kind, folder)
    wanted = model.predict(strings)
    tensors, *_ = encoded(model, model.rows_of(strings))
    run = RUN[kind](folder / FILES[kind])
    for size in (1, 3, len(strings)):
        found = run([tensor[:size] for tensor in tensors])
        assert found.shape == wanted[:size].shape
        assert np.abs(found - wanted[:size]).max() <= allowed(wanted)
    assert done.largest_difference <= allowed(wanted) and done.spread > 0
    content = (folder / FILES[kind]).read_bytes()
    for place in (os.getcwd(), str(folder), str(Path.home()), str(Path(torch.__file__).parents[1])):
        assert place.encode() not in content, place


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("parts", ONE_OF_EACH, ids="+".join)
def test_every_part_is_exported(parts: tuple[str, str, str, str], kind: str, tmp_path: Path) -> None:
    model = loaded(small_run(tmp_path / "run", ("expression",), *SHORT.get(parts[0], []), parts=parts))
    check(model, tmp_path, kind, [string[:40] for string in STRINGS] if parts[0] in SHORT else STRINGS)


def test_several_tasks_and_probabilities(tmp_path: Path) -> None:
    check(loaded(small_run(tmp_path / "two", ("Dev", "Hk"))), tmp_path, "torch_export", STRINGS)
    check(loaded(small_binary_run(tmp_path / "binary")), tmp_path, "onnx", [string[:40] for string in STRINGS])


def test_a_file_that_predicts_otherwise_is_not_kept(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "torch_export"
    write = exporting.WRITERS[kind]

    def wrong(*given: Any) -> Callable[[list[torch.Tensor]], np.ndarray]:
        run = write(*given)
        return lambda tensors: run(tensors) * 1.001

    monkeypatch.setitem(exporting.WRITERS, kind, wrong)
    with pytest.raises(InputError, match=r"differs by .* it is not kept"):
        export(model, model.rows_of(STRINGS), kind, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", FILES)
def test_a_network_that_does_not_export_says_why(
    kind: str, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = model.network.core.forward
    monkeypatch.setattr(model.network.core, "forward", lambda x: forward(x) if x.sum().item() > 0 else forward(-x))
    with pytest.raises(InputError, match=r"does not export to .*: .*(data-dependent|guard)"):
        export(model, model.rows_of(STRINGS), kind, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_bundle_has_the_files_and_their_differences(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    for name, options in (("bundle", ["--onnx", "--torch-export"]), ("again", ["--torch-export"])):
        assert main(["bundle", str(run), "-o", str(tmp_path / name), *options]) == 0
    facts = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    (member,) = facts["members"]
    assert [one["file"] for one in member["exports"]] == ["model.onnx", "model.pt2"]
    assert set(FILES.values()) <= facts["files"].keys()
    shapes = {
        "x_forward": {"shape": [4, 110], "dtype": "float32"},
        "x_reverse": {"shape": [4, 110], "dtype": "float32"},
    }
    assert all(one["inputs"] == shapes and one["output"] == "expression" for one in member["exports"])
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "| model.onnx |" in card and "| model.pt2 |" in card
    for name in facts["files"].keys() - {"model.onnx"}:
        assert (tmp_path / "bundle" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    prixfixe.load(tmp_path / "bundle", device="cpu")
    assert {entry.name for entry in onnx.load(tmp_path / "bundle" / "model.onnx").graph.input} == shapes.keys()
