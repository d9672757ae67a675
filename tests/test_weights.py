"""Parts that start from another run's weights, are frozen, or carry an adapter; what a run then writes and needs."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose, demo
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from safetensors.torch import load_file, save_file

import prixfixe
from prixfixe.common.errors import InputError, InterruptedRunError
from prixfixe.common.paths import conf_folder
from prixfixe.menu.check import example, example_task
from prixfixe.networks.network import Network, build, learning_rate_groups
from prixfixe.networks.weights import own_state, plain_state, prepare
from prixfixe.runs.folder import RunFolder, decisive, identity
from prixfixe.runs.sources import find_sources, pinned
from prixfixe.sweeps.typed import as_hydra_takes_it
from prixfixe.training import experiment
from prixfixe.training.build import build_dataset, build_optimizer, build_recipe
from prixfixe.training.experiment import run
from prixfixe.training.keeper import Keeper
from prixfixe.training.settings import check_settings

CORES = ("efficientnet", "proformer")


def configuration(core: str, *overrides: str, first: str = "conv", final: str = "soft_bins") -> dict[str, Any]:
    tiny = ("first.channels=8", "dataset.size=120", "training.device=cpu", "training.epochs=2")
    return demo("bhi", first, core, final, *tiny, *overrides)


@pytest.fixture(scope="module", params=CORES)
def pretrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A core's name and a run of it that has ended."""
    folder = tmp_path_factory.mktemp("pretrained") / request.param
    run(configuration(request.param, "seed=7"), folder, show_progress=False)
    return request.param, folder


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """The networks that are trained from now on."""
    found: list[Network] = []

    def noted(network: Network, *arguments: Any) -> Any:
        found.append(network)
        return prepare(network, *arguments)

    monkeypatch.setattr(experiment, "prepare", noted)
    return found


def built(config: dict[str, Any], folder: Path = Path("no run")) -> Network:
    torch.manual_seed(config["seed"])
    network = build(build_recipe(config), config, example_task())
    prepare(network, config, find_sources(config, RunFolder(folder)))
    return network


