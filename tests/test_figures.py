import itertools
import math
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from fabricated_runs import make_grid

from prixfixe import figures
from prixfixe.analysis.effects import interactions, part_effects, variance_shares
from prixfixe.analysis.grid import SYMBOLS, lay_out
from prixfixe.analysis.ranks import bootstrap_ranks, cd_groups
from prixfixe.analysis.results import Curve, collect
from prixfixe.figures.heat_map import colour_scale
from prixfixe.figures.style import OKABE_ITO, ink, short
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.reader import read_history
from prixfixe.tasks.scores import EXPRESSION, KL, PEARSON, by_name

Row = dict[str, Any]
PARTS = {
    "recipe": ("autosome", "bhi", "unlockdna"),
    "first": ("conv", "kmer", "parallel_conv"),
    "core": ("bilstm", "efficientnet", "proformer"),
    "final": ("expression_heads", "mlp", "soft_bins"),
}


def rows(simulated: bool = False, **more: tuple[str, ...]) -> list[Row]:
    """A grid with a planted score: every combination of PARTS, and of more choices of some slots."""
    choices = {slot: (*names, *more.get(slot, ())) for slot, names in PARTS.items()}
    made = []
    for number, values in enumerate(itertools.product(*choices.values())):
        row: Row = dict(zip(choices, values, strict=True))
        r = 0.5 + 0.05 * (row["core"] == "bilstm") + 0.02 * (row["recipe"] == "bhi") + 0.001 * math.sin(number)
        row |= {
            "state": "done",
            "reason": None,
            "seed": 0,
            "seeds": 1,
            "variant": None,
            "pearson_r": r,
            "kl": 3 - r,
            "simulated": simulated,
        }
        row |= {"pearson_r": r, "kl": 3 - r}
        row |= {
            "parameters": 1000 + 37 * number,
            "training_seconds": 10.0 + number,
            "inference_per_second": 5000.0 - number,
        }
        made.append(row | {"run": f"runs/grid/{'+'.join(values)}"})
    return made


def texts(figure: Any) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(matplotlib.text.Text) if artist.get_text()]


def test_heat_map_has_every_value_once_and_all_labels() -> None:
    grid = rows()
    figure = figures.heat_map(grid, PEARSON)
    shown = sorted(text for text in texts(figure.axes[0]) if re.fullmatch(r"0\.\d{3}", text))
    assert shown == sorted(f"{row['pearson_r']:.3f}" for row in grid)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == list(PARTS["final"]) * 3
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(PARTS["first"]) * 3
    assert {*PARTS["core"], *PARTS["recipe"]} <= set(texts(figure))


def test_layout_is_that_of_the_paper() -> None:
    grid = lay_out(rows(), PEARSON)
    assert grid.major_rows == [("bilstm", 0, 2), ("efficientnet", 3, 5), ("proformer", 6, 8)]
    assert grid.major_columns == [("autosome", 0, 2), ("bhi", 3, 5), ("unlockdna", 6, 8)]
    cell = grid.cells[4, 7].row
    assert (cell["core"], cell["first"], cell["recipe"], cell["final"]) == ("efficientnet", "kmer", "unlockdna", "mlp")


def test_cells_without_a_score_are_grey_and_explained_and_others_left_white() -> None:
    grid = rows()
    for number, state in enumerate(("failed", "missing", "running", "stopped")):
        grid[number] |= {"state": state, "pearson_r": None}
    grid[4]["pearson_r"] = math.nan
    figure = figures.heat_map(grid[:-2], PEARSON)
    symbols = [text for text in texts(figure.axes[0]) if text in SYMBOLS.values()]
    assert sorted(symbols) == sorted(SYMBOLS.values())
    grey = [patch for patch in figure.axes[0].patches if patch.get_width() == 1]
    assert len(grey) == 5
    assert all(f"{SYMBOLS[state]}  {state}" in figure.get_supxlabel() for state in SYMBOLS)
    assert len(lay_out(grid[:-2], PEARSON).cells) == 79


def test_extra_blocks_and_single_runs_fit() -> None:
    wide = figures.heat_map(rows(core=("resnet_of_my_own",), final=("quantiles", "mixture")), PEARSON)
    assert len([text for text in texts(wide.axes[0]) if re.fullmatch(r"0\.\d{3}", text)]) == 4 * 3 * 3 * 5
    assert "0.500" in texts(figures.heat_map(rows()[3:4], PEARSON))
    nothing = [row | {"state": "missing", "pearson_r": None} for row in rows()]
    assert texts(figures.heat_map(nothing, PEARSON)).count(SYMBOLS["missing"]) == 81


