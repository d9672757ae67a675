"""`prixfixe design` and `mutate --agreement`: what is designed keeps to its constraints, is worth its model calls, and
is scored anew."""

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ONE_OF_EACH, compose, demo, random_strings, reverse_complement
from safetensors.torch import save_file

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.contract import Spec, TargetSpec
from prixfixe.data.flanks import Construct
from prixfixe.data.sequences import Sequences
from prixfixe.inference import design as designing
from prixfixe.inference.constraints import Constraints, fixed_positions, gc_range
from prixfixe.inference.design import Search, Settings, evolve, starts_of
from prixfixe.inference.disagreement import crowding, fronts
from prixfixe.inference.model import Model
from prixfixe.inference.patterns import chosen_pattern, consensus, read_patterns
from prixfixe.inference.predictor import Predictor
from prixfixe.inference.tangermeme_model import TangermemeModel
from prixfixe.menu.check import example_task
from prixfixe.networks.network import build
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.targets import save_targets
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe, build_task

LEFT, RIGHT = "TGCATTTTTTTCACATC", "GGTTACGGCTGTT"
INSERT = 40
BUILT = Construct(LEFT, RIGHT, INSERT, (0.3, 0.2, 0.2, 0.3))
METHODS = ("random", "greedy", "genetic", "gradient")
SMALL = {
    "efficientnet": ("first.channels=8", "core.widths=[8]"),
    "bilstm": ("first.channels=8", "core.hidden=8"),
    "proformer": ("first.channels=16",),
}


def make_model(combination: tuple[str, ...], tasks: tuple[str, ...] = ("expression",), seed: int = 0) -> Model:
    """A network of random weights, whose predictions are spread as a trained one's."""
    config = demo(*combination, *(SMALL[combination[2]] if combination[1] != "parallel_conv" else ()))
    task = example_task(TargetSpec(tasks, (8.0,) * len(tasks), (3.0,) * len(tasks), Bins(), construct=BUILT))
    torch.manual_seed(seed)
    recipe = build_recipe(config)
    return Model(build(recipe, config, task), recipe, task, torch.device("cpu"), name=f"model {seed}")


@pytest.fixture(scope="module", params=ONE_OF_EACH, ids="+".join)
def model(request: pytest.FixtureRequest) -> Model:
    return make_model(request.param)


@pytest.fixture(scope="module")
def cnn() -> Model:
    return make_model(ONE_OF_EACH[0])


