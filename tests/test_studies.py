"""The studies of Kwak et al. and of soft classification: what is swept, what is trained, and what the table and the
tests say."""

import csv
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import compose
from fabricated_runs import make_grid, write_json
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from scipy.stats import mannwhitneyu, wilcoxon
from statsmodels.stats.multitest import multipletests

from prixfixe.analysis.studies import Factor, Question, Study, answer_table, panels, read_study, score_table
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.common.paths import conf_folder
from prixfixe.dream.studies import PROFORMER_ABLATION, PROFORMER_HEADS, SOFT_CLASSIFICATION, find_study
from prixfixe.menu.check import example, example_task, violations
from prixfixe.networks.network import build
from prixfixe.runs.folder import run_name
from prixfixe.sweeps import plan as sweep_module
from prixfixe.sweeps.app import train
from prixfixe.tasks.scores import KL, MSE, PEARSON, Score
from prixfixe.training.build import build_recipe
from prixfixe.training.experiment import run

FIXED = {
    "proformer_ablation": {"recipe": "unlockdna", "first": "kmer", "core": "proformer", "final": "expression_heads"},
    "proformer_heads": {"recipe": "unlockdna", "first": "kmer", "core": "proformer", "final": "expression_heads"},
    "soft_classification": {"recipe": "autosome", "first": "conv", "core": "bilstm", "final": "soft_bins"},
}
ABLATION = {
    "dataset.training_fraction": (0.1,),
    "first.channels": (64, 128, 256),
    "core.blocks": (1, 2, 4, 8),
    "final.heads": (0, 1, 8, 16, 32, 64),
    "recipe.mask_share": (0.05, 0),
}
HEADS = {"final.heads": (0, 1, 32), "final.glu": (False, True), "recipe.mask_share": (0.05, 0)}
SOFT = {
    "choices.first": ("conv", "parallel_conv", "kmer"),
    "choices.core": ("efficientnet", "bilstm", "proformer"),
    "final.loss": ("kl", "mse", "huber"),
    "recipe.is_reverse": (True, False),
    "recipe.is_singleton": (True, False),
}

Values = Mapping[str, Any]


def make_study(
    folder: Path,
    study: str,
    swept: Mapping[str, Sequence[Any]],
    planted: Callable[[Values], float],
    *,
    seeds: Sequence[int] = (0,),
    noise: float = 0.002,
    state: Callable[[Values], str] = lambda values: "done",
    extra: Callable[[Values], Values] = lambda values: {},
) -> Path:
    """A study's sweep of run folders with planted scores."""
    generator = np.random.default_rng(0)
    jobs = {}
    for *levels, seed in itertools.product(*swept.values(), seeds):
        values = dict(zip(swept, levels, strict=True))
        choices = FIXED[study] | {
            key.removeprefix("choices."): value for key, value in values.items() if key.startswith("choices.")
        }
        own = {key: value for key, value in values.items() if not key.startswith("choices.")}
        variant = "-".join(f"{key.rpartition('.')[2]}{value}" for key, value in own.items())
        name = run_name(choices, seed, variant)
        jobs[name] = [f"{slot}={choice}" for slot, choice in choices.items()] + [
            f"{key}={value}" for key, value in own.items()
        ]
        jobs[name] += [f"seed={seed}"] * (len(seeds) > 1) + [f"experiment={study}"]
        score = planted(values) + generator.normal(0, noise)
        if state(values) == "missing":
            continue
        config: dict[str, Any] = {"seed": seed, "variant": variant, "choices": choices, "training": {"epochs": 20}}
        for key, value in {**own, **extra(values)}.items():
            slot, _, setting = key.partition(".")
            config.setdefault(slot, {})[setting] = value
        path = folder / name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(
            yaml.dump(config, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
        )
        write_json(
            path / "status.json",
            {"state": state(values), "reason": None if state(values) == "done" else "TrainingError: not finite"},
        )
        if state(values) == "done":
            write_json(
                path / "metrics.json",
                {
                    "pearson_r": score,
                    "kl": 2 - score,
                    "mse": 1 - score,
                    "spearman_rho": score,
                    "n": 100,
                    "simulated": False,
                },
            )
    write_json(folder / "sweep.json", {"jobs": jobs})
    return folder


def of_heads(values: Values) -> float:
    """Expression heads are worth 0.05, each doubling of the dimension 0.01, mask filling 0.02, blocks nothing."""
    return (
        0.6
        + 0.05 * (values["final.heads"] > 0)
        + 0.01 * np.log2(values["first.channels"])
        + 0.02 * (values["recipe.mask_share"] > 0)
    )


def of_losses(values: Values) -> float:
    """KL is worth 0.03 over both others, is_singleton 0.01, is_reverse nothing; and combinations differ by more than
    that."""
    combination = len(values["choices.first"]) / 40 + len(values["choices.core"]) / 50
    return 0.3 + combination + 0.03 * (values["final.loss"] == "kl") + 0.01 * values["recipe.is_singleton"]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("runs") / "proformer_ablation", "proformer_ablation", ABLATION, of_heads)


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("runs") / "soft_classification", "soft_classification", SOFT, of_losses)