def test_numbers_are_left_out_where_they_do_not_fit() -> None:
    many = rows(final=tuple(f"final{i}" for i in range(40)))
    assert not [text for text in texts(figures.heat_map(many, PEARSON).axes[0]) if re.fullmatch(r"0\.\d{3}", text)]


@pytest.mark.parametrize(
    ("score", "best_is_low"), [("pearson_r", False), ("spearman_rho", False), ("kl", True), ("mse", True)]
)
def test_bright_is_good(score: str, best_is_low: bool) -> None:
    values = np.linspace(0.2, 0.6, 9)
    declared = by_name(EXPRESSION)[score]
    colour_map, norm = colour_scale(values, declared)
    brightness = [float(np.dot([0.2126, 0.7152, 0.0722], colour_map(norm(value))[:3])) for value in values]
    assert brightness == sorted(brightness, reverse=best_is_low)
    bar = figures.heat_map([row | {score: row["pearson_r"]} for row in rows()], declared).axes[1]
    assert bar.yaxis_inverted() == best_is_low
    assert ("lower is better" in bar.get_ylabel()) == best_is_low


def test_several_rows_on_a_cell_show_the_best_and_say_so() -> None:
    first = rows()[0]
    again = [
        first | {"variant": "small", "pearson_r": 0.7, "kl": 5.0},
        first | {"variant": "large", "pearson_r": 0.6, "kl": 1.0},
    ]
    assert lay_out([first, *again], PEARSON).cells[0, 0].value == 0.7
    assert lay_out([first, *again], KL).cells[0, 0].value == 1.0


def test_simulated_rows_are_labelled_in_every_figure_that_sees_rows() -> None:
    for simulated in (False, True):
        grid = rows(simulated)
        curves = [Curve(grid[0], {"epoch": [1, 2], "pearson_r": [0.1, 0.2], "loss": [2, 1]})]
        drawn = [
            figures.heat_map(grid, KL),
            figures.cost_scatter(grid, KL),
            figures.learning_curves(curves, [PEARSON, KL]),
        ]
        assert [figure.get_suptitle() for figure in drawn] == ["SIMULATED assay" if simulated else ""] * 3


def test_effects_show_every_part_filled_where_it_is_beyond_chance() -> None:
    effects = part_effects(rows(), PEARSON)
    figure = figures.effect_forest(effects, PEARSON)
    names = {name for parts in PARTS.values() for name in parts}
    assert names <= set(texts(figure))
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    sure = [e for e in effects if e.other == "others" and e.p_adjusted is not None and e.p_adjusted < 0.05]
    assert len(dots) == 12
    assert sum(line.get_markerfacecolor() != "white" for line in dots) == len(sure) > 0


def test_effects_of_a_slot_of_two_and_of_too_few_pairs() -> None:
    two = [row for row in rows() if row["core"] != "proformer"]
    assert "bilstm against efficientnet" in texts(figures.effect_forest(part_effects(two, PEARSON), PEARSON))
    few = [row for row in rows() if row["core"] == "bilstm" and row["first"] == "conv"]
    assert "-" in texts(figures.effect_forest(part_effects(few, PEARSON), PEARSON))  # no interval, no p


def test_variance_and_interactions_name_their_terms() -> None:
    grid = rows()
    bars = figures.variance_bars(variance_shares(grid, PEARSON), PEARSON)
    labels = [label.get_text() for label in bars.axes[0].get_yticklabels()]
    assert labels[-1] == "residual"
    assert {"core", "recipe", "first", "final"} < set(labels)
    assert len(labels) == 11
    widths = [patch.get_width() for patch in bars.axes[0].patches]
    assert sum(widths) == pytest.approx(100)
    matrix = figures.interaction_matrix(interactions(grid, PEARSON), PEARSON)
    assert len(matrix.axes[0].texts) == 6 * 9
    assert int((~np.ma.getmaskarray(matrix.axes[0].images[0].get_array())).sum()) == 6 * 9


