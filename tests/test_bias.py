"""A bias model beside a network: frozen, brought to the depth of the data, judged before training, and left out where
the network is used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import yaml
from bias_runs import (
    LENGTH,
    MARGIN,
    MOTIF,
    POSITIONS,
    bias_config,
    config,
    main_config,
    simulated_windows,
    write_tables,
)
from conftest import compose, random_strings
from safetensors.torch import load_file, save_file
from small_runs import small_run
from test_bpnet import Fixed, targets
from torch import Tensor

import prixfixe
from blocks.final.profile_counts import ProfileCounts
from prixfixe.cli import main
from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import Batch, InputSpec
from prixfixe.inference.footprints import footprints, strongest_site
from prixfixe.networks.network import Network
from prixfixe.runs.folder import RunFolder
from prixfixe.training import experiment, keeper
from prixfixe.training.experiment import run
from prixfixe.training.gradients import backward

COUNTS = np.s_[:, MARGIN : MARGIN + POSITIONS]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIXFIXE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, a trained bias model and a trained network with it."""
    folder = tmp_path_factory.mktemp("made")
    write_tables(folder)
    run(bias_config(folder), folder / "bias", show_progress=False)
    run(main_config(folder, folder / "bias", epochs=4), folder / "main", show_progress=False)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own, in which anything may be done."""
    shutil.copytree(made / "bias", tmp_path / "bias")
    for table in made.glob("*.*"):
        shutil.copy(table, tmp_path)
    return tmp_path


def windows(part: str = "validation") -> tuple[list[str], np.ndarray, np.ndarray]:
    """Sequences, is_peak and counts of all rows, of training or of validation rows."""
    sequences, is_peak, counts = simulated_windows()
    fold = np.arange(len(sequences)) // 2 % 5
    kept = np.flatnonzero({"validation": fold == 0, "train": fold != 0, "all": fold >= 0}[part])
    return [sequences[row] for row in kept], is_peak[kept], counts[kept][COUNTS]


# the offset, and what is refused before training


def test_the_offset_is_fitted_on_rows_that_are_no_peaks_and_no_outliers(made: Path) -> None:
    sequences, is_peak, counts = windows("all")
    bias = prixfixe.load(made / "bias", device="cpu").predict(sequences)
    totals = counts.sum(axis=1)
    low, high = np.quantile(totals, [0.0001, 0.9999])
    chosen = ~is_peak & (totals > low) & (totals < high)
    assert 0 < chosen.sum() < (~is_peak).sum()  # the smallest one is out
    expected = (np.log1p(totals) - bias)[chosen].mean()
    offset = load_file(made / "main" / "weights.safetensors")["final.offset"].item()
    assert offset == pytest.approx(expected, abs=1e-4)


def batches(profile: Tensor, log_counts: Tensor, counts: Tensor, is_peak: Tensor) -> tuple[ProfileCounts, list[Batch]]:
    """A head with a bias model that gives these, and all rows as one batch."""
    head = ProfileCounts(InputSpec(4, 12), targets(counts.shape[1]), kernel_size=3, bias=Fixed(profile, log_counts))
    return head, [{"x": torch.zeros(len(counts), 4, 12), "counts": counts, "is_peak": is_peak}]


def example(peaks: int = 30, others: int = 30) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Profile, log counts, counts and is_peak, of a bias model that is of use."""
    torch.manual_seed(0)
    is_peak = torch.arange(peaks + others) < peaks
    profile = torch.randn(peaks + others, 10)
    counts = torch.poisson(30 * profile.softmax(-1) * torch.rand(peaks + others, 1) + 1)
    return profile, counts.sum(dim=1).log1p() - 0.4, counts, is_peak


def test_a_bias_model_of_use_is_taken_and_its_offset_found() -> None:
    head, rows = batches(*example())
    head.prepare(rows)
    assert head.offset.item() == pytest.approx(0.4, abs=1e-6)


