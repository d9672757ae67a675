"""Published weights: every tensor by its name, nothing executed, and the published network's own predictions."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import random_strings, reverse_complement
from torch import Tensor

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK, UPSTREAM
from prixfixe.dream.weights import import_weights
from prixfixe.runs.folder import RunFolder

State = dict[str, Tensor]
SEQUENCES = [
    LEFT_FLANK + insert + RIGHT_FLANK
    for insert in (*random_strings(3), *random_strings(2, 84, seed=1), random_strings(1, 60)[0])
]


# the published names and shapes, as facts


def batch_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")} | {
        f"{name}.num_batches_tracked": ()
    }


def parallel_convs(name: str, inputs: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, size in enumerate((9, 15)):
        shapes |= {
            f"{name}.conv_list.{i}.conv.weight": (width // 2, inputs, size),
            f"{name}.conv_list.{i}.conv.bias": (width // 2,),
        }
    return shapes


def conv_first(channels: int = 6) -> dict[str, tuple[int, ...]]:
    return {"first.block.0.weight": (256, channels, 7), **batch_norm("first.block.1", 256)}


def cnn_core(width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for n, (before, after) in enumerate(zip([width, 128, 128, 64, 64, 64], [128, 128, 64, 64, 64, 64], strict=True)):
        inner, block, resize = 4 * after, f"core.seqextractor.inv_res_blc{n}", f"core.seqextractor.resize_blc{n}"
        shapes |= {f"{block}.0.weight": (inner, before, 1), **batch_norm(f"{block}.1", inner)}
        shapes |= {f"{block}.3.weight": (inner, 2, 7), **batch_norm(f"{block}.4", inner)}
        shapes |= {f"{block}.6.fc.0.weight": (before // 4, inner), f"{block}.6.fc.0.bias": (before // 4,)}
        shapes |= {f"{block}.6.fc.2.weight": (inner, before // 4), f"{block}.6.fc.2.bias": (inner,)}
        shapes |= {f"{block}.7.weight": (before, inner, 1), **batch_norm(f"{block}.8", before)}
        shapes |= {f"{resize}.0.weight": (after, 2 * before, 7), **batch_norm(f"{resize}.1", after)}
    return shapes


def lstm_core(width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for way in ("", "_reverse"):
        shapes |= {f"core.lstm.weight_ih_l0{way}": (1280, width), f"core.lstm.weight_hh_l0{way}": (1280, 320)}
        shapes |= {f"core.lstm.bias_ih_l0{way}": (1280,), f"core.lstm.bias_hh_l0{way}": (1280,)}
    return {**shapes, **parallel_convs("core", 640, 320)}


def attention_core(width: int, length: int = 150) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"core.pos_embedding.weight": (length, width)}
    for block in (f"core.blocks.{n}" for n in range(4)):
        for norm in ("ff1.layernorm", "layernorm1", "layernorm2", "ff2.layernorm"):
            shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
        for ff in ("ff1", "ff2"):
            shapes |= {
                f"{block}.{ff}.linear1.weight": (4 * width, width),
                f"{block}.{ff}.linear2.weight": (width, 2 * width),
            }
        shapes |= {
            f"{block}.conv.0.weight": (width, 1, 15),
            f"{block}.conv.1.weight": (width, width, 1),
            f"{block}.conv.1.bias": (width,),
        }
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{block}.attn.out_proj.weight": (width, width), f"{block}.attn.out_proj.bias": (width,)}
    return shapes


def soft_bins(width: int) -> dict[str, tuple[int, ...]]:
    return {"final.mapper.0.weight": (18, width, 1), "final.mapper.0.bias": (18,), "final.bins": (18,)}


def mlp(features: int) -> dict[str, tuple[int, ...]]:
    layers = ((0, 64, features), (2, 64, 64), (4, 1, 64))
    return {
        key: s for n, a, b in layers for key, s in ((f"final.main.{n}.weight", (a, b)), (f"final.main.{n}.bias", (a,)))
    }


def kmer_first(width: int, k: int, channels: int, length: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "first.pos_embedding.weight": (length, width),
        "first.strand_embedding.weight": (2, width),
    }
    shapes |= {"first.expression_embedding.weight": (width, 1), "first.expression_embedding.bias": (width,)}
    return shapes | {"first.kmer_dense.weight": (width, k * channels), "first.kmer_dense.bias": (width,)}


SHAPES = {
    "dream_cnn": {**parallel_convs("first", 6, 320), **cnn_core(320), **soft_bins(64)},
    "dream_rnn": {**parallel_convs("first", 6, 320), **lstm_core(320), **soft_bins(320)},
    "dream_attn": {**conv_first(), **attention_core(256), **soft_bins(256)},
}
PARAMETERS = {"dream_cnn": 1_933_970, "dream_rnn": 4_130_578, "dream_attn": 4_539_410}
DREAM = pytest.mark.parametrize("model", list(SHAPES))


def state_of(shapes: dict[str, tuple[int, ...]]) -> State:
    """Weights that differ everywhere and let every part matter in the prediction."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if name == "final.bins":
            values = torch.arange(18)
        elif name.endswith("num_batches_tracked"):
            values = torch.tensor(7)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            values = 1 + 0.1 * values.abs()
        elif len(shape) == 1:
            values = 0.1 * values
        elif "embedding" not in name:
            values = values * (2 / values[0].numel()) ** 0.5
        state[name] = values
    return state


