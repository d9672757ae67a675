"""What commands show in a terminal of some width: columns are left out whole, and numbers and names are never
broken."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from prixfixe.cli import main
from prixfixe.common.progress import TrainingProgress, columns_that_fit
from prixfixe.menu.check import example_task
from prixfixe.menu.parts import defaults, menu, partners
from prixfixe.sweeps.live_view import LineView

ROW = {"epoch": 6, "loss": 0.24924, "kl": 1.23456, "pearson_r": 0.5432, "spearman_rho": 0.5123}


def terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Makes standard error a terminal of this width, and returns what is written there."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    return stream


def bar_of(shown: TrainingProgress) -> str:
    """The bar as it stands in the terminal, which must hold it in one line."""
    assert shown.bar
    console = Console(file=io.StringIO(), width=shown.bar.console.width)
    console.print(shown.bar.get_renderable())
    assert isinstance(console.file, io.StringIO)
    [line] = console.file.getvalue().splitlines()
    return line


def test_what_does_not_fit_is_left_out_in_order() -> None:
    room = {"a": 10, "b": 20, "c": 30}
    assert columns_that_fit(room, 60, drop=("b", "a")) == ["a", "b", "c"]
    assert columns_that_fit(room, 59, drop=("b", "a")) == ["a", "c"]
    assert columns_that_fit(room, 39, drop=("b", "a")) == ["c"]
    assert columns_that_fit(room, 5, drop=("b", "a")) == ["c"], "what matters stays"


@pytest.mark.parametrize("steps", [18, 482560])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_the_training_bar_keeps_epoch_steps_and_loss_whole(
    width: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(width, monkeypatch)
    shown = TrainingProgress(steps, 6, example_task(), begun=steps - 1, show=True)
    shown.after_step(6, 1024, 0.24924)
    line = bar_of(shown)
    assert len(line) <= width
    if width >= 60:
        assert line.startswith("epoch 6/6 ")
        assert f"{steps}/{steps} steps  loss 0.2492" in line
        assert "…" not in line
    assert ("━━━" in line) == ("samples/s" in line) == (width >= (80 if steps == 18 else 100))


def test_the_training_bar_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(120, monkeypatch)
    shown = TrainingProgress(20, 6, example_task(), begun=9, show=True)
    shown.after_step(3, 1024, 0.5)
    assert "samples/s" in bar_of(shown)
    assert shown.bar
    shown.bar.console.width = 60
    for _ in range(10):
        shown.after_step(6, 1024, 0.24924)
    assert "20/20 steps  loss 0.2492" in bar_of(shown)
    assert "samples/s" not in bar_of(shown)


@pytest.mark.parametrize("width", [60, 70, 80, 120])
def test_an_epochs_line_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(width, monkeypatch)
    shown = TrainingProgress(18, 6, example_task(), begun=17, show=True)
    shown.step = 18
    shown.after_epoch(ROW)
    [line] = stream.getvalue().splitlines()
    assert line.startswith("epoch 6/6  loss 0.2492  KL 1.235  r 0.543  rho 0.512")
    assert line.endswith("left 0:00") == (width >= 70)
    assert ("samples/s" in line) == (width >= 80)


def test_an_epochs_line_in_a_file_is_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = TrainingProgress(18, 6, example_task(), begun=18, show=True)
    shown.after_epoch(ROW)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 6/6  loss 0.2492  KL 1.235  r 0.543  rho 0.512  0 samples/s  left ")


@pytest.mark.parametrize(
    ("width", "left_out"), [(60, {"takes", "values"}), (80, {"values"}), (120, set())], ids=["60", "80", "120"]
)
def test_the_menu_never_breaks_a_number_or_a_name(
    width: int, left_out: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prixfixe.common.progress.wide_console", lambda: Console(width=width))
    assert main(["blocks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    titles = ["slot", "choice", "takes", "gives", "parameters", "values"]
    assert lines[0].split() == [title for title in titles if title not in left_out]
    parts = menu()
    found = [line for line in lines if any(part.name == word for part in parts for word in line[8:].split()[:1])]
    assert len(found) == len(parts), "a row begins with a name that is whole"
    [bilstm] = [line for line in found if "bilstm" in line]
    assert re.search(r"\(batch, 320, 150\) +3,937,600", bilstm)
    if width == 120:
        words = {word for line in lines for word in line.split()}
        assert {"squeeze_excitation=True,", "position_embedding=True", "kernel_sizes=[9,"} <= words
    below = " ".join(" ".join(line.split()) for line in lines if line not in found)
    assert "beside " + " ".join(f"{slot}={name}" for slot, name in defaults().items()) in below
    assert ("Left out at this width: " + ", ".join(sorted(left_out)) in below) == bool(left_out)


def test_a_part_is_tried_beside_the_defaults() -> None:
    parts = menu()
    slots = {"recipe": "autosome", "first": "conv", "core": "efficientnet", "final": "soft_bins"}
    assert defaults() == {"task": "expression", "dataset": "simulated", **slots}
    [bilstm] = [part for part in parts if part.name == "bilstm"]
    tried = partners(parts, bilstm)
    assert [tried[group]["_target_"] for group in ("task", "dataset", *slots)] == [
        "prixfixe.tasks.expression.Expression",
        "prixfixe.simulation.assay.Simulated",
        "blocks.recipe.autosome.Autosome",
        "blocks.first.conv.Conv",
        "blocks.core.bilstm.BiLSTM",
        "blocks.final.soft_bins.SoftBins",
    ]


def test_the_lines_of_a_sweep_are_aligned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        "bhi+conv+bilstm+mlp",
        "unlockdna+parallel_conv+efficientnet+expression_heads",
        "bhi+conv+bilstm+mlp+" + "wide" * 12,
    ]
    with LineView(tmp_path, names) as view:
        for index in range(3):
            view.started(index, 1)
            view.ended(index, {"kl": 1.0, "pearson_r": 0.5, "spearman_rho": 0.4, "training_seconds": 2.5}, False)
    lines = capsys.readouterr().err.splitlines()
    assert {line.index(" KL ") for line in lines} == {len("[1/3] ") + max(map(len, names))}
