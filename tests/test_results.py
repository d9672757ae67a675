"""`prixfixe results` on folders whose numbers are known."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from fabricated_runs import make_grid

from prixfixe.analysis.filter import keep, parse_condition
from prixfixe.analysis.results import COLUMNS, averaged, collect, combination
from prixfixe.analysis.tables import cell, signed
from prixfixe.analysis.views import narrowed_command
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.runs.folder import SLOTS
from prixfixe.sweeps.plan import Plan

FEW = {
    "recipe": ("autosome", "bhi"),
    "first": ("conv",),
    "core": ("bilstm", "proformer"),
    "final": ("mlp", "soft_bins"),
}
BHI = "bhi+conv+bilstm+mlp"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Eight combinations, four of them done."""
    return make_grid(
        tmp_path / "mixed",
        choices=FEW,
        n=40,
        failed={BHI: "TrainingError: the loss is not finite"},
        missing=["bhi+conv+proformer+mlp"],
        running={"bhi+conv+bilstm+soft_bins": 2},
        stopped={"bhi+conv+proformer+soft_bins": 1},
    )


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["results", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def table(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output_of(capsys, *arguments, "--format", "csv"))))


def test_rows_hold_what_the_folders_hold(sweep: Path) -> None:
    results = collect([sweep])
    assert not results.damaged
    assert [row["state"] for row in results.rows] == ["done"] * 4 + ["running", "stopped", "failed", "missing"]
    done = results.done
    assert [row["pearson_r"] for row in done] == sorted((row["pearson_r"] for row in done), reverse=True)
    for row in done:
        metrics = json.loads((Path(row["run"]) / "metrics.json").read_text())
        config = yaml.safe_load((Path(row["run"]) / "config.yaml").read_text())
        assert {column: row[column] for column in metrics if column in COLUMNS} == {
            k: v for k, v in metrics.items() if k in COLUMNS
        }
        assert {slot: row[slot] for slot in SLOTS} == config["choices"]
        assert (row["sweep"], row["seed"], row["variant"]) == ("mixed", 0, None)
    assert all(set(COLUMNS) <= row.keys() for row in results.rows)
    failed = results.rows[6]
    assert failed["reason"] == "TrainingError: the loss is not finite"
    assert failed["command"].startswith(
        "prixfixe train recipe=bhi first=conv core=bilstm final=mlp experiment=demo hydra.mode=RUN hydra.run.dir="
    )
    assert [results.rows[7][slot] for slot in SLOTS] == ["bhi", "conv", "proformer", "mlp"]