def test_a_bias_model_that_falls_where_peaks_rise_is_refused_with_its_r() -> None:
    profile, log_counts, counts, is_peak = example()
    noise = torch.randn(len(counts)) * log_counts[is_peak].std()
    against = torch.where(is_peak, -log_counts + 0.5 * noise, log_counts)
    r = np.corrcoef(against[is_peak], counts.sum(dim=1).log1p()[is_peak])[0, 1]
    assert r < -0.5
    head, rows = batches(profile, against, counts, is_peak)
    with pytest.raises(
        InputError, match=rf"peaks have fewer \(Pearson r {r:.2f} in 30 peaks.* on non-peaks with fewer"
    ):
        head.prepare(rows)
    weaker = torch.where(is_peak, -log_counts + 6 * noise, log_counts)
    head, rows = batches(profile, weaker, counts, is_peak)
    head.prepare(rows)  # a weak one may be chance
    few = torch.cat([torch.arange(19), torch.arange(30, 60)])
    head, rows = batches(profile[few], against[few], counts[few], is_peak[few])
    head.prepare(rows)  # and so may one of few peaks


def test_a_bias_model_whose_profile_tells_nothing_is_refused() -> None:
    profile, log_counts, counts, is_peak = example()
    for useless in (torch.zeros_like(profile), -profile):
        head, rows = batches(useless, log_counts, counts, is_peak)
        with pytest.raises(InputError, match=r"its profile tells of a cut in non-peaks .* nats more than a flat one"):
            head.prepare(rows)


def test_without_non_peaks_there_is_no_offset(made: Path, tmp_path: Path) -> None:
    profile, log_counts, counts, is_peak = example()
    head, rows = batches(profile, log_counts, counts, torch.ones_like(is_peak))
    with pytest.raises(InputError, match=r"of the 60 training and validation rows 0 are no peaks \(column is_peak\)"):
        head.prepare(rows)
    settings = main_config(made, made / "bias")
    settings["dataset"]["columns"].pop("is_peak")
    with pytest.raises(ContractError, match=r"ProfileCounts needs is_peak .* the dataset has the columns profile"):
        run(settings, tmp_path / "run", show_progress=False)
    settings["final"]["bias"]["train"]["weights"] = None
    run(settings, tmp_path / "run", show_progress=False)  # without a bias model nobody asks
    settings["final"]["bias"] = None
    run(settings, tmp_path / "other", show_progress=False)


def test_a_refused_bias_model_ends_a_run_before_it_is_trained(copied: Path) -> None:
    weights = load_file(copied / "bias" / "weights.safetensors")
    weights["final.profile.weight"] *= -1
    save_file(weights, copied / "bias" / "weights.safetensors")
    with pytest.raises(InputError, match=r"nats more than a flat one"):
        run(main_config(copied, copied / "bias"), copied / "main", show_progress=False)
    folder = RunFolder(copied / "main")
    assert folder.state() == "failed" and "nats more" in folder.status()["reason"]
    assert not folder.weights_file.exists() and not folder.history_file.exists()


# frozen


