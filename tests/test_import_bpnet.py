"""BPNet and ChromBPNet of others: found by the names of their tensors, nothing executed, the same predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import random_strings
from test_bpnet import plain_bpnet
from torch import Tensor

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.inference.bpnet_weights import import_bpnet
from prixfixe.runs.folder import RunFolder

State = dict[str, Tensor]
CHANNELS, LAYERS = {"own": 6, "bias": 4}, {"own": 8, "bias": 4}
SEQUENCES = random_strings(3, 2114)


def lite(which: str = "own", outputs: int = 1, controls: int = 0) -> State:
    """A state dict with bpnet-lite's names and shapes."""
    generator = torch.Generator().manual_seed(len(which))
    channels = CHANNELS[which]
    shapes = {"iconv.weight": (channels, 4, 21), "iconv.bias": (channels,)}
    for layer in range(LAYERS[which]):
        shapes |= {f"rconvs.{layer}.weight": (channels, channels, 3), f"rconvs.{layer}.bias": (channels,)}
    shapes |= {"fconv.weight": (outputs, channels + controls, 75), "fconv.bias": (outputs,)}
    shapes |= {"linear.weight": (1, channels), "linear.bias": (1,)}
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def ours(state: State) -> State:
    names = {"iconv": "core.first", "fconv": "final.profile", "linear": "final.counts"}
    found = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        found[f"{names.get(layer, layer.replace('rconvs', 'core.dilated'))}.{kind}"] = tensor
    return found


def keras_layers(which: str) -> dict[str, np.ndarray]:
    """The same weights with ChromBPNet's names, `LAYER/kernel:0` and `LAYER/bias:0`, in Keras's order of axes."""
    body, head = ("wo_bias_bpnet_", "wo_bias_bpnet_") if which == "own" else ("bpnet_", "")
    names = {"iconv": f"{body}1st_conv", "fconv": f"{head}prof_out_precrop", "linear": f"{head}logcount_predictions"}
    found = {}
    for name, tensor in lite(which).items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("rconvs."):
            names[layer] = f"{body}{int(layer.partition('.')[2]) + 1}conv"
        found[f"{names[layer]}/{'kernel' if kind == 'weight' else 'bias'}:0"] = tensor.numpy().T
    return found