@pytest.fixture(scope="module")
def judge() -> Model:
    return make_model(ONE_OF_EACH[0], seed=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two run folders, as training would leave them."""
    folders = []
    for seed in range(2):
        config = demo(*ONE_OF_EACH[0], *SMALL["efficientnet"])
        one = make_model(ONE_OF_EACH[0], seed=seed)
        folder = RunFolder(tmp_path_factory.mktemp("runs") / f"run_{seed}")
        folder.path.mkdir()
        folder.config_file.write_text(yaml.safe_dump(config))
        save_targets(folder, one.task)
        save_file(one.network.state_dict(), folder.weights_file)
        folders.append(folder.path)
    return folders


def counted(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sequences were asked for, one number a chunk; a backward pass counts as two more forward ones."""
    calls: list[int] = []
    launch, forward = Model.launch, TangermemeModel.forward

    def counted_launch(self: Model, chunk: Any, batch_size: int | None = None) -> Any:
        if self is predictor:
            calls.append(len(chunk))
        return launch(self, chunk, batch_size)

    def counted_forward(self: TangermemeModel, x: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        calls.append(3 * len(x))
        return forward(self, x, *columns)

    monkeypatch.setattr(Model, "launch", counted_launch)
    monkeypatch.setattr(TangermemeModel, "forward", counted_forward)
    return calls


# what the methods are worth


def test_beats_random_search_at_equal_calls(model: Model) -> None:
    found = {}
    for method in ("random", "genetic", "gradient"):
        found[method] = model.design(method=method, number=3, calls=750, seed=2)["prediction"]
    assert min(found["genetic"].mean(), found["gradient"].mean()) > found["random"].mean() + found["random"].std()


@pytest.mark.parametrize("goal", ["highest", "lowest"])
def test_greedy_steps_beat_random_search_at_equal_calls(cnn: Model, goal: str) -> None:
    steps, at_random = (
        cnn.design(goal=goal, method=method, number=2, calls=12 * 3 * INSERT, seed=2)["prediction"].mean()
        for method in ("greedy", "random")
    )
    assert steps > at_random if goal == "highest" else steps < at_random


@pytest.mark.parametrize("method", METHODS)
def test_no_more_calls_than_are_paid_for(cnn: Model, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(cnn, monkeypatch)
    cnn.design(method=method, number=3, calls=301, seed=1)
    assert 3 * 200 < sum(calls) - 3 <= 3 * 301  # three more are the final strings, which are predicted anew


def test_what_was_chosen_is_what_the_final_string_predicts(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[Search] = []
    made = Search.__init__

    def noted(self: Search, *args: Any, **settings: Any) -> None:
        searches.append(self)
        made(self, *args, **settings)

    monkeypatch.setattr(Search, "__init__", noted)
    for method in METHODS:
        table = model.design(method=method, number=2, calls=120)
        assert np.allclose(searches.pop().best_scores, table["prediction"], atol=1e-4), method
        assert np.allclose(table["prediction"], model.predict(table["sequence"].tolist()), atol=1e-5), method


def test_a_wanted_value_is_met(cnn: Model) -> None:
    some = cnn.predict([LEFT + insert + RIGHT for insert in random_strings(200, INSERT)])
    wanted = float(np.quantile(some, 0.9))
    table = cnn.design(goal=wanted, number=3, calls=600)
    assert np.abs(table["prediction"] - wanted).max() < 0.1 * some.std()


def test_same_seed_same_designs(cnn: Model) -> None:
    for method in METHODS:
        first, again, other = (cnn.design(method=method, number=2, calls=200, seed=seed) for seed in (3, 3, 4))
        pd.testing.assert_frame_equal(first, again)
        assert set(first["sequence"]).isdisjoint(other["sequence"])


# constraints


@pytest.mark.parametrize("method", METHODS)
def test_constraints_hold(cnn: Model, judge: Model, method: str) -> None:
    starts = [LEFT + insert + RIGHT for insert in random_strings(4, INSERT, seed=5)]
    starts[0] = LEFT + "GAATTC" * 3 + "A" * (INSERT - 18) + RIGHT  # which breaks them at first
    table = cnn.design(
        start=starts,
        names=["a", "b", "c", "d"],
        method=method,
        judge=judge,
        calls=400,
        fixed="20-24",
        gc="0.42-0.48",
        forbid="GAATTC,CTNAG,GRCC",
        most_changes=18,
    )
    assert table.columns.tolist() == ["name", "sequence", "start", "changes", "prediction", "judge"]
    assert table["start"].tolist() == ["a", "b", "c", "d"]
    for start, row in zip(starts, table.itertuples(), strict=True):
        string = row.sequence
        assert len(string) == len(start)
        assert string.startswith(LEFT) and string.endswith(RIGHT) and string[20:24] == start[20:24]
        assert 0.42 <= sum(map(string.count, "GC")) / len(string) <= 0.48
        assert row.changes == sum(a != b for a, b in zip(string, start, strict=True)) <= 18
        for strand in (string, reverse_complement(string)):
            assert not re.search("GAATTC|CT[ACGT]AG|G[AG]CC", strand)
    assert np.allclose(table["judge"], judge.predict(table["sequence"].tolist()), atol=1e-5)


def test_random_inserts_are_built_as_the_training_sequences(cnn: Model) -> None:
    table = cnn.design(method="random", number=50, calls=2, judge=None)
    assert "start" not in table
    inserts = []
    for string in table["sequence"]:
        assert string.startswith(LEFT) and string.endswith(RIGHT)
        inserts.append(string[len(LEFT) : -len(RIGHT)])
    assert {len(insert) for insert in inserts} == {INSERT}
    letters = "".join(inserts)
    assert abs(letters.count("A") / len(letters) - 0.3) < 0.03 and abs(letters.count("C") / len(letters) - 0.2) < 0.03


def test_flanks_that_the_model_adds_are_not_in_the_design_and_sites_across_them_count() -> None:
    model = make_model(ONE_OF_EACH[0])
    model.flanks = (LEFT, RIGHT)
    table = model.design(number=4, calls=200, forbid="CGG,ATCA")
    assert set(table["sequence"].str.len()) == {INSERT}
    for string in table["sequence"]:
        across = "ATC" + string + "GG"  # where LEFT ends and RIGHT begins
        for strand in (across, reverse_complement(across)):
            assert "CGG" not in strand and "ATCA" not in strand


def test_starts_of_different_lengths_and_unknown_letters(cnn: Model) -> None:
    starts = [LEFT + "ACGT" * 10 + RIGHT, "ACNTACGTNNNNNNACGT", LEFT + "ACGT" * 9 + RIGHT]
    table = cnn.design(start=starts, method="greedy", calls=100, number=2, fixed="0-4")
    assert sorted(table["start"]) == ["0", "0", "1", "1", "2", "2"]
    for row in table.itertuples():
        assert len(row.sequence) == len(starts[int(row.start)]) and row.sequence[:4] == starts[int(row.start)][:4]
        assert "N" not in row.sequence[4:]


def test_a_site_that_cannot_be_avoided_is_named(cnn: Model) -> None:
    with pytest.raises(InputError, match="the forbidden site TTTTTT stands at position 4, where nothing may change"):
        cnn.design(forbid="TTTTTT")
    with pytest.raises(InputError, match="no change of its free positions was found"):
        cnn.design(start=[LEFT + "A" * INSERT + RIGHT], gc="0.9-1", most_changes=2)


def test_fixed_positions_and_gc_are_read() -> None:
    assert np.flatnonzero(fixed_positions("0-2,4-5", 6)).tolist() == [0, 1, 4]
    assert gc_range("0.3-0.6") == gc_range([0.3, 0.6]) == (0.3, 0.6)
    for wrong in ("3", "2-2", "0-7", "a-b", "-1-2"):
        with pytest.raises(InputError, match="--fixed"):
            fixed_positions(wrong, 6)
    for wrong in ("0.6-0.3", "30-60", "half"):
        with pytest.raises(InputError, match="--gc"):
            gc_range(wrong)


def test_violations_are_counted() -> None:
    codes = Sequences.from_strings(["GAATTCGAATTC", "ACACACACACAC", "GGGGGGNNNNNN"]).padded()
    limits = Constraints(np.ones(12, dtype=bool), (0.5, 0.5), (consensus("GAATTC"),), 3)
    starts = np.stack([codes[0], (codes[1] + 1) % 4, codes[2]])
    # 4 of 12 are G or C, two sites (a palindrome once); 12 changes of 3; 6 of 6 known letters and not 3
    assert limits.violations(codes, starts).tolist() == [2 + 2, 9, 3]


# other tasks


def test_several_tasks_ensembles_and_judges() -> None:
    model, judge = (make_model(("autosome", "conv", "efficientnet", "mlp"), ("Dev", "Hk"), seed) for seed in (0, 1))
    with pytest.raises(InputError, match="several tasks: choose one with --task: Dev, Hk"):
        model.design()
    for method in METHODS:
        table = model.design(task="Hk", judge=judge, method=method, number=2, calls=100)
        assert np.allclose(table["prediction"], model.predict(table["sequence"].tolist())[:, 1], atol=1e-4)
        assert np.allclose(table["judge"], judge.predict(table["sequence"].tolist())[:, 1], atol=1e-4)
    ensemble = prixfixe.inference.ensemble.Ensemble([model, judge])
    for method in METHODS:
        table = ensemble.design(task="Dev", method=method, number=2, calls=100)
        each = ensemble.predict_members(table["sequence"].tolist())[:, :, 0]
        assert np.allclose(table["spread"], each.std(axis=0, ddof=1), atol=1e-4)
        assert np.allclose(table["prediction"], each.mean(axis=0), atol=1e-4)


def test_probabilities_and_further_columns() -> None:
    """A plain recipe with a flag, of task binary: the start's rows bring the column."""
    config = compose("task=binary", "recipe=plain", "recipe.length=60", "recipe.flags=[gc]", "final=binary",
                     "first.channels=8", "core.widths=[8]", "training.device=cpu")  # fmt: skip
    spec = TargetSpec(("label",), (0.5,), (0.5,), columns={"gc": Spec((), torch.float32)}, construct=BUILT)
    task = build_task(config).with_spec(spec)
    torch.manual_seed(0)
    recipe = build_recipe(config)
    model = Model(build(recipe, config, task), recipe, task, torch.device("cpu"))
    starts, columns = random_strings(3, 60), {"gc": np.array([0.2, 0.5, 0.8])}
    for method in METHODS:
        table = model.design(start=starts, columns=columns, method=method, calls=100, most_changes=10)
        again = model.predict(table["sequence"].tolist(), columns=columns)
        assert np.allclose(table["prediction"], again, atol=1e-5) and ((again > 0) & (again < 1)).all()
        assert (again > model.predict(starts, columns=columns)).all()
    with pytest.raises(InputError, match="needs the columns gc"):
        model.design()


# disagreement


def test_fronts_and_crowding() -> None:
    points = np.random.default_rng(0).integers(0, 6, (40, 2)).astype(float)

    def dominated(point: np.ndarray, others: np.ndarray) -> bool:
        return any((other <= point).all() and (other < point).any() for other in others)

    left, expected = np.ones(40, dtype=bool), np.zeros(40, dtype=int)
    for number in itertools.count(1):
        if not left.any():
            break
        first = [row for row in np.flatnonzero(left) if not dominated(points[row], points[left])]
        expected[first], left[first] = number, False
    assert fronts(points).tolist() == expected.tolist()
    assert crowding(np.array([[0.0, 4], [1, 1], [4, 0]])).tolist() == [np.inf, 2.0, np.inf]


def test_disagreement_is_a_front_of_difference_over_changes(cnn: Model, judge: Model) -> None:
    table = cnn.design(goal="disagreement", judge=judge, number=2, calls=400, gc="0.3-0.7")
    assert set(table["start"]) == {"random_0", "random_1"}
    strings = table["sequence"].tolist()
    assert np.allclose(table["prediction"], cnn.predict(strings), atol=1e-4)
    assert np.allclose(table["judge"], judge.predict(strings), atol=1e-4)
    for _, own in table.groupby("start"):
        points = np.stack([-own["disagreement"], own["changes"]], axis=1)
        assert own["front"].tolist() == fronts(points).tolist()
        first = own[own["front"] == 1].sort_values("changes")
        assert (np.diff(first["disagreement"]) > 0).all() and len(first) > 3
        unchanged = own[own["changes"] == 0]["disagreement"].max()
        assert first["disagreement"].max() > unchanged + 1  # in standard deviations
    with pytest.raises(InputError, match="goal disagreement is between two models"):
        cnn.design(goal="disagreement")


# motifs


def test_tiling_puts_the_motif_everywhere_in_both_orientations(cnn: Model) -> None:
    from prixfixe.inference.perturbation import tiled

    start = LEFT + random_strings(1, INSERT)[0] + RIGHT
    table = tiled(cnn, "TGACTCA,GAATTC", start=[start], names=["here"])
    first = table.iloc[0]
    assert (first["name"], first["sequence"], first["effect"]) == ("here", start, 0)
    assert (table["alt_pos"] == np.arange(len(table))).all() and (table["ref_pos"] == 0).all()
    found = {(row.motif, int(row.position), row.strand): row for row in table.iloc[1:].itertuples()}
    places = {"TGACTCA": INSERT - 6, "GAATTC": INSERT - 5}
    assert len(found) == len(table) - 1 == 2 * places["TGACTCA"] + places["GAATTC"]  # a palindrome is put once
    for (motif, position, strand), row in found.items():
        put = motif if strand == "+" else reverse_complement(motif)
        assert row.sequence == start[:position] + put + start[position + len(motif) :]
    predictions = cnn.predict(table["sequence"].tolist())
    assert np.allclose(table["prediction"], predictions, atol=1e-4)
    assert np.allclose(table["effect"], predictions - predictions[0], atol=1e-4)


def test_perturbing_takes_every_occurrence_away(cnn: Model) -> None:
    from prixfixe.inference.perturbation import perturbed

    insert = "ACGTTGACTCAAGGCCTGAGTCATTTTGACTGAGTCATGC"
    starts = [LEFT + insert + RIGHT, LEFT + "AC" * 20 + RIGHT]
    table = perturbed(cnn, "TGASTCA,GGC=ATA", start=starts)
    assert table["ref_pos"].tolist() == [0, 0, 0, 3]
    shuffled, replaced = table.iloc[1], table.iloc[2]
    for string in (shuffled["sequence"], reverse_complement(shuffled["sequence"])):
        assert not re.search("TGA[CG]TCA", string[13:-13])
    assert shuffled["position"] == "21,33,47"
    inside = starts[0][17:-13].replace("GGC", "ATA")
    assert replaced["sequence"] == LEFT + re.sub("GCC", "TAT", inside) + RIGHT
    with pytest.raises(InputError, match="fits nearly all letters"):
        perturbed(cnn, "NN", start=starts)
    with pytest.raises(InputError, match="3 letters wide, and AA 2"):
        perturbed(cnn, "GGC=AA", start=starts)


def test_motifs_of_a_meme_file(tmp_path: Path) -> None:
    file = tmp_path / "motifs.meme"
    file.write_text(
        "MEME version 4\n\nALPHABET= ACGT\n\nMOTIF M1 ABF1\nletter-probability matrix: alength= 4 w= 3 nsites= 9\n"
        " 1.0 0.0 0.0 0.0\n 0.4 0.3 0.2 0.1\n 0.0 0.0 0.1 0.9\n"
    )
    known = read_patterns(file)
    pattern = chosen_pattern("ABF1", known)
    assert pattern.allowed.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(InputError, match="write a consensus"):
        chosen_pattern("REB1", known)


# the commands


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), sep="\t")


def test_design_command(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, second = map(str, runs)
    assert main(["design", run, "--number", "2", "--calls", "100"]) == 0
    said = capsys.readouterr()
    assert "of the model that chose these sequences" in said.err
    assert read(said.out).columns.tolist() == ["name", "sequence", "prediction"]
    start, output, front = tmp_path / "start.fa", tmp_path / "designs.csv", tmp_path / "front.png"
    start.write_text(f">here\n{LEFT}{'ACGT' * 10}{RIGHT}\n")
    arguments = ["--start", str(start), "--calls", "100", "--judge", second, "-o", str(output)]
    assert main(["design", run, *arguments, "--most-changes", "4", "--goal", "lowest"]) == 0
    table = pd.read_csv(output)
    assert table["start"].tolist() == ["here"] and table["changes"].max() <= 4 and "judge" in table
    assert main(["design", run, *arguments, "--goal", "disagreement", "--plot", str(front)]) == 0
    assert front.read_bytes().startswith(b"\x89PNG") and "front" in pd.read_csv(output)
    capsys.readouterr()
    for action in (["--tile", "TGACTCA"], ["--perturb", "ACGTA"]):
        assert main(["design", run, "--start", str(start), *action]) == 0
        assert {"alt_pos", "ref_pos", "effect"} <= set(read(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--judge", "{run}"], "is among the runs that choose"),
        (["--goal", "best"], "--goal best: choose highest, lowest, a number, or disagreement"),
        (["--task", "nothing"], "no task nothing: choose one with --task: expression"),
        (["--most-changes", "3"], "has no start to change"),
        (["--gc", "60-30"], "--gc 60-30"),
        (["--forbid", "GAAXTC"], "write a consensus in the IUPAC letters"),
        (["--fixed", "0-999"], "within the 70 letters"),
        (["--plot", "x.png"], "--plot draws the Pareto front of --goal disagreement"),
        (["--motifs", "x.meme"], "add one of these"),
        (["--calls", "0"], "1 or more"),
        (["--goal", "disagreement", "--method", "greedy"], "leave out --method"),
        (["--tile", "TGACTCA", "--most-changes", "3"], "--most-changes is of designs"),
        (["--tile", "TGACTCA", "--perturb", "TGACTCA"], "give one at a time"),
    ],
)
def test_what_is_wrong_is_said(
    runs: list[Path], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["design", str(runs[0]), *(part.format(run=runs[0]) for part in arguments)]) == 2
    output = capsys.readouterr()
    assert said in output.err and output.out == ""


def test_agreement_of_maps(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strings = [*random_strings(12, 70), "ACGTN" * 14]
    data, table, picture = tmp_path / "data.txt", tmp_path / "agreement.tsv", tmp_path / "agreement.svg"
    data.write_text("\n".join(strings) + "\n")
    files = ["--agreement", str(table), "--agreement", str(picture)]
    assert main(["mutate", *map(str, runs), str(data), *files]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "run_0 and run_1: mean Pearson r of 13 maps" in said.err
    found = pd.read_csv(table, sep="\t", dtype={"name": str})
    assert found.columns.tolist() == ["name", "run_a", "run_b", "pearson_r"]
    assert set(found["run_a"]) == {"run_0"} and set(found["run_b"]) == {"run_1"} and "<svg" in picture.read_text()
    alone: list[Iterator[Any]] = [prixfixe.load(run, device="cpu").mutagenesis(strings) for run in runs]
    flat: Callable[[Any], np.ndarray] = lambda one: np.array(one.table(("expression",))["effect"])  # noqa: E731
    for r, first, second in zip(found["pearson_r"], *alone, strict=True):
        assert r == pytest.approx(np.corrcoef(flat(first), flat(second))[0, 1], abs=1e-4)
    assert main(["mutate", str(runs[0]), str(data), *files]) == 2
    assert "--agreement is of several runs" in capsys.readouterr().err


def test_populations_hold_a_sequence_once(cnn: Model) -> None:
    rng = np.random.default_rng(0)
    [(starts, free)] = starts_of(cnn, None, None, 2, None, rng)

    def score(codes: np.ndarray, owner: np.ndarray) -> np.ndarray:
        return designing.predicted(cnn, starts.of(codes, owner), 0)[0]

    search = Search(score, starts, Constraints(free), Settings(0, 600, rng, None, lambda amount: None))
    codes, scores = evolve(search, lambda codes, scores, start: scores)
    for own, values in zip(codes, scores, strict=True):
        assert len(np.unique(own, axis=0)) == len(own) and (np.diff(values) <= 0).all()


def test_real_promoters_keep_their_flanks(cnn: Model, real_data: Path) -> None:
    with open(real_data / "yeast" / "random_promoters.txt") as file:
        starts = [line.split()[0] for line in itertools.islice(file, 3)]
    table = cnn.design(start=starts, calls=60, most_changes=5)
    for start, row in zip(starts, table.itertuples(), strict=True):
        assert row.sequence.startswith(LEFT) and row.sequence.endswith(RIGHT) and len(row.sequence) == len(start)
        assert 0 < row.changes <= 5


def test_random_starts_are_whole_also_where_they_stay(cnn: Model) -> None:
    for settings in ({"method": "random"}, {"method": "greedy"}):
        table = cnn.design(fixed=f"{len(LEFT)}-{len(LEFT) + 4}", number=2, calls=40, **settings)
        assert not table.sequence.str.contains("N").any()


@pytest.mark.parametrize(
    "wrong",
    [{"calls": 2.5}, {"number": "3"}, {"most_changes": 0}, {"seed": -1}, {"fixed": [(0, 3)]}, {"goal": None}],
    ids=str,
)
def test_settings_from_python_are_judged(wrong: dict[str, Any], cnn: Model) -> None:
    with pytest.raises(InputError):
        cnn.design(**{"calls": 20, "number": 1, **wrong})


def test_no_model_judges_itself(cnn: Model) -> None:
    for wrong in (cnn, "runs/other"):
        with pytest.raises(InputError, match="judge is a second model"):
            cnn.design(calls=20, number=1, judge=wrong)