def test_a_bias_model_is_bit_equal_after_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one with batch norm and dropout; it is not among what is trained, and stays in eval mode."""
    write_tables(tmp_path)
    settings = config(tmp_path / "non_peaks.tsv", epochs=8)
    other = compose("first=conv", "first.channels=4", "core=bilstm", "core.hidden=4", "core.channels=4")
    settings |= {"first": other["first"], "core": other["core"]}
    run(settings, tmp_path / "bias", show_progress=False)
    networks: list[Network] = []
    original = experiment.fit

    def watched(job: Any) -> Any:
        networks.append(job.network)
        trained = {id(p) for group in job.optimizer.param_groups for p in group["params"]}
        assert not trained & {id(p) for p in job.network.final.bias.parameters()}
        return original(job)

    monkeypatch.setattr(experiment, "fit", watched)
    metrics = run(main_config(tmp_path, tmp_path / "bias", epochs=2), tmp_path / "main", show_progress=False)
    (network,) = networks
    before = load_file(tmp_path / "bias" / "weights.safetensors")
    assert any("running_mean" in name for name in before)
    after = network.final.bias.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    network.train()
    assert network.core.training and not any(module.training for module in network.final.bias.modules())
    assert metrics["parameters"] == sum(p.numel() for n, p in network.named_parameters() if ".bias." not in n)
    written = load_file(tmp_path / "main" / "weights.safetensors")
    assert all(torch.equal(before[name], written[f"final.bias.{name}"]) for name in before)


def test_any_number_of_parts_gives_the_gradient_of_one_step(made: Path) -> None:
    (model,) = prixfixe.load(made / "main", device="cpu").members
    network = model.network.double().train()
    torch.manual_seed(0)
    x = F.one_hot(torch.randint(4, (24, LENGTH)), 4).mT.double()
    batch = {"x": x, "counts": torch.poisson(torch.full((24, POSITIONS), 2.0)), "is_peak": torch.arange(24) % 2}
    found = []
    for micro_batch in (None, 5, 8, 23):
        network.zero_grad()
        backward(network, model.recipe, batch, micro_batch, torch.float32, 0)
        found.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert not any(name.startswith("final.bias") for name in found[0]) and len(found[0]) == 10
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-11)


def test_a_network_is_trained_to_explain_what_the_bias_does_not(made: Path) -> None:
    """The bias alone puts cuts before GC; what is left of them without it is less."""
    model = prixfixe.load(made / "main", device="cpu")
    sequences, *_ = windows()
    rows = model.rows_of(sequences)
    outputs = model.combined(next(iter(model.output_chunks([rows]))))
    assert set(outputs) == {"profile", "log_counts", "profile_without_bias", "log_counts_without_bias"}
    first = (LENGTH - POSITIONS) // 2
    liked = np.array([[s[at : at + 2] == "GC" for at in range(first, first + POSITIONS)] for s in sequences])
    share = {
        name: np.exp(outputs[name])[liked].mean() / np.exp(outputs[name])[~liked].mean()
        for name in outputs
        if "profile" in name
    }
    assert share["profile"] > 3 and share["profile_without_bias"] < 0.7 * share["profile"]


# use


def test_predictions_are_without_the_bias_and_say_so(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequences, *_ = windows()
    model = prixfixe.load(made / "main", device="cpu")
    assert model.predicted == "log_counts_without_bias"
    outputs = model.combined(next(iter(model.output_chunks([model.rows_of(sequences)]))))
    predicted = model.predict(sequences)
    np.testing.assert_allclose(predicted, outputs["log_counts_without_bias"], rtol=1e-6)
    fasta = tmp_path / "windows.fa"
    named = [f">chr1:{1000 + 200 * row}-{1000 + 200 * row + LENGTH}\n{s}\n" for row, s in enumerate(sequences)]
    fasta.write_text("".join(named))
    command = ["predict", str(made / "main"), str(fasta), "--device=cpu"]
    assert main([*command, "-o", str(tmp_path / "p.npz")]) == 0
    assert "predicts without the bias model" in capsys.readouterr().err
    arrays = np.load(tmp_path / "p.npz")
    np.testing.assert_allclose(arrays["predictions"], predicted, rtol=1e-5)
    np.testing.assert_allclose(arrays["predictions_with_bias"], outputs["log_counts"], rtol=1e-5)
    for track, end in (("track", "_without_bias"), ("track_with_bias", "")):
        expected = np.exp(outputs[f"profile{end}"]) * np.expm1(outputs[f"log_counts{end}"])[:, None]
        np.testing.assert_allclose(arrays[track], expected.clip(min=0), rtol=1e-4, atol=1e-6)
    assert main([*command, "-o", str(tmp_path / "p.bw")]) == 0
    import pybigtools

    bigwig = pybigtools.open(str(tmp_path / "p.bw"))
    place = 1000 + (LENGTH - POSITIONS) // 2
    found = bigwig.values("chr1", place, place + POSITIONS, fillna=0)
    np.testing.assert_allclose(found, arrays["track"][0], rtol=1e-4, atol=1e-6)
    assert main([*command, "-o", str(tmp_path / "p.tsv")]) == 0
    for use in (["mutate"], ["attribute"], ["attribute", "--method", "deeplift"]):
        capsys.readouterr()
        short = tmp_path / "short.fa"
        short.write_text("".join(named[:2]))
        assert (
            main([use[0], str(made / "main"), str(short), "--device=cpu", *use[1:], "-o", str(tmp_path / "m.npz")]) == 0
        )
        assert "predicts without the bias model" in capsys.readouterr().err
        kept = np.load(tmp_path / "m.npz")["prediction_0"]
        assert float(kept) == pytest.approx(predicted[0], rel=1e-4)
    capsys.readouterr()
    assert main(["predict", str(made / "bias"), str(fasta), "--device=cpu"]) == 0
    assert "bias model" not in capsys.readouterr().err


def test_a_track_of_totals_below_0_is_said_to_be_empty(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "main", tmp_path / "main")
    weights = load_file(tmp_path / "main" / "weights.safetensors")
    sequences, *_ = windows()
    predicted = prixfixe.load(made / "main", device="cpu").predict(sequences)
    weights["final.counts.bias"] -= float(np.median(predicted))
    save_file(weights, tmp_path / "main" / "weights.safetensors")
    named = [f">chr1:{1000 + 200 * row}-{1000 + 200 * row + LENGTH}\n{s}\n" for row, s in enumerate(sequences)]
    (tmp_path / "windows.fa").write_text("".join(named))
    for name in ("p.npz", "p.bw"):
        command = ["predict", str(tmp_path / "main"), str(tmp_path / "windows.fa"), "--device=cpu"]
        assert main([*command, "-o", str(tmp_path / name)]) == 0
        arrays = np.load(tmp_path / "p.npz")
        empty = int((arrays["predictions"] <= 0).sum())
        assert 0 < empty < len(sequences) and empty == int((arrays["track"].sum(axis=1) == 0).sum())
        said = f"warning: {empty} of {len(sequences)} rows have a predicted total of 0 or less: their track is 0"
        assert said in capsys.readouterr().err


def test_variants_are_without_the_bias_and_their_header_says_so(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sequence,) = random_strings(1, 300, seed=5)
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    ref = sequence[149]
    alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
    head = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=300>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(f"{head}chr1\t150\t.\t{ref}\t{alt}\t.\t.\t.\n")
    options = ["--genome", str(tmp_path / "genome.fa"), "--device=cpu", "-o", str(tmp_path / "o.vcf")]
    assert main(["variants", str(made / "main"), str(tmp_path / "v.vcf"), *options]) == 0
    assert "predicts without the bias model" in capsys.readouterr().err
    text = (tmp_path / "o.vcf").read_text()
    assert "without the bias model" in text.partition("#CHROM")[0]
    model = prixfixe.load(made / "main", device="cpu")
    start = 149 - LENGTH // 2
    windows_ = [sequence[start : start + LENGTH], sequence[start:149] + alt + sequence[150 : start + LENGTH]]
    reference, alternative = model.predict(windows_)
    found = model.variants(tmp_path / "v.vcf", genome=tmp_path / "genome.fa")
    assert found["effect"][0] == pytest.approx(alternative - reference, abs=1e-5)


def test_scores_are_of_what_was_measured(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the bias: those of training, of evaluate, and of validation.npz."""
    sequences, _, counts = windows()
    model = prixfixe.load(made / "main", device="cpu")
    outputs = model.combined(next(iter(model.output_chunks([model.rows_of(sequences)]))))
    measured = np.log1p(counts.sum(axis=1))
    r = np.corrcoef(measured, outputs["log_counts"])[0, 1]
    assert RunFolder(made / "main").metrics()["count_pearson_r"] == pytest.approx(r, abs=1e-4)
    kept = np.load(made / "main" / "validation.npz")
    np.testing.assert_allclose(kept["measured"], measured)
    np.testing.assert_allclose(kept["predicted"], outputs["log_counts"], rtol=1e-4)
    shutil.copytree(made / "main", tmp_path / "main")
    table = [
        line
        for row, line in enumerate((made / "all.tsv").read_text().splitlines())
        if row == 0 or (row - 1) // 2 % 5 == 0
    ]
    (tmp_path / "some.tsv").write_text("\n".join(table) + "\n")
    settings = yaml.safe_load((tmp_path / "main" / "config.yaml").read_text())
    settings["dataset"]["columns"]["profile"] = str(tmp_path / "some.npy")
    (tmp_path / "main" / "config.yaml").write_text(yaml.safe_dump(settings))
    refused = ["evaluate", str(tmp_path / "main"), str(tmp_path / "some.tsv"), "--bootstrap", "0"]
    assert main(refused) == 2  # there is no some.npy yet
    assert "scored by" not in capsys.readouterr().err
    np.save(tmp_path / "some.npy", simulated_windows()[2][np.arange(160) // 2 % 5 == 0])
    command = ["evaluate", str(tmp_path / "main"), str(tmp_path / "some.tsv"), "--bootstrap", "0", "--format", "json"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "scored by log_counts, what was measured" in said.err
    (scores,) = json.loads(said.out)["tasks"]
    for name in ("count_pearson_r", "profile_jsd", "loss"):
        assert scores[name]["value"] == pytest.approx(RunFolder(made / "main").metrics()[name], rel=1e-3)


def test_an_ensemble_is_without_the_bias_as_its_members_are(made: Path, tmp_path: Path) -> None:
    run(main_config(made, made / "bias", "seed=1", epochs=1), tmp_path / "second", show_progress=False)
    run(main_config(made, None, epochs=1), tmp_path / "none", show_progress=False)
    sequences, *_ = windows()
    each = {
        name: prixfixe.load(folder, device="cpu")
        for name, folder in (("main", made / "main"), ("second", tmp_path / "second"), ("none", tmp_path / "none"))
    }
    both = prixfixe.load([made / "main", tmp_path / "second"], device="cpu")
    np.testing.assert_allclose(
        both.predict(sequences), (each["main"].predict(sequences) + each["second"].predict(sequences)) / 2
    )
    mixed = prixfixe.load([tmp_path / "none", made / "main"], device="cpu")
    outputs = mixed.combined(next(iter(mixed.output_chunks([mixed.rows_of(sequences)]))))
    np.testing.assert_allclose(
        outputs["log_counts_without_bias"], (each["none"].predict(sequences) + each["main"].predict(sequences)) / 2
    )
    np.testing.assert_allclose(np.exp(outputs["profile"]).sum(axis=1), 1, rtol=1e-6)
    assert not each["none"].remark and "1 of the 2 runs have none" in mixed.remark


def test_the_footprint_of_the_bias_is_in_what_was_measured_alone(made: Path, tmp_path: Path) -> None:
    model = prixfixe.load(made / "main", device="cpu")
    site = strongest_site(model, width=5)
    assert "GC" in site
    found = footprints(model, {"bias": site, "motif": MOTIF}).set_index(["site", "output"])
    measured, own = (found.loc[("bias", output)] for output in ("profile", "profile_without_bias"))
    assert measured["low"] < measured["footprint"] < measured["high"]
    assert measured["low"] > 2 * own["footprint"]
    pd.testing.assert_frame_equal(
        found, footprints(model, {"bias": site, "motif": MOTIF}).set_index(["site", "output"])
    )
    with pytest.raises(InputError, match="has no bias model: name the sites"):
        strongest_site(prixfixe.load(made / "bias", device="cpu"))
    other = prixfixe.load(small_run(tmp_path / "run"), device="cpu")
    with pytest.raises(InputError, match="predicts no profile"):
        footprints(other, {"bias": site})


def test_it_is_exported(made: Path, tmp_path: Path) -> None:
    from prixfixe.inference.export import export

    model = prixfixe.load(made / "main", device="cpu")
    sequences, *_ = windows()
    for kind in ("onnx", "torch_export"):
        done = export(model, model.rows_of(sequences[:4]), kind, tmp_path)
        assert done.output == "log_counts_without_bias" and done.largest_difference < 1e-4


# on its own


def test_a_run_is_whole_without_the_bias_run(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = main_config(copied, copied / "bias", epochs=1)
    metrics = run(settings, copied / "main", show_progress=False)
    sequences, *_ = windows()
    before = prixfixe.load(copied / "main", device="cpu").predict(sequences)
    assert main(["bundle", str(copied / "main"), "-o", str(copied / "giveaway")]) == 0
    shutil.rmtree(copied / "bias")
    for folder in ("main", "giveaway"):
        np.testing.assert_array_equal(prixfixe.load(copied / folder, device="cpu").predict(sequences), before)
    assert run(settings, copied / "main", show_progress=False) == metrics  # it is done already
    assert main(["train", "--resume", str(copied / "main")]) == 0
    elsewhere = copied / "elsewhere"
    shutil.move(copied / "giveaway", elsewhere)
    shutil.rmtree(copied / "main")
    np.testing.assert_array_equal(prixfixe.load(elsewhere, device="cpu").predict(sequences), before)
    for file in elsewhere.rglob("*"):
        assert not file.is_file() or str(copied).encode() not in file.read_bytes(), file
    facts = json.loads((elsewhere / "bundle.json").read_text())
    assert facts["predicts"] == "log_counts_without_bias" and not (elsewhere / "sources").exists()
    assert "without the bias model" in (elsewhere / "README.md").read_text()


def test_a_bundle_or_a_file_of_the_bias_run_is_the_same_bias(copied: Path) -> None:
    first = run(main_config(copied, copied / "bias", epochs=1), copied / "main", show_progress=False)
    assert main(["bundle", str(copied / "bias"), "-o", str(copied / "given")]) == 0
    for weights in (copied / "given", copied / "bias" / "weights.safetensors"):
        again = run(main_config(copied, weights, epochs=1), copied / "main", show_progress=False)
        assert again == first  # the run of this identity is done


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    after_step = keeper.Keeper.after_step

    def stopped(self: Any, *arguments: Any) -> None:
        after_step(self, *arguments)
        if self.account.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(keeper.Keeper, "after_step", stopped)


def test_a_run_that_is_stopped_goes_on_with_the_same_weights(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = main_config(copied, copied / "bias", epochs=2, checkpoint_minutes=0)
    run(settings, copied / "whole", show_progress=False)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            run(settings, copied / "stopped", show_progress=False)
    shutil.copytree(copied / "stopped", copied / "resumed")
    run(settings, copied / "stopped", show_progress=False)
    assert main(["train", "--resume", str(copied / "resumed")]) == 0
    whole = (copied / "whole" / "weights.safetensors").read_bytes()
    assert all((copied / name / "weights.safetensors").read_bytes() == whole for name in ("stopped", "resumed"))


def test_a_bias_run_that_has_changed_or_is_gone_stops_a_resume(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = main_config(copied, copied / "bias", epochs=2, checkpoint_minutes=0)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            run(settings, copied / "main", show_progress=False)
    weights = load_file(copied / "bias" / "weights.safetensors")
    shutil.copytree(copied / "bias", copied / "kept")
    weights["final.counts.bias"] += 1
    save_file(weights, copied / "bias" / "weights.safetensors")
    assert main(["train", "--resume", str(copied / "main")]) == 2
    assert "final.bias of" in (said := capsys.readouterr().err) and "is another file now" in said
    with pytest.raises(InputError, match=r"another configuration \(final\.bias\.train\.sha256"):
        run(settings, copied / "main", show_progress=False)
    shutil.rmtree(copied / "bias")
    assert main(["train", "--resume", str(copied / "main")]) == 2
    assert "which is gone" in capsys.readouterr().err
    shutil.move(copied / "kept", copied / "bias")
    assert main(["train", "--resume", str(copied / "main")]) == 0


def test_a_bias_model_is_no_leak_on_its_own_fold_and_one_on_another(copied: Path) -> None:
    other = bias_config(copied, epochs=8)
    other["dataset"]["fold"] = 1
    run(other, copied / "other", show_progress=False)
    with pytest.raises(InputError, match=r"16 of the 32 validation sequences were trained on by .*other"):
        run(main_config(copied, copied / "other"), copied / "main", show_progress=False)
    run(main_config(copied, copied / "bias", epochs=1), copied / "main", show_progress=False)


@pytest.mark.parametrize("slot", ["first", "core", "final"])
def test_a_bias_run_of_a_stranger_executes_nothing(slot: str, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "bias" / "evil.py").write_text(f"open({str(copied / 'canary')!r}, 'w')\nclass X: pass\n")
    (copied / "evil.py").write_text((copied / "bias" / "evil.py").read_text())
    monkeypatch.chdir(copied)
    monkeypatch.setattr(sys, "path", [str(copied), str(copied / "bias"), *sys.path])
    settings = yaml.safe_load((copied / "bias" / "config.yaml").read_text())
    for target in ("evil.X", "bias.evil.X", "os.system", "torch.hub.load"):
        settings[slot]["_target_"] = target
        (copied / "bias" / "config.yaml").write_text(yaml.safe_dump(settings))
        says = rf"^final\.bias, of which .*bias/config\.yaml says: {slot}\._target_: .* is (not imported|of Python's)"
        with pytest.raises(InputError, match=says):
            run(main_config(copied, copied / "bias"), copied / "main", show_progress=False)
    settings[slot]["_target_"] = (
        "blocks.first.identity.Identity" if slot == "final" else "prixfixe.tasks.profile.Profile"
    )
    (copied / "bias" / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises((InputError, ContractError)):
        run(main_config(copied, copied / "bias"), copied / "main", show_progress=False)
    assert not (copied / "canary").exists() and "evil" not in sys.modules


def test_a_run_whose_bias_names_a_strange_class_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "main", tmp_path / "run")
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    settings["final"]["bias"]["core"]["_target_"] = "evil.X"
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(InputError, match=r"final\.bias\.core\._target_: evil\.X is not imported"):
        prixfixe.load(tmp_path / "run")


def damaged_bias(folder: Path, how: str) -> Path | str:
    bias = folder / "bias"
    weights = load_file(bias / "weights.safetensors")
    if how == "nan":
        weights["core.first.bias"][0] = torch.nan
    elif how == "missing":
        weights.pop("final.profile.bias")
    elif how == "shape":
        weights["final.profile.bias"] = torch.zeros(3)
    if how == "no folder":
        return folder / "nothing"
    if how == "no run":
        shutil.copy(bias / "weights.safetensors", folder / "alone.safetensors")
        return folder / "alone.safetensors"
    if how == "no weights":
        (bias / "weights.safetensors").unlink()
    else:
        save_file(weights, bias / "weights.safetensors")
    return bias


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("nan", "1 tensor with values that are not finite: core.first.bias"),
        ("missing", "1 tensor missing: final.profile.bias"),
        ("shape", "1 tensor of another shape: final.profile.bias"),
        ("no folder", "there is no such file or folder"),
        ("no run", "no run folder whose config.yaml has a first"),
        ("no weights", "it holds no weights.safetensors"),
    ],
)
def test_a_bias_that_cannot_be_used_is_one_message(how: str, says: str, copied: Path) -> None:
    bias = damaged_bias(copied, how)
    with pytest.raises(InputError, match=says):
        run(main_config(copied, bias), copied / "main", show_progress=False)
    assert not (copied / "main").exists()


def test_settings_of_a_bias_that_nobody_reads_are_refused(made: Path, tmp_path: Path) -> None:
    settings = main_config(made, made / "bias")
    settings["final"]["bias"]["weights"] = "x"
    with pytest.raises(
        InputError, match=r"no such setting: final\.bias\.weights; it takes final\.bias\.train\.weights"
    ):
        run(settings, tmp_path / "run", show_progress=False)
    settings["final"]["bias"] = str(made / "bias")
    with pytest.raises(InputError, match=r"final\.bias=.*: the run of a bias model is final\.bias\.train\.weights=RUN"):
        run(settings, tmp_path / "run", show_progress=False)


def test_a_run_of_another_task_is_no_bias_model(made: Path, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other")
    with pytest.raises(
        ContractError, match=r"final\.bias: task profile scores profile, .* final block MLP does not give"
    ):
        run(main_config(made, other), tmp_path / "run", show_progress=False)


def test_a_frozen_final_block_keeps_the_bias_it_came_with_beside_another_core(made: Path, tmp_path: Path) -> None:
    """Its offset, too: nothing of it is fitted again."""
    settings = main_config(made, made / "bias", "core.layers=2", epochs=1)
    settings["final"]["train"] |= {"weights": str(made / "main"), "frozen": True}
    run(settings, tmp_path / "run", show_progress=False)
    there = load_file(made / "main" / "weights.safetensors")
    model = prixfixe.load(tmp_path / "run", device="cpu")
    here = model.members[0].network.state_dict()
    assert all(torch.equal(there[name], here[name]) for name in there if name.startswith("final."))
    assert any(not torch.equal(there[name], here[name]) for name in there if name.startswith("core."))


def test_a_sweep_shares_one_bias_model(copied: Path) -> None:
    """And says why, where it cannot be had."""
    command = [sys.executable, "-m", "prixfixe", "train", "-m", "task=profile", f"task.positions={POSITIONS}"]
    command += ["recipe=plain", f"recipe.length={LENGTH}", "first=conv", "first.channels=4", "final=profile_counts"]
    command += ["core=bpnet", "core.channels=4", "core.layers=1,2", "core.first_kernel_size=5", "final.kernel_size=5"]
    command += [f"final.bias.train.weights={copied / 'bias'}", "sweep=s", "variant='l${core.layers}'"]
    command += ["dataset=table", f"dataset.path={copied / 'all.tsv'}", "dataset.expression=[]", "dataset.fold=0"]
    command += [f"+dataset.columns.profile={copied / 'all.npy'}", "+dataset.columns.is_peak=number"]
    command += ["training.epochs=1", "training.batch_size=32", "training.device=cpu", "hydra.launcher.jobs=1"]
    done = subprocess.run(
        command, cwd=copied, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((copied / "runs" / "s").glob("plain*"))
    assert len(runs) == 2
    bias = load_file(copied / "bias" / "weights.safetensors")
    for folder in runs:
        weights = load_file(folder / "weights.safetensors")
        assert all(torch.equal(weights[f"final.bias.{name}"], bias[name]) for name in bias)
        assert json.loads((folder / "status.json").read_text())["state"] == "done"
