"""Bundles: a model given away is the same model elsewhere, and nothing else is in its folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import compose, demo, random_strings
from fake_hub import FakeHub, fake_hub
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file, save_file
from small_runs import small_binary_run, small_run

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.inference.load import run_folders
from prixfixe.runs.bundle import without_places
from prixfixe.runs.folder import RunFolder
from prixfixe.training.build import build_dataset
from prixfixe.training.experiment import run

STRINGS = [*random_strings(6), "ACGTNNNNACGT", "A" * 150]
SMALL = ("dataset.size=60", "first.channels=8", "core.widths=[8]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, whose folder says where that was."""
    folder = tmp_path_factory.mktemp("secret_home") / "first"
    run(demo("bhi", "conv", "efficientnet", "mlp", *SMALL), folder, show_progress=False)
    return folder


@pytest.fixture(scope="module")
def adapted(trained: Path) -> Path:
    """A run that starts from it, with a frozen part and an adapter."""
    folder = trained.parent / "adapted"
    starts = (f"first.train.weights={trained}", "first.train.frozen=true", f"core.train.weights={trained}")
    settings = (*SMALL, *starts, "core.train.lora.rank=2", "training.allow_seen=true", "seed=1")
    run(demo("bhi", "conv", "efficientnet", "mlp", *settings), folder, show_progress=False)
    return folder


@pytest.fixture(scope="module")
def bundle(adapted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "bundle"
    assert main(["bundle", str(adapted), "-o", str(folder), "--license", "mit"]) == 0
    return folder


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "received"))


def predictions(*runs: str | Path) -> np.ndarray:
    with pytest.warns(UserWarning, match="longer"):
        return prixfixe.load([str(name) for name in runs], device="cpu").predict(STRINGS)