def write_keras(path: Path, *networks: str) -> Path:
    """As Keras writes a model: of one network a group a layer, in which its name stands again; of two a group each."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "a description, which is not read"
        file.create_dataset("optimizer_weights/Adam/bpnet_1st_conv/kernel:0", data=np.zeros(3, dtype=np.float32))
        for which in networks:
            nested = {"own": "model_wo_bias", "bias": "model_1"}[which] if len(networks) > 1 else None
            for name, array in keras_layers(which).items():
                file[f"model_weights/{nested or name.partition('/')[0]}/{name}"] = np.ascontiguousarray(array)
        file.create_group("model_weights/logcount_predictions" if len(networks) > 1 else "model_weights/gap")
    return path


def write(folder: Path, kind: str) -> tuple[list[str], bool]:
    """The files of a kind, as the command takes them; and whether a bias model is among them."""
    state = folder / "x.torch"
    if kind == "lite":
        torch.save(lite(), state)
        return [str(state), "--model", "bpnet"], False
    if kind == "lite both":
        both = {f"accessibility.{name}": tensor for name, tensor in lite().items()}
        torch.save(both | {f"bias.{name}": tensor for name, tensor in lite("bias").items()}, state)
        return [str(state), "--model", "chrombpnet"], True
    if kind == "keras":
        return [str(write_keras(folder / "x.h5", "own")), "--model", "bpnet"], False
    if kind == "keras both":
        return [str(write_keras(folder / "x.h5", "own", "bias")), "--model", "chrombpnet"], True
    bias = str(write_keras(folder / "bias.h5", "bias"))
    return [str(write_keras(folder / "x.h5", "own")), "--model", "chrombpnet", "--bias", bias], True


@pytest.mark.parametrize("kind", ["lite", "lite both", "keras", "keras both", "keras and bias"])
def test_an_imported_network_predicts_what_a_plain_restatement_does(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, with_bias = write(tmp_path, kind)
    assert main(["import-weights", *arguments, "-o", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    own = sum(tensor.numel() for tensor in lite().values())
    assert f"{own:,} parameters" in said.out and "sequences of 2,114 nt" in said.err
    model = prixfixe.load(tmp_path / "run", device="cpu")
    x = F.one_hot(torch.tensor([["ACGT".index(letter) for letter in s] for s in SEQUENCES]), 4).mT.float()
    profile, counts = plain_bpnet(x, ours(lite()), 8, 1000)
    outputs = model.combined(next(iter(model.output_chunks([model.rows_of(SEQUENCES)]))))
    end = "_without_bias" if with_bias else ""
    np.testing.assert_allclose(outputs[f"profile{end}"], profile.log_softmax(-1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs[f"log_counts{end}"], counts, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.predict(SEQUENCES), counts, rtol=1e-4, atol=1e-4)
    if with_bias:
        bias_profile, bias_counts = plain_bpnet(x, ours(lite("bias")), 4, 1000)
        together = (profile + bias_profile).log_softmax(-1)
        np.testing.assert_allclose(outputs["profile"], together, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(outputs["log_counts"], torch.logaddexp(counts, bias_counts), rtol=1e-4, atol=1e-4)
    assert main(["import-weights", *arguments, "-o", str(tmp_path / "run")]) == 0  # it is there already
    facts = RunFolder(tmp_path / "run").status()["imported_from"]
    assert len(facts["sha256"]) == 64 and len(facts["notes"]) == 2


def test_heads_without_a_bias_have_one_of_0(tmp_path: Path) -> None:
    state = lite()
    torch.save(
        {name: t for name, t in state.items() if name not in ("fconv.bias", "linear.bias")}, tmp_path / "x.torch"
    )
    import_bpnet(tmp_path / "x.torch", "bpnet", tmp_path / "run")
    network = prixfixe.load(tmp_path / "run", device="cpu").members[0].network
    assert not network.final.profile.bias.any() and not network.final.counts.bias.any()


class Opens:
    """What a pickle would do that is executed."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return open, (str(self.file), "w")