def of_core(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith("core.")}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def validated(folder: Path, config: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What was predicted of the validation set in training, and what is after the run is loaded."""
    sequences = build_dataset(config).read().validation.sequences
    with np.load(folder / "validation.npz") as arrays:
        return arrays["predicted"], prixfixe.load(folder, device="cpu").predict_sequences(sequences)


def test_a_part_starts_from_another_run(
    pretrained: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], networks: list[Network]
) -> None:
    core, before = pretrained
    config = configuration(core, f"core.train.weights={before}")
    published = load_file(before / "weights.safetensors")
    network, scratch = built(config), built(configuration(core))
    assert equal(of_core(network.state_dict()), of_core(published))
    assert equal(network.first.state_dict(), scratch.first.state_dict())  # and nothing else is another
    run(config, tmp_path / "run", show_progress=True)
    count = len(of_core(published))
    assert f"core: {count} tensors from {before / 'weights.safetensors'}" in capsys.readouterr().err
    assert not equal(of_core(networks[0].state_dict()), of_core(published))  # it was trained
    content = json.loads((tmp_path / "run" / "sources.json").read_text())
    digest = hashlib.sha256((before / "weights.safetensors").read_bytes()).hexdigest()
    path = str(before / "weights.safetensors")
    assert content == {"core": {"weights": str(before), "path": path, "sha256": digest, "tensors": count}}
    assert load_file(tmp_path / "run" / "weights.safetensors").keys() == published.keys()  # all of which was trained


def test_a_final_block_takes_its_expression_heads_along(tmp_path: Path) -> None:
    config = configuration("proformer", "training.epochs=1", final="expression_heads")
    run(config, tmp_path / "before", show_progress=False)
    again = configuration("proformer", f"final.train.weights={tmp_path / 'before'}", final="expression_heads")
    assert torch.equal(built(again).heads, load_file(tmp_path / "before" / "weights.safetensors")["heads"])


def broken(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    names = sorted(
        (name for name in tensors if name.startswith("core.")), key=lambda n: not tensors[n].is_floating_point()
    )
    if how == "missing":
        return {name: tensor for name, tensor in tensors.items() if name != names[0]}
    if how == "left over":
        return {**tensors, "core.another": torch.zeros(1)}
    if how == "shape":
        return {**tensors, names[0]: torch.zeros(3, 1)}
    if how == "nan":
        return {**tensors, names[0]: torch.full_like(tensors[names[0]], torch.nan)}
    if how == "compiled":
        return {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    return {name.removeprefix("core."): tensors[name] for name in names}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", r"1 tensor missing: core\."),
        ("left over", "1 tensor left over: core.another"),
        ("shape", r"1 tensor of another shape: core\.\S+ \(3, 1\), not \("),
        ("nan", "1 tensor with values that are not finite"),
        ("compiled", r"begin with core\. and begin with _orig_mod\.; save the network that was compiled"),
        ("bare", r"begin with core\. and begin with (stages|blocks|position)\."),
    ],
)
def test_weights_that_do_not_fit_are_refused(how: str, says: str, pretrained: tuple[str, Path], tmp_path: Path) -> None:
    core, before = pretrained
    save_file(broken(load_file(before / "weights.safetensors"), how), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=says):
        built(configuration(core, f"core.train.weights={tmp_path / 'other.safetensors'}"))


def test_another_core_is_refused_with_all_that_differs(pretrained: tuple[str, Path]) -> None:
    _, before = pretrained
    with pytest.raises(InputError, match=r"\d+ tensors missing: core.*\.\.\.; \d+ tensors left over"):
        built(configuration("bilstm", f"core.train.weights={before}"))


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    torch.save({"core.a": torch.zeros(2)}, tmp_path / "pickled.safetensors")
    said = {
        "nothing": "no such file or folder",
        "empty": "holds no weights.safetensors",
        "pickled.safetensors": "damaged",
    }
    for name, says in said.items():
        with pytest.raises(InputError, match=says):
            built(configuration("efficientnet", f"core.train.weights={tmp_path / name}"))


@pytest.mark.parametrize("first", ["conv", "parallel_conv"])  # with batch norm; with dropout
def test_a_frozen_part_is_as_it_was(first: str, tmp_path: Path, networks: list[Network]) -> None:
    config = configuration("efficientnet", "first.train.frozen=true", "core.train.frozen=true", first=first)
    before = built(config)
    run(config, tmp_path / "run", show_progress=False)
    network = networks[0]
    for slot in ("first", "core"):
        assert equal(network.blocks()[slot].state_dict(), before.blocks()[slot].state_dict())  # buffers, too
    assert not equal(network.final.state_dict(), before.final.state_dict())
    x = example(build_recipe(config))[1]["x"]
    network.train()
    in_training = network.core(network.first(x))
    network.eval()
    assert torch.equal(in_training, network.core(network.first(x)))
    assert {group["name"] for group in learning_rate_groups(network, config)} == {"final"}
    written = load_file(tmp_path / "run" / "weights.safetensors")
    assert written.keys() == network.state_dict().keys()  # these weights can be had nowhere else
    trained, loaded = validated(tmp_path / "run", config)
    np.testing.assert_allclose(loaded, trained, rtol=1e-6)


def test_nothing_left_to_train() -> None:
    frozen = [f"{slot}.train.frozen=true" for slot in ("first", "core", "final")]
    with pytest.raises(InputError, match="first, core and final are all frozen"):
        built(configuration("efficientnet", *frozen))


def test_an_adapter_is_all_that_is_trained_of_its_part(
    pretrained: tuple[str, Path], tmp_path: Path, networks: list[Network]
) -> None:
    core, before = pretrained
    config = configuration(
        core, f"core.train.weights={before}", "core.train.lora.rank=2", "core.train.lora.dropout=0.1"
    )
    begun = built(config)
    metrics = run(config, tmp_path / "run", show_progress=False)
    network, source = networks[0], load_file(before / "weights.safetensors")
    old, new = of_core(begun.state_dict()), of_core(network.state_dict())
    adapters = {name for name in new if ".lora_" in name}
    assert equal({n: old[n] for n in old if n not in adapters}, {n: new[n] for n in new if n not in adapters})
    assert not any(old[name].any() for name in adapters if ".lora_B." in name)  # so that it begins as the base
    assert all(new[name].any() for name in adapters if ".lora_B." in name)  # no adapter is dead
    written = load_file(tmp_path / "run" / "weights.safetensors")
    assert of_core(written).keys() == adapters
    assert {name for name in written if not name.startswith("core.")} == source.keys() - of_core(source).keys()
    assert metrics["parameters"] == sum(p.numel() for p in network.parameters() if p.requires_grad)
    trained, loaded = validated(tmp_path / "run", config)
    np.testing.assert_allclose(loaded, trained, rtol=1e-6)
    assert np.std(trained) > 0


@pytest.mark.parametrize("core", CORES)
def test_an_adapter_begins_as_the_base_and_can_be_merged(core: str) -> None:
    config = configuration(core, "core.train.lora.rank=2")
    torch.manual_seed(0)
    plain = build(build_recipe(config), config, example_task()).double()
    torch.manual_seed(0)
    network = build(build_recipe(config), config, example_task()).double()
    prepare(network, config, {})
    network.double()
    x = torch.randn(3, 8, 110, dtype=torch.float64)
    network.eval(), plain.eval()
    torch.testing.assert_close(network.core(x), plain.core(x), rtol=0, atol=1e-12)
    assert equal(plain_state(network), plain.state_dict())
    optimizer = torch.optim.SGD([p for p in network.core.parameters() if p.requires_grad], lr=1.0)
    network.core(x).square().mean().backward()
    optimizer.step()
    assert all(p.any() for name, p in network.named_parameters() if ".lora_B." in name)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    with_adapter, base = network.core(x), plain.core(x)
    assert (with_adapter - base).abs().max() > 0.01
    plain.load_state_dict(plain_state(network))
    torch.testing.assert_close(plain.core(x), with_adapter, rtol=0, atol=1e-6)


def test_a_block_without_adapters_says_which_blocks_have_some() -> None:
    with pytest.raises(InputError, match="BiLSTM names no layers for adapters; core=efficientnet, core=proformer do"):
        built(configuration("bilstm", "core.train.lora.rank=2"))


def test_without_peft_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'prixfixe\[lora\]'"):
        built(configuration("efficientnet", "core.train.lora.rank=2"))


def test_resuming_is_exact(pretrained: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core, before = pretrained
    frozen = (f"first.train.weights={before}", "first.train.frozen=true")
    adapted = (f"core.train.weights={before}", "core.train.lora.rank=2", "core.train.lora.dropout=0.2")
    config = configuration(core, *frozen, *adapted)
    run(config, tmp_path / "whole", show_progress=False)
    after_step = Keeper.after_step

    def interrupted(keeper: Keeper, *arguments: Any) -> None:
        after_step(keeper, *arguments)
        if keeper.account.step == 8:
            keeper.state.save(keeper.job.folder.path, 1)
            raise InterruptedRunError("told to stop", 15)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", interrupted)
        with pytest.raises(InterruptedRunError):
            run(config, tmp_path / "parts", show_progress=False)
    [checkpoint] = (tmp_path / "parts").glob("checkpoint-*")
    names = {name.removeprefix("network.") for name in load_file(checkpoint) if name.startswith("network.")}
    assert names == own_state(built(config)).keys()
    assert not any(name.startswith("first.") for name in names)
    run(config, tmp_path / "parts", show_progress=False)
    assert '"event": "resume"' in (tmp_path / "parts" / "log.jsonl").read_text()
    for file in ("weights.safetensors", "validation.npz"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.fixture
def tuned(pretrained: tuple[str, Path], tmp_path: Path) -> tuple[dict[str, Any], Path, Path]:
    """A configuration with a frozen core, its run, and the file that it needs."""
    core, before = pretrained
    shutil.copy(before / "weights.safetensors", tmp_path / "source.safetensors")
    config = configuration(core, f"core.train.weights={tmp_path / 'source.safetensors'}", "core.train.frozen=true")
    run(config, tmp_path / "tuned", show_progress=False)
    return config, tmp_path / "tuned", tmp_path / "source.safetensors"


def test_a_source_that_is_gone_can_be_put_into_the_run(
    tuned: tuple[dict[str, Any], Path, Path], tmp_path: Path
) -> None:
    config, folder, source = tuned
    assert not of_core(load_file(folder / "weights.safetensors"))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    source.rename(tmp_path / "elsewhere.safetensors")
    run(RunFolder(folder).config(), folder, show_progress=False)  # which is done, and needs nothing
    with pytest.raises(InputError, match=rf"which is gone: put back .*{digest}, or copy it as .*sources/{digest}"):
        prixfixe.load(folder)
    (folder / "sources").mkdir()
    shutil.copy(tmp_path / "elsewhere.safetensors", folder / "sources" / f"{digest}.safetensors")
    trained, loaded = validated(folder, config)
    np.testing.assert_allclose(loaded, trained, rtol=1e-6)
    run(config, folder, show_progress=False)  # done
    (folder / "sources.json").unlink()  # its hash is in the configuration, too
    prixfixe.load(folder)
    shutil.copy(folder / "weights.safetensors", folder / "sources" / f"{digest}.safetensors")
    with pytest.raises(InputError, match="is another file now"):
        prixfixe.load(folder)


def test_a_source_that_has_changed_is_refused(tuned: tuple[dict[str, Any], Path, Path]) -> None:
    config, folder, source = tuned
    save_file({name: tensor + 1 for name, tensor in load_file(source).items()}, source)
    with pytest.raises(InputError, match=r"is another file now \(sha256 [0-9a-f]{64}\): put back the file"):
        prixfixe.load(folder)
    with pytest.raises(InputError, match=r"another configuration \(core.train.sha256: [0-9a-f]{64} there"):
        run(config, folder, show_progress=False)
    resumed = RunFolder(folder).config()
    with pytest.raises(InputError, match="is another file now"):
        run(resumed, folder, show_progress=False)


def test_a_run_is_what_its_weights_hold_and_not_where_they_lie(pretrained: tuple[str, Path], tmp_path: Path) -> None:
    core, before = pretrained
    shutil.copy(before / "weights.safetensors", tmp_path / "copy.safetensors")
    tensors = load_file(before / "weights.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, tmp_path / "other.safetensors")
    found = []
    for path in (before, tmp_path / "copy.safetensors", tmp_path / "other.safetensors"):
        config = configuration(core, f"core.train.weights={path}")
        found.append(pinned(config, find_sources(config, RunFolder(tmp_path / "run"))))
    one, copy, other = (identity(config, "data") for config in found)
    assert one == copy != other
    assert "weights" not in decisive(found[0])["core"]["train"]
    plain = configuration(core)
    without = {**plain, "first": {key: value for key, value in plain["first"].items() if key != "train"}}
    assert identity(plain, "data") == identity(without, "data") != one


def test_a_run_that_kept_its_weights_leads_to_where_they_are(tuned: tuple[dict[str, Any], Path, Path]) -> None:
    config, folder, source = tuned
    again = {**config, "core": {**config["core"], "train": {**config["core"]["train"], "weights": str(folder)}}}
    assert find_sources(again, RunFolder(folder / "new"))["core"].path == source


def test_a_run_with_an_adapter_is_merged_before_another_starts_from_it(
    pretrained: tuple[str, Path], tmp_path: Path
) -> None:
    core, before = pretrained
    adapted = configuration(core, f"core.train.weights={before}", "core.train.lora.rank=2")
    run(adapted, tmp_path / "adapted", show_progress=False)
    with pytest.raises(InputError, match=r"an adapter on other weights; .*save_weights"):
        built(configuration(core, f"core.train.weights={tmp_path / 'adapted'}"))
    model = prixfixe.load(tmp_path / "adapted", device="cpu")
    model.save_weights(tmp_path / "merged.safetensors")
    network = built(configuration(core, f"core.train.weights={tmp_path / 'merged.safetensors'}")).eval()
    x = torch.randn(2, 8, 110)
    torch.testing.assert_close(network.core(x), model.network.core(x), rtol=1e-4, atol=1e-4)
    assert load_file(tmp_path / "merged.safetensors").keys() == load_file(before / "weights.safetensors").keys()


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ({"frosen": True}, "no such setting: core.train.frosen; did you mean core.train.frozen"),
        ({"frozen": 1}, "core.train.frozen=1: true or false"),
        ({"max_lr": -1}, "core.train.max_lr=-1: a number above 0, or null"),
        ({"weight_decay": -0.1}, "core.train.weight_decay=-0.1: a number, at least 0, or null"),
        ({"weights": 3}, "core.train.weights=3: a run folder"),
        ({"lora": {"rank": 0, "alpha": 1.0, "dropout": 0.0}}, "core.train.lora.rank=0: a whole number, at least 1"),
        ({"lora": {"rank": 2, "alpha": 1.0, "dropout": 1.0}}, "core.train.lora.dropout=1.0: a share"),
        ({"lora": {"rank": 2}}, "core.train.lora.alpha is missing"),
        ({"lora": {"rank": 2, "alpha": 1.0, "dropout": 0.0}, "frozen": True}, "leave frozen out"),
        (3, "core.train=3"),
    ],
)
def test_wrong_settings_are_refused(train: Any, says: str) -> None:
    config = configuration("efficientnet")
    config["choices"] = dict.fromkeys(config["choices"], "any")
    config["core"]["train"] = train
    with pytest.raises(InputError) as caught:
        check_settings(config, experiment.LOADED)
    assert says in str(caught.value)


def test_the_learning_rate_of_version_0_1_is_still_read() -> None:
    config = configuration("efficientnet")
    old = {"_target_": config["core"]["_target_"], **{k: v for k, v in config["core"].items() if k != "train"}}
    config["core"] = {**old, "max_lr": 0.002}
    groups = {group["name"]: group for group in learning_rate_groups(built(config), config)}
    assert groups["core"]["max_lr"] == 0.002
    config["core"]["train"] = {"max_lr": 0.001}
    config["choices"] = dict.fromkeys(config["choices"], "any")
    with pytest.raises(InputError, match=r"core.max_lr=0.002 and core.train.max_lr=0.001: the first is version 0.1's"):
        check_settings(config, experiment.LOADED)
    for word in ("core.max_lr=0.002", "+core.max_lr=0.002"):
        assert as_hydra_takes_it(word) == "core.train.max_lr=0.002"


def test_rates_and_weight_decay_are_a_part_s_own() -> None:
    config = configuration("proformer", "final.train.weight_decay=0.2", "first.train.max_lr=0.003")
    groups = {group["name"]: group for group in learning_rate_groups(built(config), config)}
    assert {name: group["max_lr"] for name, group in groups.items()} == {"first": 0.003, "core": 0.001, "final": None}
    optimizer, _ = build_optimizer(built(config), config, 100)
    assert {group["name"]: group["weight_decay"] for group in optimizer.param_groups} == {
        "first": 0.01,
        "core": 0.01,
        "final": 0.2,
    }


def test_every_part_takes_these_settings_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "mine.yaml").write_text("# A core of my own\n_target_: my.Core\n")
    words = ["core.train.frozen=true", "core.train.lora.rank=4", "core=mine"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra_compose("train", [*words, f"hydra.searchpath=[file://{tmp_path}]"])
    assert config.core.train.frozen is True
    assert config.core.train.lora == {"rank": 4, "alpha": 16, "dropout": 0.0}
    config = compose("first.train.weights=runs/a+b", "final.train.frozen=true", "core=proformer")
    assert (config["first"]["train"]["weights"], config["core"]["train"]["max_lr"]) == ("runs/a+b", 0.001)
