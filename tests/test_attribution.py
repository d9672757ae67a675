"""Attributions, and the adapter through which tangermeme takes a run."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ONE_OF_EACH, demo, random_strings
from tangermeme.saturation_mutagenesis import saturation_mutagenesis

import prixfixe
import prixfixe.commands.attribute as command
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.contract import InputSpec, TargetSpec
from prixfixe.inference import attribution, deeplift
from prixfixe.inference.attribution import TOLERANCE, _integrated, _slope
from prixfixe.inference.deeplift import operations_without_rule, references
from prixfixe.inference.model import Model
from prixfixe.inference.tangermeme_model import TangermemeModel, one_hot_letters
from prixfixe.networks.network import build
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe, build_task

CPU = torch.device("cpu")
RULED = ("bhi", "conv", "efficientnet", "mlp", "core.squeeze_excitation=false")
PLAIN = ("plain", "conv", "efficientnet", "mlp", "recipe.length=60", "core.squeeze_excitation=false")
MEANINGFUL = 3.0  # what random weights' outputs are multiplied with


def random_model(recipe: str, first: str, core: str, final: str, *overrides: str, seed: int = 0, **spec: Any) -> Model:
    """A run's model at demo size with random weights, moved away from where they begin, and the statistics of its
    batch norms."""
    config = demo(recipe, first, core, final, *overrides)
    several = tuple(spec.pop("tasks", ("expression",)))
    values = (0.0,) * len(several), (MEANINGFUL,) * len(several)
    task = build_task(config).with_spec(TargetSpec(several, *values, Bins(), **spec))
    torch.manual_seed(seed)
    built = build_recipe(config)
    network = build(built, config, task)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif tensor.is_floating_point() and tensor.ndim > 1:
                tensor.mul_(1.5)
    return Model(network, built, task, CPU)


def letters(model: Model, sequence: str) -> torch.Tensor:
    return one_hot_letters(model.rows_of([sequence]).sequences, [0], CPU)


ALL_RECIPES = [*ONE_OF_EACH, PLAIN]


@pytest.mark.parametrize("parts", ALL_RECIPES, ids=lambda parts: parts[0])
@pytest.mark.parametrize("length", [1, 40, 110, 160])
def test_adapter_predicts_what_the_model_predicts(parts: tuple[str, ...], length: int) -> None:
    model = random_model(*parts)
    sequence = "N" * (length // 20) + random_strings(1, length - length // 20, seed=length)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some recipes cut 160 nt
        expected = model.predict([sequence])
    found = TangermemeModel(model, length)(letters(model, sequence))[:, 0]
    assert found.detach().numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("parts", ALL_RECIPES, ids=lambda parts: parts[0])
def test_gradient_is_that_of_finite_differences(parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, with respect to the sequence as given: through windows, padding, flanks and both strands."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # tasks and recipes give out float32
    model = random_model(*parts)
    model.flanks = ("ACG", "TT")
    adapter = TangermemeModel(model, 52).double().eval()
    x = letters(model, random_strings(1, 52)[0])
    x = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(adapter(x).sum(), x)
    step = 1e-5
    with torch.no_grad():
        for base, position in [(0, 0), (1, 51), (2, 17), (3, 18), (0, 30), (1, 37), (2, 45), (3, 5)]:
            move = torch.zeros_like(x)
            move[0, base, position] = step
            numeric = float((adapter(x + move) - adapter(x - move)).sum() / (2 * step))
            assert float(gradient[0, base, position]) == pytest.approx(numeric, rel=1e-4, abs=1e-7)
    assert gradient.abs().amax(dim=1).count_nonzero() >= 52 - 30  # unlockdna cuts the construct's 30 nt off


def test_saturation_mutagenesis_of_tangermeme_agrees() -> None:
    model = random_model("autosome", "parallel_conv", "efficientnet", "soft_bins")
    sequences = random_strings(2, 70)
    x = torch.cat([letters(model, sequence) for sequence in sequences])
    before, after = saturation_mutagenesis(TangermemeModel(model, 70), x, raw_outputs=True, device="cpu")
    ours = list(model.mutagenesis(sequences))
    for row, one in enumerate(ours):
        assert before[row].numpy() == pytest.approx(one.reference, abs=1e-5)
        theirs = (after[row] - before[row]).numpy().squeeze(-1).T  # (4, L) -> (L, 4)
        assert theirs == pytest.approx(one.effects[:, :, 0], abs=1e-5)


@pytest.mark.parametrize("parts", ONE_OF_EACH, ids=lambda parts: parts[0])
def test_integrated_gradients_add_up_row_by_row(parts: tuple[str, ...]) -> None:
    model = random_model(*parts)
    sequences = [*random_strings(2, 60), "AC" * 10 + "N" * 5 + "GGT" * 8]
    for sequence, one in zip(sequences, model.attributions(sequences, method="integrated"), strict=True):
        x = letters(model, sequence)
        adapter = TangermemeModel(model, len(sequence)).eval()
        with torch.no_grad():
            difference = (adapter(x) - adapter(x.sum(dim=1, keepdim=True).expand_as(x) / 4)).numpy()[0]
        found = one.attribution()
        assert abs(found.sum(axis=0) - difference) <= TOLERANCE * np.abs(found).sum() + 1e-5
        assert one.error == pytest.approx(abs(found.sum(axis=0) - difference), abs=1e-5)
        assert np.isnan(one.values[one.letters == 4]).all()
        assert not np.isnan(one.values[one.letters < 4]).any()


def test_deeplift_adds_up_row_by_row_and_does_not_depend_on_batch_mates() -> None:
    model = random_model("autosome", "parallel_conv", *RULED[2:])
    sequences = random_strings(2, 60, seed=2)
    together = list(model.attributions(sequences, method="deeplift", seed=5))
    adapter = TangermemeModel(model, 60).eval()
    for sequence, one in zip(sequences, together, strict=True):
        x = letters(model, sequence)
        with torch.no_grad():
            mean = adapter(references(x, 5)[0]).mean(dim=0)
            difference = (adapter(x)[0] - mean).numpy()
        assert one.attribution().sum(axis=0) == pytest.approx(difference, abs=1e-4)
        assert one.error is not None and one.error[0] < 1e-4
    (alone,) = model.attributions(sequences[1:], method="deeplift", seed=5)
    assert alone.values == pytest.approx(together[1].values, abs=1e-6)


@pytest.mark.parametrize("recipe", ["autosome", "bhi", "unlockdna"])
@pytest.mark.parametrize("first", ["conv", "parallel_conv", "kmer"])
@pytest.mark.parametrize("core", ["efficientnet", "bilstm", "proformer"])
def test_which_combinations_deeplift_has_rules_for(recipe: str, first: str, core: str) -> None:
    """None of the 81 as published: each core has an operation without a rule, and so has soft classification."""
    reasons = {"efficientnet": "Mul in core.", "bilstm": "RnnLayer in core.lstm", "proformer": "Attention"}
    for final in ("soft_bins", "mlp", "expression_heads"):
        model = random_model(recipe, first, core, final)
        found = operations_without_rule(TangermemeModel(model, 50))
        assert any(reasons[core] in one for one in found), found
        assert any("Softmax in final" in one for one in found) == (final == "soft_bins")
    if core != "efficientnet":
        return
    for final in ("soft_bins", "mlp", "expression_heads"):
        model = random_model(recipe, first, core, final, "core.squeeze_excitation=false")
        found = operations_without_rule(TangermemeModel(model, 50))
        assert bool(found) == (final == "soft_bins"), found


def test_deeplift_without_a_rule_is_refused_and_would_have_been_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("bhi", "conv", "bilstm", "soft_bins")
    with pytest.raises(InputError, match=r"no rule for .*core.lstm.*--method integrated"):
        list(model.attributions(random_strings(1), method="deeplift"))
    monkeypatch.setattr(deeplift, "check_rules", lambda *_: None)
    with pytest.raises(InputError, match="add up to something else"):
        list(model.attributions(random_strings(2), method="deeplift"))


def test_a_sum_that_is_wrong_in_one_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_wrong(adapter: Any, x: torch.Tensor, columns: Any, task: int, seed: int) -> Any:
        values, errors = _integrated(adapter, x, columns, task, seed)
        errors[7] = 1.0
        return values, errors

    monkeypatch.setitem(attribution._METHODS, "integrated", one_wrong)
    sequences = random_strings(20, 40)
    with pytest.raises(InputError, match=sequences[7]):
        list(random_model(*RULED).attributions(sequences, method="integrated"))


def test_periodic_sequence_warns_that_its_shuffles_are_itself() -> None:
    model = random_model(*RULED)
    with pytest.warns(UserWarning, match="1 sequence equal 20 of their shuffle"):
        references(letters(model, "AC" * 30), 0)


def test_command_names_the_methods_that_there_are() -> None:
    assert command.METHODS == attribution.METHODS


def test_tokens_have_no_gradient() -> None:
    model = random_model(*RULED)
    model.recipe.inputs = InputSpec(0, 100)
    with pytest.raises(InputError, match="use mutagenesis"):
        list(model.attributions(random_strings(1), method="gradient"))


def test_deeplift_of_n_is_refused() -> None:
    with pytest.raises(InputError, match="holds N"):
        list(random_model(*RULED).attributions(["ACGTN" * 10], method="deeplift"))


def test_gradient_is_corrected_for_the_simplex() -> None:
    model = random_model(*RULED)
    sequence = random_strings(1, 50)[0]
    (one,) = model.attributions([sequence], method="gradient")
    assert one.values.sum(axis=1) == pytest.approx(0, abs=1e-5)
    slope = _slope(TangermemeModel(model, 50).eval(), letters(model, sequence), (), 0)
    assert one.attribution()[:, 0] == pytest.approx((slope * letters(model, sequence)).sum(dim=1)[0].numpy(), abs=1e-6)


def test_unlike_lengths_and_batches_equal_single_runs() -> None:
    model = random_model("unlockdna", "conv", "efficientnet", "mlp")
    sequences = [*random_strings(3, 70), random_strings(1, 41)[0], *random_strings(2, 70, seed=9)]
    for method in ("gradient", "integrated"):
        together = list(model.attributions(sequences, method=method, batch_size=2))
        for sequence, one in zip(sequences, together, strict=True):
            (alone,) = model.attributions([sequence], method=method)
            assert one.values == pytest.approx(alone.values, abs=1e-5)


def test_mutagenesis_is_the_base_less_the_mean_of_four() -> None:
    model = random_model(*RULED)
    (one,) = model.attributions(["ACGTTN"], method="mutagenesis")
    predictions = model.predict([f"ACGT{base}N" for base in "ACGT"])
    assert one.attribution()[4, 0] == pytest.approx(predictions[3] - predictions.mean(), abs=1e-5)
    assert one.attribution()[5, 0] == 0


def test_several_tasks_flags_and_binary() -> None:
    parts = ("plain", "conv", "efficientnet", "task_heads", "recipe.length=40", "core.squeeze_excitation=false")
    model = random_model(*parts, tasks=("dev", "hk"))
    for method in ("mutagenesis", "gradient", "integrated", "deeplift"):
        table = model.attribute(random_strings(1, 40), method=method)
        assert list(table)[:5] == ["name", "position", "base", "task", "attribution"]
        assert len(table) == 80 and list(table["task"][:2]) == ["dev", "hk"]
    binary = random_model("plain", "conv", "efficientnet", "binary", "recipe.length=40", "task=binary")
    (one,) = binary.attributions(random_strings(1, 40), method="integrated")
    assert 0 <= one.prediction[0] <= 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    sizes = ["experiment=demo", "sweep=x", "dataset.size=300", "first.channels=8", "core.widths=[8]", "hydra.mode=RUN"]
    parts = ["recipe=bhi", "first=conv", "core=efficientnet", "final=mlp", "core.squeeze_excitation=false"]
    assert main(["train", *sizes, *parts, f"hydra.run.dir={folder}"]) == 0
    return folder


def test_ensemble_is_the_mean_of_its_members(run: Path) -> None:
    model = prixfixe.load(run)
    other = random_model(*RULED)
    together = prixfixe.inference.ensemble.Ensemble([model, other])  # type: ignore[attr-defined, list-item]
    sequences = random_strings(2, 50)
    for method in ("gradient", "deeplift"):
        each = [list(member.attributions(sequences, method=method)) for member in (model, other)]
        for row, one in enumerate(together.attributions(sequences, method=method)):
            assert one.values == pytest.approx((each[0][row].values + each[1][row].values) / 2, abs=1e-6)


def test_command_writes_tables_arrays_and_a_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fasta = tmp_path / "some.fa"
    fasta.write_text(">one\nACGTACGGTTNACGT\n>two\nTTTTTACGATCGA\n")
    assert main(["attribute", str(run), str(fasta), "--method", "integrated"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["name", "position", "base", "attribution", "error"]
    assert len(lines) == 1 + 14 + 13 and lines[11].split("\t")[:3] == ["one", "11", "A"]
    arrays, picture = tmp_path / "found.npz", tmp_path / "found.png"
    assert main(["attribute", str(run), str(fasta), "-o", str(arrays), "--plot", str(picture)]) == 0
    with np.load(arrays) as found:
        assert list(found["names"]) == ["one", "two"] and found["attributions_0"].shape == (15, 4)
    assert picture.stat().st_size > 1000
    table = tmp_path / "found.csv"
    assert main(["attribute", str(run), str(fasta), "-o", str(table), "--method", "gradient"]) == 0
    assert list(pd.read_csv(table)) == ["name", "position", "base", "attribution"]


def test_command_refuses_before_it_writes(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture) -> None:
    fasta, table = tmp_path / "some.fa", tmp_path / "found.tsv"
    fasta.write_text(">one\nACGTACGGTTNACGT\n")
    assert main(["attribute", str(run), str(fasta), "--method", "deeplift", "-o", str(table)]) == 2
    assert "--method integrated" in capsys.readouterr().err and not table.exists()