def damaged(folder: Path, how: str) -> Path:
    state, file = lite(), folder / "x.torch"
    if how == "module":
        torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), file)
    elif how == "executes":
        torch.save({**state, "x": Opens(folder / "canary")}, file)
    elif how == "controls":
        torch.save(lite(controls=2), file)
    elif how == "strands":
        torch.save(lite(outputs=2), file)
    elif how == "missing":
        state.pop("rconvs.3.bias")
        torch.save(state, file)
    elif how == "extra":
        torch.save(state | {"further.weight": torch.zeros(2)}, file)
    elif how == "nan":
        state["linear.bias"][0] = torch.nan
        torch.save(state, file)
    elif how == "other":
        torch.save({"a.weight": torch.zeros(2)}, file)
    elif how == "both":
        torch.save({f"{part}.{n}": t for part in ("bias", "accessibility") for n, t in state.items()}, file)
    return file


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("module", "asks for code to be executed"),
        ("executes", "asks for code to be executed"),
        ("controls", "takes 2 control tracks"),
        ("strands", "predicts 2 tracks, and task profile has one"),
        ("missing", "1 missing: core.dilated.3.bias"),
        ("extra", "1 left over: further.weight"),
        ("nan", "1 with values that are not finite: final.counts.bias"),
        ("other", "holds no BPNet"),
        ("nothing", "no such file"),
        ("both", "say --model chrombpnet"),
    ],
)
def test_other_files_are_refused_and_leave_nothing(
    how: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = damaged(tmp_path, how)
    before = sorted(tmp_path.iterdir())
    assert main(["import-weights", str(file), "--model", "bpnet", "-o", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_single_network_is_no_chrombpnet(tmp_path: Path) -> None:
    torch.save(lite(), tmp_path / "x.torch")
    with pytest.raises(InputError, match="holds one network, and --model chrombpnet has two"):
        import_bpnet(tmp_path / "x.torch", "chrombpnet", tmp_path / "run")
    with pytest.raises(InputError, match=r"--bias .*leave it out"):
        import_bpnet(tmp_path / "x.torch", "bpnet", tmp_path / "run", tmp_path / "x.torch")
    import_bpnet(tmp_path / "x.torch", "chrombpnet", tmp_path / "run", tmp_path / "x.torch")


def test_an_h5_file_leads_to_no_other_file(tmp_path: Path) -> None:
    """Links are not followed, and what lies outside of the file is not read."""
    h5py = pytest.importorskip("h5py")
    write_keras(tmp_path / "other.h5", "own")
    linked = write_keras(tmp_path / "x.h5", "own")
    name = next(name for name in keras_layers("own") if "1st_conv/kernel" in name)
    place = f"model_weights/{name.partition('/')[0]}/{name}"
    with h5py.File(linked, "a") as file:
        del file[place]
        file[place] = h5py.ExternalLink("other.h5", place)
    with pytest.raises(InputError, match="holds no BPNet"):
        import_bpnet(linked, "bpnet", tmp_path / "run")
    outside = write_keras(tmp_path / "y.h5", "own")
    (tmp_path / "secret").write_bytes(bytes(6 * 4 * 21 * 4))
    with h5py.File(outside, "a") as file:
        del file[place]
        file.create_dataset(place, (21, 4, 6), dtype="f4", external=[(str(tmp_path / "secret"), 0, 6 * 4 * 21 * 4)])
    with pytest.raises(InputError, match="no array of numbers that it holds itself"):
        import_bpnet(outside, "bpnet", tmp_path / "run")
    (tmp_path / "cut.h5").write_bytes(linked.read_bytes()[:600])
    with pytest.raises(InputError, match=r"damaged, or no .h5 file"):
        import_bpnet(tmp_path / "cut.h5", "bpnet", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_h5py_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_keras(tmp_path / "x.h5", "own")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=r"an \.h5 file needs h5py: pip install 'prixfixe\[keras\]'"):
        import_bpnet(file, "bpnet", tmp_path / "run")


def compared(theirs: Any, run: Path) -> None:
    """Both in float64; what bpnet-lite gives of a longer profile is its middle."""
    network = prixfixe.load(run, device="cpu").members[0].network.double().eval()
    x = F.one_hot(torch.tensor([["ACGT".index(letter) for letter in s] for s in SEQUENCES]), 4).mT.double()
    with torch.no_grad():
        profile, counts = theirs.double().eval()(x)
        found = network({"x": x})
    spare = (profile.shape[2] - 1000) // 2
    torch.testing.assert_close(found["profile"], profile[:, 0, spare : spare + 1000], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found["log_counts"], counts[:, 0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("which", ["own", "bias"])
def test_predictions_are_bpnet_lites_own(which: str, tmp_path: Path) -> None:
    """Of its own file, and of ChromBPNet's as it reads that itself; of a bias model the profile is longer there."""
    bpnetlite = pytest.importorskip("bpnetlite")
    model = bpnetlite.BPNet(CHANNELS[which], LAYERS[which], n_outputs=1, n_control_tracks=0, verbose=False)
    model.load_state_dict(lite(which))
    torch.save(model.state_dict(), tmp_path / "x.torch")
    import_bpnet(tmp_path / "x.torch", "bpnet", tmp_path / "run")
    compared(model, tmp_path / "run")
    file = write_keras(tmp_path / "x.h5", which)
    import_bpnet(file, "bpnet", tmp_path / "of_keras")
    compared(bpnetlite.BPNet.from_chrombpnet(str(file)), tmp_path / "of_keras")


def test_predictions_with_a_bias_are_bpnet_lites_own(tmp_path: Path) -> None:
    bpnetlite = pytest.importorskip("bpnetlite")
    files = [str(write_keras(tmp_path / f"{which}.h5", which)) for which in ("bias", "own")]
    model = bpnetlite.ChromBPNet.from_chrombpnet(*files)
    torch.save(model.state_dict(), tmp_path / "x.torch")
    import_bpnet(tmp_path / "x.torch", "chrombpnet", tmp_path / "run")
    compared(model, tmp_path / "run")