def saved(folder: Path, shapes: dict[str, tuple[int, ...]]) -> tuple[Path, State]:
    state = state_of(shapes)
    torch.save(state, folder / "model_best.pth")
    return folder / "model_best.pth", state


# the published networks, written down a second time


def convs(x: Tensor, state: State, name: str) -> Tensor:
    parts = [
        F.conv1d(x, state[f"{name}.{i}.conv.weight"], state[f"{name}.{i}.conv.bias"], padding="same") for i in (0, 1)
    ]
    return torch.cat(parts, 1).relu()


def norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.batch_norm(x, *(state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def cnn(x: Tensor, state: State) -> Tensor:
    for n in range(6):
        block, resize = f"core.seqextractor.inv_res_blc{n}", f"core.seqextractor.resize_blc{n}"
        y = F.silu(norm(F.conv1d(x, state[f"{block}.0.weight"]), state, f"{block}.1"))
        grouped = F.conv1d(y, state[f"{block}.3.weight"], padding=3, groups=y.shape[1] // 2)
        y = F.silu(norm(grouped, state, f"{block}.4"))
        gate = F.silu(F.linear(y.mean(2), state[f"{block}.6.fc.0.weight"], state[f"{block}.6.fc.0.bias"]))
        y = y * F.linear(gate, state[f"{block}.6.fc.2.weight"], state[f"{block}.6.fc.2.bias"]).sigmoid()[:, :, None]
        y = F.silu(norm(F.conv1d(y, state[f"{block}.7.weight"]), state, f"{block}.8"))
        x = F.silu(norm(F.conv1d(torch.cat([x, y], 1), state[f"{resize}.0.weight"], padding=3), state, f"{resize}.1"))
    return x


def rnn(x: Tensor, state: State) -> Tensor:
    lstm = torch.nn.LSTM(x.shape[1], 320, batch_first=True, bidirectional=True)
    lstm.load_state_dict(
        {name.removeprefix("core.lstm."): value for name, value in state.items() if name.startswith("core.lstm.")}
    )
    return convs(lstm(x.transpose(1, 2))[0].transpose(1, 2), state, "core.conv_list")


def attention(x: Tensor, state: State) -> Tensor:
    width = x.shape[1]
    x = x.transpose(1, 2) + state["core.pos_embedding.weight"]

    def layer_norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def feed_forward(x: Tensor, name: str) -> Tensor:
        value, gate = F.linear(layer_norm(x, f"{name}.layernorm"), state[f"{name}.linear1.weight"]).chunk(2, -1)
        return F.linear(value * F.silu(gate), state[f"{name}.linear2.weight"])

    for block in (f"core.blocks.{n}" for n in range(4)):
        x = x + 0.5 * feed_forward(x, f"{block}.ff1")
        normed = layer_norm(x, f"{block}.layernorm1").transpose(1, 2)
        depthwise = F.conv1d(normed, state[f"{block}.conv.0.weight"], padding=7, groups=width)
        separable = F.conv1d(depthwise, state[f"{block}.conv.1.weight"], state[f"{block}.conv.1.bias"]).relu()
        x = layer_norm(x + (normed + separable).transpose(1, 2), f"{block}.layernorm2")
        heads = torch.nn.MultiheadAttention(width, 4, batch_first=True)
        heads.load_state_dict(
            {k.removeprefix(f"{block}.attn."): v for k, v in state.items() if k.startswith(f"{block}.attn.")}
        )
        x = x + heads(x, x, x)[0]
        x = x + 0.5 * feed_forward(x, f"{block}.ff2")
    return x.transpose(1, 2)


@torch.no_grad()
def published_features(model: str, state: State, sequences: list[str], strand: int) -> Tensor:
    """5' extension to 150 bp, channels A G C T is_reverse is_singleton; the core's output, averaged over positions: (n,
    channels)."""
    x = torch.zeros(len(sequences), 6, 150)
    for row, sequence in enumerate(sequences):
        window = (UPSTREAM + sequence)[-150:]
        for position, letter in enumerate(reverse_complement(window) if strand else window):
            x[row, "AGCT".index(letter), position] = 1
    x[:, 4] = strand
    if model == "dream_attn":
        x = F.silu(norm(F.conv1d(x, state["first.block.0.weight"], padding=3), state, "first.block.1"))
        return attention(x, state).mean(2)
    return (cnn if model == "dream_cnn" else rnn)(convs(x, state, "first.conv_list"), state).mean(2)


@DREAM
def test_predictions_are_the_published_networks(model: str, tmp_path: Path) -> None:
    state = state_of(SHAPES[model])
    strands = [published_features(model, state, SEQUENCES, strand) for strand in (0, 1)]
    # random layers give nearly the same features for every sequence: the last one is set so that these differences
    # decide
    weight = state["final.mapper.0.weight"][:, :, 0]
    weight *= 3 / (torch.cat(strands) @ weight.T).std(0).mean()
    state["final.mapper.0.bias"] = -(torch.cat(strands) @ weight.T).mean(0)
    logits = [features @ weight.T + state["final.mapper.0.bias"] for features in strands]
    expected = sum(values.softmax(1) @ torch.arange(18.0) for values in logits) / 2
    assert isinstance(expected, Tensor)
    assert expected.std() > 0.05
    torch.save(state, tmp_path / "model_best.pth")
    assert import_weights(tmp_path / "model_best.pth", model, tmp_path / "run").parameters == PARAMETERS[model]
    got = prixfixe.load(tmp_path / "run", device="cpu").predict(SEQUENCES)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


PUBLISHED_PREDICTOR = """
import json, sys, torch
from prixfixe.autosome import AutosomeCoreBlock, AutosomeFinalLayersBlock, AutosomeFirstLayersBlock, AutosomePredictor
from prixfixe.bhi import BHICoreBlock, BHIFirstLayersBlock
from prixfixe.prixfixe import PrixFixeNet
from prixfixe.unlockdna import UnlockDNACoreBlock
model, file, sequences = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
first = AutosomeFirstLayersBlock(6, 256, 150) if model == "dream_attn" else BHIFirstLayersBlock(6, 320, 150)
width = first.out_channels
core = {
    "dream_cnn": lambda: AutosomeCoreBlock(width, 64, 150),
    "dream_rnn": lambda: BHICoreBlock(width, 320, 150),
    "dream_attn": lambda: UnlockDNACoreBlock(width, width, 150),
}[model]()
network = PrixFixeNet(first, core, AutosomeFinalLayersBlock(core.out_channels, 150), torch.Generator())
predictor = AutosomePredictor(network, file, torch.device("cpu"))
print(json.dumps([predictor.predict(sequence) for sequence in sequences]))
"""
STUBS = {  # what the published package imports on the way and this test does not use
    "tqdm/__init__.py": "def tqdm(x=None, *args, **kwargs):\n    return x\n",
    "tqdm/auto.py": "from tqdm import tqdm\n",
    "Bio/__init__.py": "",
    "Bio/Seq.py": "Seq = str\n",
}


@DREAM
def test_predictions_are_the_published_codes(model: str, tmp_path: Path, real_data: Path) -> None:
    """The published code itself, run beside ours: PRIXFIXE_PUBLISHED_CODE names the folder that holds its package."""
    if not (code := os.environ.get("PRIXFIXE_PUBLISHED_CODE")):
        pytest.skip("set PRIXFIXE_PUBLISHED_CODE to a checkout of the published repository")
    file, _ = saved(tmp_path, SHAPES[model])
    import_weights(file, model, tmp_path / "run")
    for name, text in STUBS.items():
        (tmp_path / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stubs" / name).write_text(text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "plasmid.json").write_bytes((real_data / "yeast" / "plasmid.json").read_bytes())
    rows = (real_data / "yeast" / "random_promoters.txt").read_text().splitlines()
    real = [row.split("\t")[0] for row in rows[:200:50]]
    sequences = [
        *SEQUENCES,
        *(sequence for sequence in real if sequence.startswith(LEFT_FLANK)),
        LEFT_FLANK + SEQUENCES[0].removeprefix(LEFT_FLANK).replace("G", "N"),  # a mutated flank it would replace
    ]
    done = subprocess.run(
        [sys.executable, "-c", PUBLISHED_PREDICTOR, model, str(file), json.dumps(sequences)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "stubs"), code])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = np.array(json.loads(done.stdout.splitlines()[-1]))
    np.testing.assert_allclose(prixfixe.load(tmp_path / "run", device="cpu").predict(sequences), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        ("0_1_0_0", SHAPES["dream_cnn"]),
        ("1_0_1_1", {**conv_first(4), **lstm_core(256), **mlp(320 * 110)}),
        ("0_2_0_0", {**kmer_first(128, 10, 6, 150), **cnn_core(128), **soft_bins(64)}),
        ("2_2_2_0", {**kmer_first(64, 8, 6, 200), **attention_core(64, 200), **soft_bins(64)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_combinations_of_the_archive_take_their_widths_from_the_file(
    model: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    file, state = saved(tmp_path, shapes)
    import_weights(file, model, tmp_path / "run")
    loaded = prixfixe.load(tmp_path / "run", device="cpu")
    assert np.ptp(loaded.predict(SEQUENCES)) > 0
    if "first.kmer_dense.weight" in state:
        dense, width, k = state["first.kmer_dense.weight"], *((128, 10) if model == "0_2_0_0" else (64, 8))
        order = "AGCT__" if model[0] == "0" else "ACGTNM"
        codes = torch.tensor([[order.index(letter) for letter in "GATTACAGAT"[:k]]])
        x = torch.zeros(1, 6, loaded.recipe.inputs.length)
        for position, letter in enumerate("GATTACAGAT"[:k]):
            x[0, "ACGT".index(letter), 20 + position] = 1
        got = loaded.network.first(x)[0, :, 20 + (k - 1) // 2]
        expected = F.one_hot(codes, 6).float().reshape(1, -1) @ dense.T + state["first.kmer_dense.bias"]
        torch.testing.assert_close(got, (expected + state["first.strand_embedding.weight"][0])[0])
        assert got.shape == (width,)


@pytest.mark.parametrize("final", ["0_0_0_2", "2_2_2_2"])
def test_a_combination_whose_published_parts_differ_is_refused_with_the_difference(final: str, tmp_path: Path) -> None:
    file, _ = saved(tmp_path, SHAPES["dream_cnn"])
    with pytest.raises(InputError, match="expression heads from the first positions of the sequence"):
        import_weights(file, final, tmp_path / "run")


def test_predictions_in_standardised_units_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = saved(tmp_path, {**conv_first(4), **lstm_core(256), **mlp(320 * 110)})
    assert main(["import-weights", str(file), "--model", "1_0_1_1", "-o", str(tmp_path / "run")]) == 0
    assert "note: predictions are standardised" in capsys.readouterr().err
    assert "standardised" in RunFolder(tmp_path / "run").status()["imported_from"]["notes"][0]


def renamed(state: State) -> State:
    return {name.replace("final.mapper", "final.head"): value for name, value in state.items()}


def without(state: State) -> State:
    return {name: value for name, value in state.items() if name != "core.seqextractor.inv_res_blc3.6.fc.0.bias"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without, ["1 missing", "core.seqextractor.inv_res_blc3.6.fc.0.bias"]),
        (lambda state: state | {"core.extra": torch.zeros(1)}, ["1 left over", "core.extra"]),
        (renamed, ["2 missing", "final.mapper.0.weight", "2 left over", "final.head.0.weight"]),
        (
            lambda state: state | {"first.conv_list.0.conv.bias": torch.zeros(80)},
            ["1 of another shape", "(80,), not (160,)"],
        ),
        (
            lambda state: state | {"final.mapper.0.bias": torch.full((18,), torch.nan)},
            ["1 with values that are not finite", "mapper.0.bias"],
        ),
        (lambda state: state | {"final.bins": torch.arange(1, 19)}, ["final.bins"]),
        (lambda state: {"model": state}, ["no plain state dict"]),
        (lambda state: list(state.values()), ["no plain state dict"]),
    ],
    ids=["missing", "extra", "renamed", "shape", "nan", "bins", "nested", "list"],
)
def test_other_tensors_are_refused_by_name(
    change: Any, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(change(state_of(SHAPES["dream_cnn"])), tmp_path / "x.pth")
    assert main(["import-weights", str(tmp_path / "x.pth"), "--model", "dream_cnn", "-o", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"], "nothing is left behind"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor.to_sparse(), "not dense"),
        (lambda tensor: tensor.to(torch.complex64), "of complex64"),
        (lambda tensor: tensor.bool(), "of bool"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised"),
        (lambda tensor: tensor.to("meta"), "on the device meta"),
        (lambda tensor: tensor.int(), "is of int32"),
        (lambda tensor: torch.full_like(tensor, 1e300, dtype=torch.float64), "too large"),
        (lambda tensor: torch.zeros(1).expand(10**6, *tensor.shape[1:]), "larger than what is stored of it"),
    ],
    ids=["sparse", "complex", "bool", "quantised", "meta", "int", "float64", "expanded"],
)
def test_tensors_that_are_no_plain_numbers_are_refused_before_they_are_used(
    change: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of(SHAPES["dream_cnn"])
    name = "first.conv_list.0.conv.weight"
    torch.save(state | {name: change(state[name])}, tmp_path / "x.pth")
    assert main(["import-weights", str(tmp_path / "x.pth"), "--model", "dream_cnn", "-o", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.startswith("prixfixe: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("kind", ["compressed", "pipe", "folder", "loop", "cut", "empty"])
def test_files_that_torch_did_not_write_are_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, good = tmp_path / "x.pth", tmp_path / "good.pth"
    torch.save({"a": torch.zeros(3)}, good)
    if kind == "compressed":
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.namelist():
                new.writestr(member, old.read(member))
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    else:
        file.write_bytes(good.read_bytes()[:200] if kind == "cut" else b"")
    assert main(["import-weights", str(file), "--model", "dream_cnn", "-o", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"prixfixe: {file}") and err.count("\n") == 1
    assert "Error" not in err


def test_the_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, SHAPES["dream_rnn"])
    with pytest.raises(InputError, match=r"core\.seqextractor.*left over.*core\.lstm.*is --model right"):
        import_weights(file, "dream_cnn", tmp_path / "run")


class Attack:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("wrapping", ["torch", "pickle"])
def test_a_file_that_asks_for_code_is_refused_unexecuted(
    wrapping: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker, file = tmp_path / "executed", tmp_path / "x.pth"
    content = state_of(SHAPES["dream_cnn"]) | {"first.x": Attack(marker)}
    if wrapping == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    assert main(["import-weights", str(file), "--model", "dream_cnn", "-o", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "code" in message
    assert message.count("\n") == 1
    assert not marker.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "zip", "missing", "folder"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = saved(tmp_path, SHAPES["dream_cnn"])
    if damage in ("empty", "text"):
        file.write_bytes(b"" if damage == "empty" else b"sequence\texpression\n")
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100_000])
    elif damage == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", "b")
    else:
        file.unlink()
        if damage == "folder":
            file.mkdir()
    assert main(["import-weights", str(file), "--model", "dream_cnn", "-o", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert str(file) in message
    assert message.count("\n") == 1, "one message"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["dream", "0_1_0", "0_1_0_3", "0_1_0_0_0", ""])
def test_an_unknown_model_is_refused_with_the_choices(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose dream_cnn, dream_rnn, dream_attn"):
        import_weights(tmp_path / "x.pth", model, tmp_path / "run")


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, SHAPES["dream_cnn"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        import_weights(file, "dream_cnn", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_the_run_is_one_for_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = saved(tmp_path, SHAPES["dream_cnn"])
    run = tmp_path / "runs" / "published" / "cnn"
    arguments = ["import-weights", str(file), "--model", "dream_cnn", "-o", str(run)]
    assert main(arguments) == 0
    written = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert main(arguments) == 0, "the same weights once more"
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == written
    status = RunFolder(run).status()
    assert status["state"] == "done"
    assert status["imported_from"]["published_folder"] == "0_1_0_0"
    assert RunFolder(run).config()["training"]["epochs"] == 80
    table = tmp_path / "t.tsv"
    table.write_text("sequence\texpression\n" + "".join(f"{s}\t{i}\n" for i, s in enumerate(SEQUENCES)))
    assert main(["predict", str(run), str(table), "-o", str(tmp_path / "p.tsv")]) == 0
    assert len((tmp_path / "p.tsv").read_text().splitlines()) == len(SEQUENCES) + 1
    test_set = tmp_path / "test"
    test_set.mkdir()
    (test_set / "test_sequences.tsv").write_bytes(table.read_bytes())
    (test_set / "random.csv").write_text("pos\n0\n1\n2\n3\n")
    assert main(["evaluate", str(run), str(test_set), "--bootstrap", "0"]) == 0
    capsys.readouterr()
    assert main(["results", str(run)]) == 0
    assert "autosome" in capsys.readouterr().out
    assert main(["train", "experiment=dream_cnn", f"hydra.run.dir={run}", "dataset=simulated", "dataset.size=200"]) == 2
    assert "another configuration" in capsys.readouterr().err, (
        "imported weights are never taken for a training's, nor replaced by one"
    )