def answers(study: Study, *folders: Path, score: Score = PEARSON) -> list[dict[str, Any]]:
    return [dict(row) for row in answer_table(study, read_study(study, folders), score).rows]


def test_a_factor_may_be_a_list(tmp_path: Path) -> None:
    factors = {"kernels": Factor("first.kernel_sizes", {(9, 15): "published"}), "clipping": Factor("optim.clip_norm")}
    study = Study(
        "kernels",
        "Kernel sizes",
        factors,
        ("kernels",),
        ("clipping",),
        (Question(("kernels",), "wilcoxon", against=((9, 15),)),),
    )
    swept = {"first.kernel_sizes": ([21], [9, 15], [3, 5, 7]), "optim.clip_norm": (None, 1, 0.5)}
    sweep = make_study(
        tmp_path / "kernels",
        "soft_classification",
        swept,
        lambda values: 0.5 + len(values["first.kernel_sizes"]) / 10,
        noise=0,
    )
    table = score_table(study, read_study(study, [sweep]), PEARSON)
    assert [row["kernels"] for row in table.rows] == ["published", "[3, 5, 7]", "[21]"]
    assert table.columns[1:4] == ["0.5", "1", "None"]
    assert [row["mean over columns"] for row in table.rows] == pytest.approx([0.7, 0.8, 0.6])
    found = {row["part"]: (row["other"], row["difference"]) for row in answers(study, sweep)}
    assert found == {"[3, 5, 7]": ("published", pytest.approx(0.1)), "[21]": ("published", pytest.approx(-0.1))}


# the sweeps