def refused(folder: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prixfixe.load(folder, device="cpu")


def test_a_bundle_predicts_as_its_run_after_the_run_is_gone(
    trained: Path, adapted: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = predictions(adapted)
    hidden = trained.parent.rename(tmp_path / "hidden")
    try:
        np.testing.assert_array_equal(predictions(copied), wanted)
    finally:
        hidden.rename(trained.parent)


def test_scored_again_a_bundle_gives_the_scores_of_its_run(copied: Path) -> None:
    folder = RunFolder(copied)
    rows = build_dataset(folder.config()).read().validation
    model = prixfixe.load(copied, device="cpu").members[0]
    again = model.task.score(rows, {"expression": model.predict_sequences(rows.sequences)})
    for score in ("pearson_r", "spearman_rho", "mse"):
        assert again[score] == pytest.approx(folder.metrics()[score], rel=1e-5), score


def test_nothing_of_this_machine_is_in_a_bundle(adapted: Path, copied: Path) -> None:
    for file in (path for path in copied.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for place in (str(adapted.parent), "secret_home", str(Path.home()), os.getcwd(), str(copied.parent)):
            assert place.encode() not in content, (file, place)
    assert yaml.safe_load((copied / "config.yaml").read_text())["first"]["train"]["weights"] == "first"


def test_settings_keep_the_last_name_of_paths() -> None:
    config = {
        "dataset": {
            "path": "data/mine.tsv",
            "test": "~/x/test.tsv",
            "expression": ["log2/enrichment"],
            "flanks": ["A", "C"],
        },
        "first": {"train": {"weights": "/home/me/runs/a"}},
        "columns": {"profile": "/home/me/*.npy"},
        "logger": {"uri": "file:/home/me/x"},
        "of": ["https://a.b/c", "AC/GT", 3, None],
    }
    found = without_places(config)
    assert found["dataset"] == {**config["dataset"], "path": "mine.tsv", "test": "test.tsv"}
    assert found["first"]["train"]["weights"] == "a" and found["columns"]["profile"] == "*.npy"
    assert found["logger"]["uri"] == "x" and found["of"] == config["of"]


def test_the_same_run_gives_the_same_bytes(adapted: Path, bundle: Path, tmp_path: Path) -> None:
    assert main(["bundle", str(adapted), "-o", str(tmp_path / "again"), "--license", "mit"]) == 0
    names = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for name in names:
        assert (bundle / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_part_starts_from_a_bundle(copied: Path, tmp_path: Path) -> None:
    settings = (*SMALL, f"first.train.weights={copied}", "training.allow_seen=true")
    run(demo("bhi", "conv", "efficientnet", "mlp", *settings), tmp_path / "after", show_progress=False)
    facts = json.loads((tmp_path / "after" / "sources.json").read_text())
    assert facts["first"]["tensors"] == 6


def test_an_ensemble_is_a_bundle_of_members(trained: Path, adapted: Path, tmp_path: Path) -> None:
    wanted = predictions(trained, adapted)
    folder = tmp_path / "both"
    assert main(["bundle", str(trained), str(adapted), "-o", str(folder)]) == 0
    assert [path.name for path in run_folders(folder)] == ["0", "1"]
    np.testing.assert_array_equal(predictions(folder), wanted)
    shutil.rmtree(folder / "members" / "1")
    refused(folder, "files missing .members/1/config.yaml")


def test_a_bundle_of_a_bundle_predicts_the_same(copied: Path, tmp_path: Path) -> None:
    assert main(["bundle", str(copied), "-o", str(tmp_path / "second")]) == 0
    np.testing.assert_array_equal(predictions(tmp_path / "second"), predictions(copied))


def test_without_sources_says_what_must_be_beside_it(
    trained: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "light"
    assert main(["bundle", str(adapted), "-o", str(folder), "--without-sources"]) == 0
    (digest,) = json.loads((folder / "bundle.json").read_text())["members"][0]["sources_left_out"]
    assert f"sources/{digest}.safetensors" in capsys.readouterr().err
    assert f"sources/{digest}.safetensors" in (folder / "README.md").read_text()
    refused(folder, digest)
    (folder / "sources").mkdir()
    shutil.copy(trained / "weights.safetensors", folder / "sources" / f"{digest}.safetensors")
    np.testing.assert_array_equal(predictions(folder), predictions(adapted))
    shutil.copy(folder / "weights.safetensors", folder / "sources" / f"{digest}.safetensors")
    refused(folder, "1 file changed")


def change(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b" ")


def linked(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder.parent / "elsewhere")
    (folder / "weights.safetensors").symlink_to(folder.parent / "elsewhere")


def changed_weights(folder: Path) -> None:
    """Other weights, whose hash is right."""
    file = folder / "weights.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.startswith("final") and tensors[name].ndim > 1)
    save_file({**tensors, name: tensors[name] * 1.01}, file)
    facts(folder, rehash=True)


def facts(folder: Path, rehash: bool = False, **changes: Any) -> None:
    import hashlib

    content = json.loads((folder / "bundle.json").read_text()) | changes
    for name, about in content["files"].items() if rehash else ():
        body = (folder / name).read_bytes()
        about |= {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
    (folder / "bundle.json").write_text(json.dumps(content))


SHA = {"sha256": "0" * 64, "bytes": 1}
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "changed": (change("config.yaml"), r"1 file changed since it was made .config\.yaml"),
    "changed source": (lambda f: change(f"sources/{next((f / 'sources').iterdir()).name}")(f), "changed since"),
    "missing": (lambda f: (f / "metrics.json").unlink(), r"1 file missing .metrics\.json"),
    "unexpected": (lambda f: (f / "evil.py").write_text("x"), r"1 file not of the bundle .evil\.py"),
    "unexpected folder": (lambda f: shutil.copytree(f / "sources", f / "blocks"), "not of the bundle .blocks/"),
    "a link": (linked, "is a link"),
    "a link of a folder": (lambda f: (f / "more").symlink_to(f.parent), "is a link"),
    "a pipe": (lambda f: os.mkfifo(f / "pipe"), "is no file"),
    "other weights": (changed_weights, "predicts other values here"),
    "no JSON": (lambda f: (f / "bundle.json").write_text("{"), "damaged"),
    "empty": (lambda f: (f / "bundle.json").write_text("{}"), "damaged: it has no format"),
    "newer": (lambda f: facts(f, format=2), "install a newer one"),
    "outside": (lambda f: facts(f, files={"../config.yaml": SHA}), "damaged"),
    "absolute": (lambda f: facts(f, files={"/etc/passwd": SHA}), "damaged"),
    "no weights": (lambda f: facts(f, files={"config.yaml": SHA}), r"names no targets\.json"),
    "member outside": (lambda f: facts(f, members=[{"folder": "..", "run": "a", "views": 1}]), "damaged"),
    "member elsewhere": (
        lambda f: facts(f, members=[{"folder": "members/7", "run": "a", "views": 1}]),
        "members are in",
    ),
    "examples": (lambda f: facts(f, examples={"sequences": ["A"], "predictions": [[[1.0], [2.0]]]}), "damaged"),
    "not a number": (lambda f: facts(f, examples={"sequences": ["A"], "predictions": [[["x"]]]}), "damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_wrong_with_a_bundle_is_named(copied: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(copied)
    refused(copied, words)


def test_a_card_may_be_edited_and_a_bundle_evaluated(copied: Path, tmp_path: Path) -> None:
    wanted = predictions(copied)
    (copied / "README.md").write_text("mine")
    table = tmp_path / "test.tsv"
    table.write_text("".join(f"{string}\t{row}\n" for row, string in enumerate(random_strings(30))))
    assert main(["evaluate", str(copied), str(table), "--bootstrap", "0"]) == 0
    np.testing.assert_array_equal(predictions(copied), wanted)


def test_the_card_says_what_the_model_is(bundle: Path) -> None:
    card = ModelCard((bundle / "README.md").read_text())
    metrics = json.loads((bundle / "metrics.json").read_text())
    assert card.data.license == "mit" and card.data.library_name == "prixfixe" and "simulated" in card.data.tags
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores["pearsonr"] == metrics["pearson_r"] and scores["mse"] == metrics["mse"]
    for words in ("**SIMULATED.**", "A C G T", "110 nt", "| dataset | Simulated", "both strands", "Licence", "doi:"):
        assert words in card.text, words
    assert f"{metrics['pearson_r']:.3f} [" not in card.text  # 6 held-out rows have no interval


def test_output_is_refused_or_replaced_whole(
    adapted: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    before = sorted(tmp_path.iterdir())
    for output, words in (("mine", "no bundle"), ("received", "--force")):
        assert main(["bundle", str(adapted), "-o", str(tmp_path / output)]) == 2
        assert words in capsys.readouterr().err
    assert main(["bundle", str(adapted), "-o", str(tmp_path / "mine"), "--force"]) == 2
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "mine" / "notes").exists()
    (copied / "README.md").write_text("mine")
    assert main(["bundle", str(adapted), "-o", str(copied), "--force"]) == 0
    assert sorted(tmp_path.iterdir()) == before and (copied / "README.md").read_text() != "mine"


@pytest.mark.parametrize("what", ["a license", "unfinished"])
def test_bad_input_leaves_nothing(adapted: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(shutil.copytree(adapted, tmp_path / "run"))
    options = ["--license", "a b"] if what == "a license" else []
    if what == "unfinished":
        status = json.loads((source / "status.json").read_text())
        (source / "status.json").write_text(json.dumps({**status, "state": "failed"}))
    assert main(["bundle", str(source), "-o", str(tmp_path / "new"), *options]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and capsys.readouterr().err.count("\n") <= 2


@pytest.mark.parametrize("kind", ["two tasks", "binary", "flanks"])
def test_other_models_are_bundled_too(tmp_path: Path, kind: str) -> None:
    if kind == "binary":
        source = small_binary_run(tmp_path / "run")
    elif kind == "two tasks":
        source = small_run(tmp_path / "run", ("Dev", "Hk"))
    else:
        source = small_run(tmp_path / "run", flanks=["ACGTACGT", "TTTT"])
    assert main(["bundle", str(source), "-o", str(tmp_path / "bundle")]) == 0
    wanted, found = (prixfixe.load(path, device="cpu").predict(STRINGS[:7]) for path in (source, tmp_path / "bundle"))
    np.testing.assert_array_equal(found, wanted)


def test_a_model_that_needs_columns_has_them_in_its_examples(tmp_path: Path) -> None:
    rows = [f"{string}\t{row % 5}\t{row % 2}" for row, string in enumerate(random_strings(60, 40))]
    (tmp_path / "table.tsv").write_text("sequence\texpression\tgc\n" + "\n".join(rows) + "\n")
    settings = ("recipe.length=40", "recipe.flags=[gc]", "dataset=table", "+dataset.columns={gc: number}")
    shown = (*settings, f"dataset.path={tmp_path / 'table.tsv'}", "first.channels=8", "core.widths=[8]")
    run(demo("plain", "conv", "efficientnet", "mlp", *shown), tmp_path / "run", show_progress=False)
    assert main(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "bundle")]) == 0
    content = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert content["needs"] == ["gc"] and len(set(content["examples"]["columns"]["gc"])) == 2
    assert content["examples"]["sequences"][0] != content["examples"]["sequences"][1]
    gc = {"gc": [0, 1, 0, 1]}
    wanted, found = (
        prixfixe.load(path, device="cpu").predict([*STRINGS[:3], "ACGT"], columns=gc)
        for path in (tmp_path / "run", tmp_path / "bundle")
    )
    np.testing.assert_array_equal(found, wanted)


def test_a_language_model_is_bundled_to_start_from(tmp_path: Path) -> None:
    parts = (
        "recipe=plain",
        "recipe.length=40",
        "recipe.mask_share=0.15",
        "task=masked",
        "final=masked",
        "optim=onecycle",
    )
    sizes = ("first=conv", "core=efficientnet", "first.channels=8", "core.widths=[8]", "training.epochs=1")
    data = ("dataset=simulated_genome", "dataset.nucleotides=20000", "dataset.window=40", "training.batch_size=64")
    config = compose(*parts, *sizes, *data)
    run(config, tmp_path / "run", show_progress=False)
    assert main(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "bundle")]) == 0
    refused(tmp_path / "none", "no run folder")
    assert prixfixe.load(tmp_path / "bundle", device="cpu").simulated
    assert "nothing a sequence" in (tmp_path / "bundle" / "README.md").read_text()


OWN = """
from blocks.core.efficientnet import EfficientNet
open('canary', 'a').write('executed')
class Mine(EfficientNet): ...
"""


def test_source_of_ones_own_block_is_shown_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    (home / "conf" / "core").mkdir(parents=True)
    away.mkdir()
    (home / "my_parts.py").write_text(OWN)
    (home / "conf" / "core" / "mine.yaml").write_text("_target_: my_parts.Mine\n")
    source = small_run(home / "runs" / "one")
    config = yaml.safe_load((source / "config.yaml").read_text())
    config["core"]["_target_"] = "my_parts.Mine"
    (source / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [*sys.path, str(home)])
    assert main(["bundle", "runs/one", "-o", str(away / "bundle")]) == 0
    assert "my_parts.Mine" in capsys.readouterr().err
    shown = away / "bundle" / "source" / "my_parts.py.txt"
    assert shown.read_text() == OWN
    monkeypatch.chdir(away)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(home)])
    monkeypatch.delitem(sys.modules, "my_parts")
    refused("bundle", r"my_parts.Mine is not imported.*source/my_parts\.py\.txt.*install my_parts")
    assert not (away / "canary").exists()


# the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_nothing")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield running


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pushed_and_loaded_it_is_the_same(
    hub: FakeHub, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bundle", str(adapted), "-o", str(tmp_path / "bundle"), "--push", "hf://me/model"]
    assert main(command) == 0
    commit = hub.commit_of("me/model", "main")
    assert f"pushed: hf://me/model@{commit}" in capsys.readouterr().out
    assert sum("/commit/" in path for path in hub.asked) == 1
    pushed = hub.commits["me/model"]["main"]
    assert {name: pushed[name] for name in files_of(tmp_path / "bundle")} == files_of(tmp_path / "bundle")
    np.testing.assert_array_equal(predictions("hf://me/model"), predictions(adapted))
    assert f"commit {commit}" in capsys.readouterr().err
    model = prixfixe.load(f"hf://me/model@{commit}", device="cpu")
    assert model.name == f"hf://me/model@{commit}"
    (tmp_path / "table.tsv").write_text("".join(f"{string}\n" for string in STRINGS))
    assert main(["predict", "hf://me/model", str(tmp_path / "table.tsv"), "--device", "cpu"]) == 0


def test_a_card_on_the_hub_stays(hub: FakeHub, adapted: Path, tmp_path: Path) -> None:
    hub.add("me/other", {"README.md": b"mine", "data.csv": b"1"})
    assert main(["bundle", str(adapted), "-o", str(tmp_path / "other"), "--push", "hf://me/other"]) == 2
    hub.add("me/model", {"README.md": b"mine", "members/9/config.yaml": b"old", "bundle.json": b"{}"})
    assert main(["bundle", str(adapted), "-o", str(tmp_path / "bundle"), "--push", "hf://me/model"]) == 0
    pushed = hub.commits["me/model"]["main"]
    assert pushed["README.md"] == b"mine" and "members/9/config.yaml" not in pushed
    predictions("hf://me/model")


def test_a_branch_that_moves_is_one_commit(hub: FakeHub, bundle: Path, copied: Path) -> None:
    first = hub.add("me/model", files_of(bundle))
    predictions("hf://me/model")
    hub.asked.clear()
    hub.add("me/model", {**files_of(bundle), "config.yaml": b"other"})
    predictions(f"hf://me/model@{first}")  # from the cache, without a question
    assert not hub.asked
    refused("hf://me/model", "1 file changed")
    resolved = [path for path in hub.asked if "/resolve/" in path]
    assert resolved and not any("/resolve/main/" in path for path in resolved)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf://me/none", "there is no such repository"),
        ("hf://me/model@v9", "no such revision"),
        ("hf://me", "hf://owner/name"),
        ("hf://me/../../etc", "hf://owner/name"),
        ("hf://me/empty", "is no bundle"),
    ],
)
def test_what_is_not_on_the_hub_is_one_message(hub: FakeHub, bundle: Path, name: str, words: str) -> None:
    hub.add("me/model", files_of(bundle))
    hub.add("me/empty", {"README.md": b""})
    refused(name, words)


def test_without_a_network_there_is_one_message(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("hf://me/model", "cannot be used .*is there a network")


def test_a_loaded_model_writes_its_bundle(trained: Path, tmp_path: Path) -> None:
    model = prixfixe.load(trained, device="cpu")
    model.bundle(tmp_path / "given")
    strings = ["ACGTACGTAC" * 6]
    np.testing.assert_allclose(prixfixe.load(tmp_path / "given", device="cpu").predict(strings), model.predict(strings))


def test_evaluate_scores_each_run_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [small_run(tmp_path / str(seed), seed=seed) for seed in range(2)]
    for one in runs:
        (one / "status.json").write_text('{"state": "done"}')
    prixfixe.load(runs, device="cpu").bundle(tmp_path / "two")
    (tmp_path / "test.tsv").write_text("".join(f"{string}\t{row}\n" for row, string in enumerate(STRINGS[:6])))
    assert main(["evaluate", str(tmp_path / "two"), str(tmp_path / "test.tsv"), "--bootstrap=0", "--format=json"]) == 0
    assert [one["run"] for one in json.loads(capsys.readouterr().out)] == ["0", "1"]
    prixfixe.load(tmp_path / "two", device="cpu")  # and it still is a whole bundle
    assert main(["evaluate", "hf://nobody/nothing at all", str(tmp_path / "test.tsv")]) == 2
    assert "a bundle on the hub is hf://owner/name" in capsys.readouterr().err


def test_a_run_and_its_bundle_are_one_model(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prixfixe.load(trained, device="cpu").bundle(tmp_path / "given")
    refused([trained, tmp_path / "given"], "a run is named twice")
    command = ["design", str(trained), "--judge", str(tmp_path / "given"), "--number=1", "--calls=10"]
    assert main(command) == 2
    assert "is among the runs that choose" in capsys.readouterr().err