def test_costs_name_the_front_and_number_it_without_overlap() -> None:
    grid = [
        row | {"pearson_r": 0.5 + 0.0004 * number} for number, row in enumerate(rows()[:30])
    ]  # all are on two of the fronts
    figure = figures.cost_scatter(grid, PEARSON)
    key = next(text for text in texts(figure.axes[0]) if text.startswith("Pareto front"))
    assert len(key.splitlines()) == 31
    assert "30  " + " + ".join(grid[-1][slot] for slot in PARTS) in key
    numbers = [text for text in figure.axes[0].texts if text.get_text().isdigit()]
    boxes = [text.get_window_extent() for text in numbers[:10]]
    assert len(numbers) == 30
    assert not any(a.shrunk(0.6, 0.6).overlaps(b.shrunk(0.6, 0.6)) for a, b in itertools.combinations(boxes, 2))


def test_costs_leave_out_what_nobody_measured() -> None:
    grid = [row | {"training_seconds": None} for row in rows()]
    labels = [axes.get_xlabel() for axes in figures.cost_scatter(grid, PEARSON).axes]
    assert labels == ["trainable parameters", "inference rate (sequences/s)"]


def test_learning_curves_draw_every_run_and_name_the_best(tmp_path: Path) -> None:
    sweep = make_grid(
        tmp_path / "sweep", choices=PARTS | {"first": ("conv",), "final": ("mlp",)}, n=20, predictions=False, epochs=5
    )
    done = collect([sweep]).done
    curves = [Curve(row, read_history(RunFolder(Path(row["run"])).history_file)) for row in done]
    figure = figures.learning_curves(curves, [PEARSON, KL])
    for axes in figure.axes:
        assert sum(len(line.get_xdata()) == 5 for line in axes.lines) == 9
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "validation Pearson r",
        "validation KL",
        "training loss",
    ]
    best = " + ".join(done[0][slot] for slot in PARTS)
    assert f"best: {best}" in texts(figure)


def test_ranks_and_critical_differences_name_every_model(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "sweep", choices=PARTS | {"first": ("conv",), "final": ("mlp",)}, n=200, epochs=1)
    done = collect([sweep]).done
    ranks = bootstrap_ranks([RunFolder(Path(row["run"])) for row in done], samples=50)
    figure = figures.average_ranks(ranks, {name: name.split("+")[2] for name in ranks.names})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        name.replace("+", " + ") for name in ranks.names
    ]
    assert any("50 bootstrap samples of 10 % of the validation set" in text for text in texts(figure))

    one = cd_groups(np.array([[3.0, 2.9, 0.0]] * 12 + [[2.9, 3.0, 0.0]] * 12), ["a", "b", "c"], "blocks")
    diagram = figures.critical_difference({"core": one})
    assert {"a (1.50)", "b (1.50)", "c (3.00)"} <= set(texts(diagram))
    assert sum(line.get_linewidth() == 3 for line in diagram.axes[0].lines) == len(one.groups) == 1


def test_saved_figures_are_the_same_every_time_and_settings_stay(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for kind in ("svg", "pdf"):
        for copy in ("one", "two"):
            (tmp_path / copy).mkdir(exist_ok=True)
            figures.save(figures.heat_map(rows()[:9], PEARSON), tmp_path / copy / f"grid.{kind}")
        assert (tmp_path / "one" / f"grid.{kind}").read_bytes() == (tmp_path / "two" / f"grid.{kind}").read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert (
        ">expression_heads</text>" in (tmp_path / "one" / "grid.svg").read_text()
    )  # text that can be searched and edited


def test_svg_for_a_page_has_ids_of_its_own_and_words_for_those_who_cannot_see_it() -> None:
    svgs = [figures.as_svg(figures.heat_map(rows()[:9], PEARSON), name, 'a "quote" & <b>') for name in ("one", "two")]
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in svgs]
    assert ids[0].isdisjoint(ids[1])
    for svg, known in zip(svgs, ids, strict=True):
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
        assert used
        assert used <= known
        assert 'aria-label="a &quot;quote&quot; &amp; &lt;b&gt;"' in svg
        assert "<?xml" not in svg


def test_ink_is_readable_on_every_colour() -> None:
    def luminance(colour: Any) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for colour in [*matplotlib.colormaps["viridis"](np.linspace(0, 1, 50)), *map(matplotlib.colors.to_rgba, OKABE_ITO)]:
        one, other = sorted((luminance(colour[:3]), luminance(ink(colour))))
        assert (other + 0.05) / (one + 0.05) > 4.5  # WCAG 2, level AA


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (20, "20"), (1500, "1.5k"), (2_000_000, "2M"), (3e9, "3G")])
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text