def planned(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> dict[str, dict[str, Any]]:
    """What a multirun would train, folder name -> resolved configuration."""
    seen: dict[str, dict[str, Any]] = {}

    def plan_sweep(
        where: Path, names: list[str], batch: list[list[str]], configs: list[dict[str, Any]], launched_with: Any = ()
    ) -> Any:
        assert len(set(names)) == len(names)
        seen.update(zip(names, configs, strict=True))
        return sweep_module.Plan(where, {}), []

    monkeypatch.setattr(sweep_module, "plan_sweep", plan_sweep)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", sys.argv)
    train(["-m", *overrides])
    return seen


@pytest.mark.parametrize(
    ("study", "swept", "runs"),
    [
        ("proformer_ablation", ABLATION | {"dataset.training_fraction": (0.1, 0.02)}, 288),
        ("proformer_heads", HEADS, 12),
        ("soft_classification", SOFT, 108),
    ],
)
def test_one_multirun_sweeps_over_all_of_it(study: str, swept: Mapping[str, Sequence[Any]], runs: int) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        hydra = hydra_compose("train", [f"experiment={study}"], return_hydra_config=True).hydra
    params = {
        key: [yaml.safe_load(value) for value in str(values).split(",")] for key, values in hydra.sweeper.params.items()
    }
    assert params == {key.removeprefix("choices."): list(values) for key, values in swept.items()}
    assert len(list(itertools.product(*params.values()))) == runs
    assert str(hydra.mode) == "RunMode.MULTIRUN"


def test_the_ablation_narrowed_has_names_and_values_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = planned(monkeypatch, tmp_path, "experiment=proformer_ablation", "core.blocks=8", "final.heads=0")
    assert len(runs) == 3 * 2 * 2
    heads = {64: 2, 128: 4, 256: 8}
    for name, config in runs.items():
        width = config["first"]["channels"]
        assert (config["core"]["heads"], config["core"]["head_width"], config["core"]["blocks"]) == (
            heads[width],
            width,
            8,
        )
        head = f"H{config['final']['heads']}-m{config['recipe']['mask_share']}"
        share = config["dataset"]["training_fraction"]
        assert name == f"unlockdna+kmer+proformer+expression_heads+d{width}-b8-{head}-f{share}"
        assert not config["core"]["double_residual"]
        assert config["optim"]["schedule"]["warmup_steps"] == {0.1: 1250, 0.02: 250}[share], "one epoch"
    assert compose("experiment=proformer_ablation")["optim"]["schedule"]["warmup_steps"] == 12500, "of all of the data"
    assert {config["recipe"]["mask_share"] for config in runs.values()} == {0.05, 0}
    assert {config["dataset"]["training_fraction"] for config in runs.values()} == {0.1, 0.02}


@pytest.mark.parametrize(
    ("study", "narrowed"),
    [
        (PROFORMER_ABLATION, ("first.channels=64,256", "core.blocks=2", "final.heads=0,8")),
        (PROFORMER_HEADS, ("final.heads=0,32",)),
        (
            SOFT_CLASSIFICATION,
            ("first=conv,kmer", "core=bilstm,proformer", "final.loss=kl,mse", "recipe.is_reverse=true"),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_runs_of_an_experiment_differ_in_the_studys_factors_and_what_follows_them(
    study: Study, narrowed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = planned(monkeypatch, tmp_path, f"experiment={study.name}", *narrowed)
    for name, config in runs.items():
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.dump(config))
        write_json(folder / "status.json", {"state": "done", "reason": None})
        write_json(folder / "metrics.json", {"pearson_r": 0.5, "n": 9, "simulated": True})
    read = read_study(study, [tmp_path / "runs"])
    assert len(read.levels) == len(runs) >= 8 and read.remarks == []


def test_a_dimension_of_ones_own_asks_for_its_attention_heads() -> None:
    for width, heads, expected in ((256, (), 8), (512, ("core.heads=16",), 16)):
        assert compose("experiment=proformer_ablation", f"first.channels={width}", *heads)["core"]["heads"] == expected
    config = compose("experiment=proformer_ablation", "first.channels=512")
    with pytest.raises(InputError, match=r"core\.heads='unknown for this dimension, say core\.heads=N'"):
        build(build_recipe(config), config, example_task())


def test_soft_classification_narrowed_has_names_and_values_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = planned(
        monkeypatch,
        tmp_path,
        "experiment=soft_classification",
        "first=kmer",
        "core=bilstm",
        "final.loss=mse,kl",
        "recipe.is_reverse=false",
    )
    assert len(runs) == 2 * 2
    for name, config in runs.items():
        recipe = config["recipe"]
        variant = f"{config['final']['loss']}-reverse{recipe['is_reverse']}-singleton{recipe['is_singleton']}"
        assert name == f"autosome+kmer+bilstm+soft_bins+{variant}"


# the parts


def small(*overrides: str) -> dict[str, Any]:
    """Proformer of the ablation as small as it gets, on few simulated sequences."""
    tiny = (
        "first.channels=64",
        "first.k=2",
        "core.blocks=1",
        "core.heads=1",
        "core.head_width=4",
        "core.expansion=1",
        "recipe.width=84",
    )
    return compose("experiment=proformer_ablation", *tiny, *overrides)


def test_no_heads_are_global_average_pooling() -> None:
    config = small("final.heads=0", "recipe.mask_share=0")
    assert list(violations(config)) == []
    recipe = build_recipe(config)
    network = build(recipe, config, example_task()).eval()
    _, batch = example(recipe)
    assert network.heads is None
    features = network.core(network.first(batch["x"]))
    pooled = network.final.dense(features.mean(dim=2)).squeeze(1) * 2.0 + 11.0
    assert torch.allclose(network(batch).expression, pooled, atol=1e-5)
    with_heads = build(recipe, small("final.heads=1", "recipe.mask_share=0"), example_task())
    assert with_heads.parameter_count() - network.parameter_count() == 64


def test_gated_heads_are_gated_linear_units() -> None:
    config = small("final.heads=3", "final.glu=true", "recipe.mask_share=0")
    assert list(violations(config)) == []
    recipe = build_recipe(config)
    network = build(recipe, config, example_task()).eval()
    features = torch.randn(5, 64, 3 + 168)
    heads = torch.einsum("oc,bch->boh", network.final.dense.weight, features[:, :, :3])
    heads = heads + network.final.dense.bias[:, None]
    expected = (heads[:, 0] * torch.sigmoid(heads[:, 1])).mean(dim=1) * 2.0 + 11.0
    assert torch.allclose(network.final(features).expression, expected, atol=1e-5)
    dense = build(recipe, small("final.heads=3", "recipe.mask_share=0"), example_task())
    assert network.parameter_count() - dense.parameter_count() == 64 + 1


def test_without_mask_filling_nothing_is_masked_and_nothing_filled() -> None:
    config = small("final.heads=1", "recipe.mask_share=0")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task()).eval()
    _, batch = example(recipe)
    assert not network.auxiliary and not batch["x"][:, 5].any()
    network.train()
    prediction = network(batch)
    assert torch.equal(network.loss(prediction, batch), network.final.loss(prediction, batch))
    assert list(build(build_recipe(small("final.heads=1")), small("final.heads=1"), example_task()).auxiliary) == [
        "mask_filling"
    ]


def test_losses_differ_and_networks_do_not() -> None:
    losses, weights, channels = {}, [], set()
    for loss, is_reverse in (("kl", "true"), ("mse", "true"), ("huber", "true"), ("huber", "false")):
        config = compose("first.channels=8", "core.widths=[8]", f"final.loss={loss}", f"recipe.is_reverse={is_reverse}")
        torch.manual_seed(0)
        recipe = build_recipe(config)
        network = build(recipe, config, example_task()).eval()
        _, batch = example(recipe)
        channels.add(batch["x"].shape[1])
        prediction = network(batch)
        losses[loss, is_reverse] = network.loss(prediction, batch), prediction, batch
        weights.append(
            {name: tuple(value.shape) for name, value in network.state_dict().items() if not name.startswith("first.")}
        )
    assert all(shapes == weights[0] for shapes in weights)
    assert channels == {5, 6}
    mse, prediction, batch = losses["mse", "true"]
    difference = (prediction.expression - batch["y"]) / 2.0  # the targets' standard deviation
    assert torch.allclose(mse, difference.square().mean())
    assert torch.allclose(losses["huber", "true"][0], F.huber_loss(difference, torch.zeros_like(difference)))
    assert prediction.log_probs is None, "nothing trains the width of the bins, so it is a scalar prediction"
    kl, prediction, batch = losses["kl", "true"]
    assert torch.allclose(
        kl,
        (batch["y_probs"] * (batch["y_probs"].clamp(min=1e-30).log() - prediction.log_probs)).sum(1).mean(),
    )


@pytest.mark.parametrize("extreme", ["pooling", "huber"])
def test_extreme_values_train(extreme: str, tmp_path: Path) -> None:
    tiny = ("dataset.size=80", "training.epochs=1", "training.batch_size=64", "training.device=cpu")
    if extreme == "pooling":
        config = small(*tiny, "final.heads=0", "recipe.mask_share=0")
    else:
        channels = ("recipe.is_reverse=false", "recipe.is_singleton=false")
        config = compose(
            "experiment=soft_classification",
            *tiny,
            *channels,
            "first.channels=4",
            "core.widths=[4]",
            "final.loss=huber",
        )
    metrics = run(config, tmp_path / "run", show_progress=False)
    assert np.isfinite([metrics["kl"], metrics["mse"]]).all()


# the table


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["study", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_ablation_table_has_two_panels(ablation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = list(csv.DictReader(io.StringIO(output_of(capsys, "proformer_ablation", ablation, "--format", "csv"))))
    assert len(table) == 2 * 12
    assert list(table[0]) == [
        "training data",
        "mask filling",
        "dimension",
        "blocks",
        "pooling",
        "H=1",
        "H=8",
        "H=16",
        "H=32",
        "H=64",
        "mean over columns",
    ]
    metrics = json.loads(
        (
            ablation
            / "unlockdna+kmer+proformer+expression_heads+training_fraction0.1-channels64-blocks8-heads16-mask_share0.05"
            / "metrics.json"
        ).read_text()
    )
    [row] = [
        r for r in table if (r["mask filling"], r["dimension"], r["blocks"]) == ("mask filling, share 0.05", "64", "8")
    ]
    assert float(row["H=16"]) == metrics["pearson_r"]
    assert float(row["mean over columns"]) == pytest.approx(np.mean([float(row[h]) for h in list(row)[4:-1]]))
    text = output_of(capsys, "proformer_ablation", ablation)
    assert text.startswith("The ablations of Kwak et al. 2024 (Proformer): Pearson r. 144 of 144 combinations done.\n")
    panels = (
        "\n0.1 of the training data, without mask filling\n",
        "\n0.1 of the training data, mask filling, share 0.05\n",
    )
    assert text.index(panels[0]) < text.index(panels[1]) < text.index("rank-sum")


def test_the_soft_classification_table_has_combinations_as_columns(
    soft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = list(
        csv.DictReader(io.StringIO(output_of(capsys, "soft_classification", soft, "--format", "csv", "--score", "kl")))
    )
    assert [(row["loss"], row["is_reverse"], row["is_singleton"]) for row in table] == list(
        itertools.product(("KL", "MSE", "Huber"), ("yes", "no"), ("yes", "no"))
    )
    assert len(table[0]) == 3 + 9 + 1 and "parallel_conv+bilstm" in table[0]
    assert float(table[0]["kmer+bilstm"]) < float(table[4]["kmer+bilstm"])
    assert len(output_of(capsys, "soft_classification", soft, "--format", "md").splitlines()) > 12 + 17


def test_seeds_are_averaged_with_their_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = {key: values[:2] for key, values in SOFT.items()} | {"choices.core": ("bilstm",)}
    folder = make_study(tmp_path / "seeds", "soft_classification", few, of_losses, seeds=(0, 1, 2))
    runs = read_study(SOFT_CLASSIFICATION, [folder])
    row = score_table(SOFT_CLASSIFICATION, runs, PEARSON).rows[0]
    scores = [
        json.loads(
            (
                folder / f"autosome+conv+bilstm+soft_bins+losskl-is_reverseTrue-is_singletonTrue{seed}" / "metrics.json"
            ).read_text()
        )["pearson_r"]
        for seed in ("", "+seed1", "+seed2")
    ]
    assert row["conv+bilstm"] == pytest.approx(np.mean(scores))
    assert f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}" in output_of(capsys, "soft_classification", folder)
    pairs = {(r["term"], r["part"], r["other"]): r["n"] for r in answers(SOFT_CLASSIFICATION, folder)}
    assert pairs["loss", "MSE", "KL"] == "8", (
        "two first layers, four settings of the channels; three seeds are no more witnesses"
    )


# the tests


def test_planted_effects_of_the_ablation_are_found(ablation: Path) -> None:
    rows = answers(PROFORMER_ABLATION, ablation)
    assert len(rows) == 11 + 2 * 15 + 6 + 3 + (15 + 6 + 3 + 1)
    of_both = [row for row in rows if row["term"] == "head, mask filling; 0.1 of the training data"]
    plain = "head pooling, without mask filling"
    assert {row["test"] for row in of_both} == {"rank-sum"} and {row["other"] for row in of_both} == {plain}
    assert {row["n"] for row in of_both} == {"12 + 12"}
    published = [row for row in of_both if "share" in row["part"] and "pooling" not in row["part"]]
    assert len(published) == 5, "of heads with mask filling against pooling without it"
    assert all(row["p_adjusted"] < 0.001 for row in published)
    assert all(row["difference"] == pytest.approx(0.05 + 0.02, abs=0.005) for row in published)
    sizes = {row["term"]: row for row in rows if row["test"] == "rank-sum" and row["part"] in ("8", "256")}
    assert set(sizes) == {"blocks; 0.1 of the training data", "dimension; 0.1 of the training data"}
    paired = {(row["term"], row["part"], row["other"]): row for row in rows if row["test"] == "signed-rank"}
    dimension = paired["dimension", "256", "64"]
    assert dimension["n"] == "48" and dimension["better"] == "48 of 48" and dimension["low"] < 0.02 < dimension["high"]
    assert paired["mask filling", "mask filling, share 0.05", "without mask filling"]["difference"] == pytest.approx(
        0.02, abs=0.001
    )
    assert all(row["p_adjusted"] > 0.05 for (term, _, _), row in paired.items() if term == "blocks")
    assert paired["head", "H=8", "pooling"]["p_adjusted"] < 0.001 < paired["head", "H=64", "H=32"]["p_adjusted"]


def test_p_values_are_scipys_and_the_correction_statsmodels(ablation: Path) -> None:
    rows = answers(PROFORMER_ABLATION, ablation, score=MSE)
    scores = {}
    for values in itertools.product(*ABLATION.values()):
        name = "-".join(f"{key.rpartition('.')[2]}{value}" for key, value in zip(ABLATION, values, strict=True))
        path = ablation / f"unlockdna+kmer+proformer+expression_heads+{name}" / "metrics.json"
        scores[values[1:]] = json.loads(path.read_text())["mse"]
    pooled = [score for (_, _, h, m), score in scores.items() if (h, m) == (0, 0)]
    with_filling = [score for (_, _, h, m), score in scores.items() if (h, m) == (16, 0.05)]
    [row] = [r for r in rows if r["part"] == "head H=16, mask filling, share 0.05"]
    assert row["p"] == mannwhitneyu(with_filling, pooled).pvalue
    blocks = [r for r in rows if r["term"] == "blocks"]
    expected = [
        wilcoxon([scores[d, b, h, m] - scores[d, a, h, m] for d, _, h, m in scores if _ == 1]).pvalue
        for a, b in itertools.combinations((1, 2, 4, 8), 2)
    ]
    assert [r["p"] for r in blocks] == pytest.approx(expected)
    assert [r["p_adjusted"] for r in blocks] == pytest.approx(multipletests(expected, method="holm")[1])


def test_10_and_2_per_cent_of_the_data_are_compared_apart(tmp_path: Path) -> None:
    def planted(values: Values) -> float:
        return of_heads(values) - (0.3 if values["dataset.training_fraction"] == 0.02 else 0)

    swept = ABLATION | {"dataset.training_fraction": (0.1, 0.02), "final.heads": (0, 32)}
    folder = make_study(tmp_path / "shares", "proformer_ablation", swept, planted)
    rows = answers(PROFORMER_ABLATION, folder)
    part = "head H=32, mask filling, share 0.05"
    found = {row["term"]: row for row in rows if row["part"] == part}
    assert list(found) == [f"head, mask filling; {share} of the training data" for share in (0.02, 0.1)]
    assert all(row["difference"] == pytest.approx(0.07, abs=0.005) and row["n"] == "12 + 12" for row in found.values())
    assert read_study(PROFORMER_ABLATION, [folder]).remarks == []
    table = score_table(PROFORMER_ABLATION, read_study(PROFORMER_ABLATION, [folder]), PEARSON)
    assert len({row["training data"] for row in table.rows}) == 2


def test_runs_from_before_the_share_of_the_data_was_a_setting_are_on_all_of_it(tmp_path: Path) -> None:
    swept = {key: values for key, values in ABLATION.items() if key != "dataset.training_fraction"}
    runs = read_study(PROFORMER_ABLATION, [make_study(tmp_path / "old", "proformer_ablation", swept, of_heads)])
    assert len(runs.levels) == 144 and {levels["training data"] for levels in runs.levels} == {1.0}
    assert panels(PROFORMER_ABLATION, score_table(PROFORMER_ABLATION, runs, MSE))[0].title.endswith(
        "\n\nAll training data, without mask filling"
    )


def test_gated_heads_stand_beside_dense_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planted(values: Values) -> float:
        return 0.7 + 0.01 * (values["final.heads"] == 32) - 0.02 * values["final.glu"]

    folder = make_study(tmp_path / "heads", "proformer_heads", HEADS, planted, noise=0)
    table = list(csv.DictReader(io.StringIO(output_of(capsys, "proformer_heads", folder, "--format", "csv"))))
    found = {(row["mask filling"], row["gated"]): float(row["H=32"]) for row in table}
    assert found["mask filling, share 0.05", "dense"] == pytest.approx(0.71)
    assert found["mask filling, share 0.05", "GLU"] == pytest.approx(0.69)
    [gated] = [row for row in answers(PROFORMER_HEADS, folder) if row["term"] == "gated"]
    assert gated["difference"] == pytest.approx(-0.02) and gated["better"] == "0 of 6"


def test_planted_effects_of_soft_classification_are_found(soft: Path) -> None:
    rows = answers(SOFT_CLASSIFICATION, soft)
    together = [row for row in rows if row["term"] == "loss, is_reverse, is_singleton"]
    assert (
        len(together) == 11
        and {row["other"] for row in together} == {"loss KL, is_reverse yes, is_singleton yes"}
        and {row["n"] for row in together} == {"9"}
    )
    found = {row["part"]: row["p_adjusted"] < 0.05 for row in together}
    assert all(found[part] for part in found if not part.startswith("loss KL"))
    assert found["loss KL, is_reverse yes, is_singleton no"] and not found["loss KL, is_reverse no, is_singleton yes"]
    alone = {(row["term"], row["part"], row["other"]): row for row in rows}
    assert alone["loss", "MSE", "KL"]["difference"] == pytest.approx(-0.03, abs=0.002)
    assert alone["loss", "Huber", "MSE"]["p_adjusted"] > 0.05
    assert alone["is_singleton", "no", "yes"]["p_adjusted"] < 0.001
    assert alone["is_reverse", "no", "yes"]["p"] > 0.01
    lower = {(row["term"], row["part"], row["other"]): row for row in answers(SOFT_CLASSIFICATION, soft, score=KL)}
    assert lower["loss", "MSE", "KL"]["better"] == "0 of 36", "a lower KL divergence is the better one"


# what is not there, or not right


def test_an_unfinished_study_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def state(values: Values) -> str:
        return "missing" if values["final.heads"] == 64 else "failed" if values["core.blocks"] == 8 else "done"

    folder = make_study(
        tmp_path / "half", "proformer_ablation", ABLATION | {"recipe.mask_share": (0.05,)}, of_heads, state=state
    )
    text = output_of(capsys, "proformer_ablation", folder)
    assert "45 of 72 combinations done" in text
    assert (
        "\n12 missing: " in text
        and "\n15 failed: " in text
        and "(TrainingError: not finite)" in text
        and "and 12 more" in text
    )
    assert "To run just these:\n  prixfixe train -m " in text
    assert "× failed, – missing." in text  # noqa: RUF001
    rows = {(row["test"], row["term"], row["part"], row["other"]): row for row in answers(PROFORMER_ABLATION, folder)}
    none = rows["signed-rank", "head", "H=64", "pooling"]
    assert (none["difference"], none["n"], none["p"], none["p_adjusted"]) == (None, "0", None, None)
    some = rows["signed-rank", "head", "H=8", "pooling"]
    assert some["n"] == "9" and some["p_adjusted"] < 0.05
    table = list(csv.DictReader(io.StringIO(output_of(capsys, "proformer_ablation", folder, "--format", "csv"))))
    assert {row["H=64"] for row in table} == {""} and {row["mean over columns"] for row in table} == {""}
    tests = list(
        csv.DictReader(io.StringIO(output_of(capsys, "proformer_ablation", folder, "--format", "csv", "--tests")))
    )
    assert (tests[0]["test"], tests[0]["n"], tests[0]["p"]) == ("rank-sum", "9 + 0", ""), (
        "no pooling without filling yet"
    )
    [first] = [
        row for row in tests if row["term"].endswith("share 0.05") and (row["part"], row["other"]) == ("H=8", "H=1")
    ]
    assert first["test"] == "rank-sum" and first["n"] == "9 + 9" and first["p"]


def test_a_study_that_never_began_is_known_from_its_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan").mkdir()
    folder = make_study(tmp_path / "plan", "soft_classification", SOFT, of_losses, state=lambda values: "missing")
    text = output_of(capsys, "soft_classification", folder)
    assert "0 of 108 combinations done" in text and "108 missing" in text


def test_too_few_pairs_get_no_p_value(tmp_path: Path) -> None:
    swept = ABLATION | {"first.channels": (64,), "core.blocks": (1, 2), "recipe.mask_share": (0.05,)}
    rows = answers(PROFORMER_ABLATION, make_study(tmp_path / "few", "proformer_ablation", swept, of_heads))
    assert all(
        row["p"] is None and row["p_adjusted"] is None and row["difference"] is not None
        for row in rows
        if row["term"].rpartition(";")[0] == "head" or row["term"] == "head"
    )
    assert [row["n"] for row in rows if row["term"] == "blocks"] == ["6"]
    assert all(row["p"] is not None for row in rows if row["term"] == "blocks")


def test_other_runs_are_refused_or_left_out(ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = make_grid(tmp_path / "grid81", n=10)
    assert main(["study", "soft_classification", str(grid)]) == 2
    err = capsys.readouterr().err
    assert (
        "none of 81 runs belongs to the study soft_classification" in err
        and "final.loss" in err
        and "experiment=soft_classification" in err
    )
    assert main(["study", "proformer", str(grid)]) == 2
    assert "choose one of proformer_ablation, proformer_heads, soft_classification (" in capsys.readouterr().err
    assert main(["study", "proformer_ablation", str(tmp_path / "nowhere")]) == 2
    capsys.readouterr()
    assert "left out: 81 runs not of this study" in output_of(capsys, "proformer_ablation", ablation, grid)


def test_runs_that_differ_in_something_else_are_named(tmp_path: Path) -> None:
    def extra(values: Values) -> Values:
        path = "a.tsv" if values["core.blocks"] == 1 else "b.tsv"
        return {
            "core.heads": values["first.channels"] // 32,
            "dataset.path": path,
            "training.device": f"cuda:{values['core.blocks']}",
        }

    folder = make_study(tmp_path / "mixed", "proformer_ablation", ABLATION, of_heads, extra=extra)
    remarks = read_study(PROFORMER_ABLATION, [folder]).remarks
    assert remarks == [
        "beware: these runs differ in dataset.path (a.tsv, b.tsv): where they are scored on different data, "
        "their scores cannot be compared"
    ]


def test_data_that_vary_and_their_copies(tmp_path: Path) -> None:
    def extra(values: Values) -> Values:
        table = "a.tsv" if values["core.blocks"] == 1 else "b.tsv"
        return {"core.heads": values["first.channels"] // 32, "dataset.path": table}

    folder = make_study(tmp_path / "mixed", "proformer_ablation", ABLATION, of_heads, extra=extra)
    for path in folder.glob("*/"):
        np.savez(path / "validation.npz", measured=np.arange(9.0), predicted=np.arange(9.0))
    assert read_study(PROFORMER_ABLATION, [folder]).remarks == [], (
        "the same held-out measurements: the table lies in two places"
    )
    for path in folder.glob("*/"):
        measured = np.arange(9.0) + ("path: a.tsv" in (path / "config.yaml").read_text())
        np.savez(path / "validation.npz", measured=measured, predicted=measured)
    assert read_study(PROFORMER_ABLATION, [folder]).remarks == [
        "beware: these runs are scored on different data, as they differ in dataset.path (a.tsv, b.tsv): their "
        "scores cannot be compared"
    ]


def test_a_score_that_no_run_has_is_said_without_a_table_of_tests(
    soft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "No finished run has a Pearson score yet: prixfixe evaluate RUNS TESTSET gives it.\n"
    assert output_of(capsys, "soft_classification", soft, "--score", "pearson_score", "--tests") == line
    out = output_of(capsys, "soft_classification", soft, "--score", "pearson_score")
    assert out.endswith("\n\n" + line)
    assert "signed-rank" not in out
    assert (
        output_of(capsys, "soft_classification", soft, "--score", "pearson_score", "--tests", "--format", "md") == line
    )


def test_damaged_runs_are_named_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(tmp_path / "bad", "soft_classification", SOFT, of_losses)
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    (paths[0] / "metrics.json").write_text("{")
    config = paths[1] / "config.yaml"
    config.write_text(config.read_text() + "training: [1, 2\n")
    text = output_of(capsys, "soft_classification", folder)
    assert "106 of 106 combinations done" in text
    assert text.count("\ndamaged: ") == 2


def test_sweeps_seeds_and_folds_of_the_same_runs_are_no_more_witnesses(tmp_path: Path) -> None:
    few = SOFT | {"choices.core": ("bilstm",)}
    once = make_study(tmp_path / "one", "soft_classification", few, of_losses)
    apart = {row["part"]: row["p"] for row in answers(SOFT_CLASSIFICATION, once)}
    folders = [once, make_study(tmp_path / "two", "soft_classification", few, of_losses)]
    again = answers(SOFT_CLASSIFICATION, *folders)
    assert {row["part"]: row["p"] for row in again} == apart, "the second sweep is the first once more"
    assert {row["n"] for row in again if row["term"] == "loss"} == {"12"}
    unlike = make_study(tmp_path / "three", "soft_classification", few, lambda values: 0.4 + of_losses(values))
    assert {row["n"] for row in answers(SOFT_CLASSIFICATION, once, unlike) if row["term"] == "loss"} == {"12"}
    means = {row["part"]: row["difference"] for row in answers(SOFT_CLASSIFICATION, once, unlike)}
    assert means["MSE"] == pytest.approx(-0.03, abs=0.003), "paired within a sweep, then averaged"


def test_folds_of_one_table_are_averaged_and_none_is_lost(tmp_path: Path) -> None:
    folders = []
    for fold, worth in ((0, 0.02), (1, 0.04), (2, 0.09)):

        def planted(values: Values, worth: float = worth) -> float:
            return 0.5 + worth * (values["final.loss"] == "kl")

        few = SOFT | {"recipe.is_reverse": (True,), "recipe.is_singleton": (True,)}
        extra = {"dataset.fold": fold}
        folder = tmp_path / f"fold{fold}"
        make_study(folder, "soft_classification", few, planted, noise=0, extra=lambda values, extra=extra: extra)
        folders.append(folder)
    [row] = [r for r in answers(SOFT_CLASSIFICATION, *folders) if (r["term"], r["part"]) == ("loss", "MSE")]
    assert row["n"] == "9" and row["difference"] == pytest.approx(-0.05)


def test_a_study_of_ones_own_is_a_few_lines(ablation: Path) -> None:
    study = Study(
        "widths",
        "Widths",
        {"width": Factor("first.channels"), "blocks": Factor("core.blocks")},
        ("width",),
        ("blocks",),
        (Question(("width",), "wilcoxon"),),
    )
    runs = read_study(study, [ablation])
    table = score_table(study, runs, PEARSON)
    assert [row["width"] for row in table.rows] == ["64", "128", "256"]
    assert all(0.6 < row["8"] < 0.8 for row in table.rows)


def test_every_study_has_its_experiment() -> None:
    for name in ("proformer_ablation", "proformer_heads", "soft_classification"):
        assert find_study(name).name == name and (conf_folder() / "experiment" / f"{name}.yaml").exists()


def test_torch_is_not_needed(soft: Path) -> None:
    command = f"main(['study', 'soft_classification', {str(soft)!r}])"
    code = f"import sys; from prixfixe.cli import main; {command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