def test_scores_of_unfinished_runs_stay_apart(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = collect([sweep]).rows[4]
    last = (Path(running["run"]) / "history.csv").read_text().splitlines()[-1].split(",")
    assert (running["pearson_r"], running["kl"]) == (None, None)
    assert (running["epoch"], running["pearson_r_so_far"]) == (2, float(last[4]))
    out = output_of(capsys, sweep)
    assert "4 of 8 combinations done. SIMULATED" in out
    assert f"~{running['pearson_r_so_far']:.3f}" in out
    assert f"running: bhi+conv+bilstm+soft_bins: epoch 2, Pearson r {running['pearson_r_so_far']:.3f} so far" in out
    assert "stopped: bhi+conv+proformer+soft_bins: epoch 1" in out
    assert f"failed: {BHI}: TrainingError: the loss is not finite" in out
    assert "missing: bhi+conv+proformer+mlp" in out


def test_a_footnote_explains_only_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "TrainingError: the loss is not finite"
    few = make_grid(tmp_path / "few", choices=FEW, n=30, failed={BHI: reason})
    out = output_of(capsys, few, "--columns", "slots,pearson_r,state")
    assert "failed" in out and "~" not in out
    out = output_of(capsys, few, "--columns", "slots,reason")
    assert out.count(reason) == 1
    assert f"failed: {BHI}\n" in out
    assert output_of(capsys, few).count(reason) == 1


def test_one_is_counted_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {slot: choices[:1] for slot, choices in FEW.items()}
    assert output_of(capsys, make_grid(tmp_path / "one", choices=one, n=30)).startswith("1 of 1 combination done.")
    assert output_of(capsys, make_grid(tmp_path / "two", choices=one, n=30, seeds=(0, 1))).startswith(
        "2 of 2 runs of 1 combination done."
    )


@pytest.mark.parametrize("view", ["--effects", "--pareto"])
def test_a_score_that_no_run_has_is_said_and_how_to_get_it(
    view: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("table", "md"):
        out = output_of(capsys, sweep, view, "--score", "pearson_score", "--format", form)
        assert out.startswith("4 of 8 combinations done. SIMULATED")
        assert "No finished run has a Pearson score yet: prixfixe evaluate RUNS TESTSET gives it." in out
        assert len(out.strip().splitlines()) == 3, "no headings, no footnotes of what is not there"
    assert main(["results", str(sweep), "--against", str(sweep), "--score", "pearson_score"]) == 2
    assert "prixfixe evaluate RUNS TESTSET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00004, "0.0000"), (-0.00004, "0.0000"), (0.0, "0.0000"), (-0.01234, "-0.0123"), (2, "+2.0000")],
)
def test_a_difference_that_rounds_to_nothing_has_no_sign(value: float, text: str) -> None:
    assert signed(value) == text
    assert cell({"difference": float(value)}, "difference") == text


def test_a_plain_run_that_nobody_planned(sweep: Path) -> None:
    (sweep / "sweep.json").unlink()
    run = sweep / "autosome+conv+bilstm+mlp"
    (row,) = collect([run]).rows
    assert row["state"] == "done"
    assert row["command"] == f"prixfixe train --resume {run}"


def test_one_command_names_just_the_open_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square = make_grid(
        tmp_path / "square", choices=FEW, n=10, missing=["bhi+conv+bilstm+mlp", "bhi+conv+proformer+mlp"]
    )
    command = "prixfixe train -m recipe=bhi first=conv core=bilstm,proformer final=mlp experiment=demo"
    command += f" hydra.sweep.dir={square}"
    assert f"To run just these:\n  {command}\n" in output_of(capsys, square)


def test_a_command_never_names_what_is_not_in_the_plan() -> None:
    jobs = {
        "a": ["core=bilstm", "final=mlp"],
        "b": ["core=proformer", "final=soft_bins"],
        "c": ["core=bilstm", "final=soft_bins"],
    }
    assert narrowed_command(Plan(Path("runs/x"), jobs), ["a", "b"]) is None  # proformer with mlp was never planned
    jobs["d"] = ["core=proformer", "final=mlp"]
    assert narrowed_command(Plan(Path("runs/x"), jobs), ["a", "b"]) == (
        "prixfixe train -m core=bilstm,proformer final=mlp,soft_bins hydra.sweep.dir=runs/x"
    )
    assert narrowed_command(Plan(Path("runs/x"), {"a": ["core=bilstm"], "b": ["final=mlp"]}), ["a", "b"]) is None


def test_commands_say_where_the_users_own_blocks_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(tmp_path / "own", choices=FEW, n=10, missing=["bhi+conv+bilstm+mlp", "bhi+conv+proformer+mlp"])
    jobs = Plan.read(sweep).jobs
    assert Plan.read(sweep).launched_with == [], "a plan of an earlier version has none"
    Plan(sweep, jobs, ["--config-dir", "/my conf"]).write()
    Plan(sweep, {BHI: jobs[BHI]}).write()
    assert Plan.read(sweep) == Plan(sweep, jobs, ["--config-dir", "/my conf"])
    assert "\n  prixfixe train -m --config-dir '/my conf' recipe=bhi " in output_of(capsys, sweep)
    assert all(
        row["command"].startswith("prixfixe train --config-dir '/my conf' recipe=") for row in collect([sweep]).rows
    )


@pytest.mark.parametrize("content", ["{", '{"jobs": [1]}', '{"jobs": {"a": "b"}}', '{"jobs": {}, "launched_with": 3}'])
def test_a_damaged_plan_is_named_and_the_runs_are_shown(
    content: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "sweep.json").write_text(content)
    out = output_of(capsys, sweep)
    assert "4 of 7 combinations done" in out
    assert f"damaged: {sweep / 'sweep.json'} is damaged" in out


DAMAGE = {
    "half a status": ("status.json", '{"state": "do', "status.json is damaged"),
    "a status that is a list": ("status.json", "[]", "holds no JSON object"),
    "half a configuration": ("config.yaml", "seed: 0\nchoices:\n  recipe: {", "config.yaml is damaged"),
    "no choices": ("config.yaml", "seed: 0\nsweep: x\n", "does not say which"),
    "bytes": ("config.yaml", b"\xff\xfe\x00", "config.yaml is damaged"),
    "half the metrics": ("metrics.json", '{"kl": 1.2, "pear', "metrics.json is damaged"),
    "a word for a number": ("metrics.json", '{"kl": "low"}', "kl is 'low', no number"),
    "no metrics": ("metrics.json", None, "it has no metrics.json"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_named_and_the_others_are_shown(
    case: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content, message = DAMAGE[case]
    path = sweep / "autosome+conv+bilstm+mlp" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = output_of(capsys, sweep)
    assert "3 of 7 combinations done" in out
    assert any(
        line.startswith("damaged: ") and message in line and "autosome+conv+bilstm+mlp" in line
        for line in out.splitlines()
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("evaluation.json", '{"pearson_score": 3}'),
        ("evaluation.json", "{"),
        ("validation.npz", "PK"),
        ("../sweep.json", '{"jobs": [1]}'),
    ],
)
def test_damage_beside_the_scores_costs_no_row(
    file: str, content: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "autosome+conv+bilstm+mlp" / file).write_text(content)
    results = collect([sweep])
    assert len(results.done) == 4
    if file != "validation.npz":
        assert len(results.damaged) == 1
        assert "damaged" in output_of(capsys, sweep)
    else:
        assert "left out" in output_of(capsys, sweep, "--ranks")


def test_a_damaged_history_costs_no_row(sweep: Path) -> None:
    (sweep / "bhi+conv+bilstm+soft_bins" / "history.csv").write_text("epoch,kl\n1,\n")
    results = collect([sweep])
    assert len(results.rows) == 8
    assert "history.csv is damaged" in results.damaged[0]


def test_numbers_that_are_none(sweep: Path) -> None:
    path = sweep / "autosome+conv+bilstm+mlp" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pearson_r": None, "spearman_rho": float("nan")}))
    row = collect([sweep]).done[-1]
    assert (combination(row), row["pearson_r"], row["spearman_rho"]) == ("autosome+conv+bilstm+mlp", None, None)


def test_seeds_are_averaged_with_their_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(
        tmp_path / "seeds", choices=FEW, seeds=(0, 1, 2), n=30, failed={f"{BHI}+seed1": "killed"}, noise=0.02
    )
    results = collect([sweep])
    frame = pd.DataFrame(results.done).groupby(list(SLOTS))["pearson_r"].agg(["mean", "std", "count"])
    rows = averaged(results).rows
    assert len(rows) == 8
    for row in rows:
        expected = frame.loc[tuple(row[slot] for slot in SLOTS)]
        assert row["seeds"] == expected["count"]
        assert row["pearson_r"] == pytest.approx(expected["mean"])
        assert row["pearson_r_sd"] == pytest.approx(expected["std"])
    out = output_of(capsys, sweep)
    assert "23 of 24 runs of 8 combinations done" in out
    assert f"{rows[0]['pearson_r']:.3f} ± {rows[0]['pearson_r_sd']:.3f}" in out
    assert f"failed: {BHI}+seed1: killed" in out
    assert len(table(capsys, sweep)) == 24
    assert output_of(capsys, sweep, "--seeds").count("autosome  conv   bilstm     mlp") == 3


def test_one_seed_has_no_spread(sweep: Path) -> None:
    row = averaged(collect([sweep])).rows[0]
    assert (row["seeds"], row["pearson_r_sd"]) == (1, None)


def test_the_same_combination_of_two_sweeps_is_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (make_grid(tmp_path / name, choices=FEW, n=30, seed=i) for i, name in enumerate("ab"))
    assert len(averaged(collect([first, second])).rows) == 16
    assert {row["sweep"] for row in table(capsys, first, second)} == {"a", "b"}
    assert len(collect([first, first / BHI]).rows) == 8, "a folder that is named twice counts once"


def test_variants_are_combinations_of_their_own(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "sizes", choices=FEW, n=30)
    (sweep / BHI).rename(sweep / f"{BHI}+wide")
    config = sweep / f"{BHI}+wide" / "config.yaml"
    config.write_text(config.read_text().replace("variant: null", "variant: wide"))
    rows = collect([sweep]).rows
    assert {row["variant"] for row in rows if row["state"] == "done"} == {None, "wide"}
    assert {combination(row) for row in rows} >= {f"{BHI}+wide", BHI}


def test_filters_columns_and_order(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = collect([sweep]).done[0]
    assert {row["core"] for row in table(capsys, sweep, "--where", "core=bilstm")} == {"bilstm"}
    assert {row["state"] for row in table(capsys, sweep, "--where", "state!=done")} == {
        "running",
        "stopped",
        "failed",
        "missing",
    }
    assert len(table(capsys, sweep, "--where", f"pearson_r>={best['pearson_r']!r}")) == 1
    assert len(table(capsys, sweep, "--where", "core=bilstm,proformer", "--where", "pearson_r < 0.99")) == 4
    assert list(table(capsys, sweep, "--columns", "core, pearson_r,costs")[0]) == [
        *(
            "core",
            "pearson_r",
            "parameters",
            "samples_per_second",
            "training_seconds",
            "inference_per_second",
            "gpu_memory_bytes",
        ),
        "simulated",
    ]
    costs = [float(row["parameters"] or "inf") for row in table(capsys, sweep, "--sort", "parameters")]
    assert costs == sorted(costs)
    rates = [float(row["samples_per_second"] or 0) for row in table(capsys, sweep, "--sort", "samples_per_second")]
    assert rates == sorted(rates, reverse=True)


def test_filters_by_score_are_of_the_mean_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(tmp_path / "seeds", choices=FEW, seeds=(0, 1), n=30, noise=0.05)
    means = [row["pearson_r"] for row in averaged(collect([sweep])).rows]
    limit = sorted(means)[3]
    assert len(table(capsys, sweep, "--where", f"pearson_r>={limit!r}")) == 2 * 5


def test_filters_by_score_are_of_the_mean_over_sweeps_that_complete_each_other(tmp_path: Path) -> None:
    one = {slot: choices[:1] for slot, choices in FEW.items()}
    low = make_grid(tmp_path / "a", choices=one, seeds=(0,), n=30, planted=lambda parts: 0.45, noise=0.0)
    high = make_grid(tmp_path / "b", choices=one, seeds=(1,), n=30, planted=lambda parts: 0.75, noise=0.0)
    results = collect([low, high])
    assert [row["pearson_r"] for row in averaged(results).rows] == pytest.approx([0.6])
    assert len(keep(results, [parse_condition("pearson_r>0.5", results)]).rows) == 2
    assert len(keep(results, [parse_condition("seeds=2", results)]).rows) == 2
    with pytest.raises(InputError, match="none of 2 runs"):
        keep(results, [parse_condition("pearson_r>0.7", results)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "pearson"], "no column pearson; choose among recipe, first"),
        (["--where", "colour=red"], "no column colour"),
        (["--where", "core"], "is no condition"),
        (["--where", "kl<low"], "kl is a number"),
        (["--where", "core=resnet"], "none of 8 runs is left"),
        (["--columns", "r_snv"], "no column r_snv"),
        (["--format", "parquet"], "-o results.parquet"),
        (["--effects", "--sort", "kl"], "for the comparison"),
        (["--effects", "--ranks", "--format", "csv"], "one table"),
        (["--against", "nowhere"], "nowhere is no folder"),
    ],
)
def test_bad_input_is_refused_with_the_choices(
    arguments: list[str], message: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["results", str(sweep), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("view", ["--effects", "--ranks", "--pareto", "--against"])
@pytest.mark.parametrize("form", ["csv", "md", "latex"])
def test_every_view_in_every_format(view: str, form: str, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = output_of(capsys, sweep, view, *([sweep] if view == "--against" else []), "--format", form)
    if form == "csv":
        rows = list(csv.reader(io.StringIO(out)))
        assert len(rows) >= 3
        assert len({len(row) for row in rows}) == 1
    assert (r"\begin{tabular}" in out) == (form == "latex")


def test_folders_without_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err


def test_formats(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, sweep)
    assert list(rows[0])[:13] == [*SLOTS, "seed", "state", "kl", "pearson_r", "spearman_rho", "mse", "n", *COLUMNS[7:9]]
    assert set(COLUMNS) < set(rows[0])
    for name in ("results.csv", "results.md", "results.tex", "results.txt", "results.parquet"):
        assert output_of(capsys, sweep, "-o", tmp_path / name) == ""
    frame = pd.read_parquet(tmp_path / "results.parquet")
    assert frame["pearson_r"].tolist()[:4] == [float(row["pearson_r"]) for row in rows[:4]]
    assert pd.api.types.is_integer_dtype(frame["parameters"])
    assert frame["simulated"].tolist()[:4] == [True] * 4
    markdown = (tmp_path / "results.md").read_text().splitlines()
    lines = [line for line in markdown if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 4 + 2  # and the two that are under way
    latex = (tmp_path / "results.tex").read_text()
    assert r"soft\_bins" in latex
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in body}) == 1
    assert "4 of 8 combinations done" in (tmp_path / "results.txt").read_text()


def test_subset_scores_stand_beside_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(tmp_path / "evaluated", choices=FEW, n=30, test=80)
    row = table(capsys, sweep)[0]
    content = json.loads((Path(row["run"]) / "evaluation.json").read_text())
    assert float(row["pearson_score"]) == content["pearson_score"]["value"]
    assert {subset["name"]: float(row[f"rho_{subset['name']}"]) for subset in content["subsets"]} == {
        subset["name"]: subset["spearman_rho"]["value"] for subset in content["subsets"]
    }
    assert "Pearson score" in output_of(capsys, sweep)
    assert "r_SNVs".replace("_", " ") in output_of(capsys, sweep, "--columns", "slots,subsets")


def test_each_task_of_an_evaluation_has_its_own_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(tmp_path / "tasks", choices=FEW, n=30)
    names = ("dev", "log2(RNA/DNA)")
    for i, run in enumerate(sorted(path.parent for path in sweep.glob("*/metrics.json"))):
        scores = [(name, 0.1 * i + 0.05 * j) for j, name in enumerate(names)]
        tasks = [
            {"name": name, "pearson_r": {"value": r, "interval": None}, "spearman_rho": {"value": -r, "interval": None}}
            for name, r in scores
        ]
        (run / "evaluation.json").write_text(json.dumps({"simulated": False, "tasks": tasks}))
    rows = table(capsys, sweep, "--sort", "r_dev")
    assert [float(row["r_dev"]) for row in rows] == pytest.approx([0.1 * i for i in range(7, -1, -1)])
    rhos = [float(row["rho_log2(RNA/DNA)"]) for row in rows]
    assert rhos == pytest.approx([-0.1 * i - 0.05 for i in range(7, -1, -1)])
    assert "r_all" not in rows[0]
    assert len(table(capsys, sweep, "--where", "r_log2(RNA/DNA)>0.5")) == 3
    assert "r log2(RNA/DNA)" in output_of(capsys, sweep, "--columns", "slots,r_dev,r_log2(RNA/DNA)")
    assert main(["results", str(sweep), "--columns", "r_hk"]) == 2
    one = json.loads((Path(rows[0]["run"]) / "evaluation.json").read_text())
    (Path(rows[0]["run"]) / "evaluation.json").write_text(json.dumps({**one, "tasks": one["tasks"][:1]}))
    assert float(table(capsys, sweep, "--where", f"run={rows[0]['run']}")[0]["r_all"]) == pytest.approx(0.7)


def test_every_view_is_shown_on_an_unfinished_sweep(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = output_of(capsys, sweep, "--effects", "--ranks", "--pareto", "--against", sweep)
    for words in (
        "too few to tell parts from chance",
        "Average ranks on the validation",
        "Pareto fronts",
        "new against old",
    ):
        assert words in out
    assert out.count("SIMULATED") == 4


def test_nothing_is_done_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(
        tmp_path / "begun", choices=FEW, n=30, running={BHI: 1}, missing=[n for n in _names() if n != BHI]
    )
    assert "0 of 8 combinations done" in output_of(capsys, sweep)
    assert "No finished run has a Pearson r yet" in output_of(capsys, sweep, "--effects")
    assert main(["results", str(sweep), "--ranks"]) == 2


def test_scores_that_are_simulated_say_so_before_any_run_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = {"choices": FEW, "n": 30, "running": {BHI: 1}, "missing": [n for n in _names() if n != BHI]}
    assert "0 of 8 combinations done. SIMULATED assay" in output_of(capsys, make_grid(tmp_path / "begun", **begun))
    real = make_grid(tmp_path / "real", simulated=False, **begun)
    assert "SIMULATED" not in output_of(capsys, real)
    assert {row["simulated"] for row in table(capsys, tmp_path / "begun", "--where", "state=running")} == {"True"}


def test_what_was_evaluated_on_a_simulated_test_set_is_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_grid(tmp_path / "real", choices=FEW, n=30, test=80, simulated=False)
    assert "SIMULATED" not in output_of(capsys, sweep)
    for file in sweep.glob("*/evaluation.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "simulated": True}))
    assert "SIMULATED" in output_of(capsys, sweep)


@pytest.mark.parametrize(
    "view", [("--effects",), ("--ranks",), ("--pareto",), ("--against", "real"), ("--columns", "core,kl")]
)
def test_tables_for_programs_have_a_column_that_says_simulated(
    view: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    real, assay = (
        make_grid(tmp_path / name, choices=FEW, n=30, simulated=name == "assay") for name in ("real", "assay")
    )
    assert {row["simulated"] for row in table(capsys, assay, *view)} == {"True"}
    assert all("simulated" not in row for row in table(capsys, real, *view))
    assert main(["results", str(assay), *view, "-o", "out.parquet"]) == 0
    assert pd.read_parquet("out.parquet")["simulated"].all()


def _names() -> list[str]:
    return [f"{r}+{f}+{c}+{e}" for r in FEW["recipe"] for f in FEW["first"] for c in FEW["core"] for e in FEW["final"]]


def test_torch_is_not_needed(sweep: Path) -> None:
    arguments = ["results", str(sweep), "--effects", "--ranks", "--against", str(sweep)]
    code = f"import sys; from prixfixe.cli import main; main({arguments!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_long_work_says_how_far_it_is(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prixfixe.common.progress.QUIET", 1e9)
    assert main(["results", str(sweep), "--ranks"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("prixfixe.common.progress.QUIET", 0.0)
    monkeypatch.setattr("prixfixe.common.progress.EVERY", 0.0)
    monkeypatch.setattr("prixfixe.analysis.ranks.COUNTS_AT_ONCE", 40 * 4000)
    assert main(["results", str(sweep), "--ranks"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", left ")[0] for line in lines] == [
        f"scores of 4 runs on 10,000 bootstrap samples: {n} %" for n in (40, 80)
    ]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(["results", str(sweep), "--ranks"]) == 0
    assert capsys.readouterr().err.endswith("\r\x1b[K"), "a terminal's line is taken away again"


@pytest.mark.parametrize(
    ("final", "targets", "blank"),
    [
        ("_target_: blocks.final.mlp.MLP", {}, True),
        ("_target_: blocks.final.soft_bins.SoftBins\n  loss: kl", {}, False),
        ("_target_: blocks.final.soft_bins.SoftBins\n  loss: mse", {}, True),
        ("_target_: blocks.final.mlp.MLP", {"residual_sd": [1.5]}, False),
        ("_target_: blocks.final.soft_bins.SoftBins\n  loss: kl", {"residual_sd": None}, False),
    ],
)
def test_the_kl_that_version_0_1_gave_to_a_scalar_prediction_is_blank(
    final: str, targets: dict[str, object], blank: bool, tmp_path: Path
) -> None:
    folder = make_grid(tmp_path / "sweep", choices=FEW, n=10)
    (run, *others) = sorted(folder.glob("*+*"))
    lines = (run / "config.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("final:")]
    (run / "config.yaml").write_text("\n".join([*kept, "final:", f"  {final}", ""]))
    (run / "targets.json").write_text(json.dumps({"tasks": ["expression"], **targets}))
    rows = {Path(row["run"]).name: row for row in collect([folder]).rows}
    assert (rows[run.name]["kl"] is None) is blank
    assert rows[run.name]["pearson_r"] is not None
    assert all(rows[other.name]["kl"] is not None for other in others)
