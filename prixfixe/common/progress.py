"""What is said while something takes its time: a bar on a terminal, lines elsewhere; of a run's training, one an
epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from prixfixe.common.text import printable

if TYPE_CHECKING:
    from prixfixe.tasks.task import Task

QUIET = 2.0  # seconds that work may take without a word
EVERY = 5.0  # seconds between two lines about it, where standard error is no terminal


WHOLE = Column(no_wrap=True)  # all but the bar itself, which shrinks before any text does
COLUMNS: dict[str, tuple[ProgressColumn, ...]] = {
    "epoch": (TextColumn("{task.description}"),),
    "bar": (BarColumn(),),
    "steps": (MofNCompleteColumn(table_column=WHOLE),),
    "loss": (TextColumn("steps  loss {task.fields[loss]}"),),
    "rate": (TextColumn("{task.fields[rate]} samples/s"),),
    "elapsed": (TimeElapsedColumn(table_column=WHOLE),),
    "left": (TextColumn("left"), TimeRemainingColumn(table_column=WHOLE)),
}


class TrainingProgress:
    """Shows the steps, the loss, the rate and the time left of one run on standard error."""

    def __init__(self, total_steps: int, epochs: int, task: Task, *, begun: int, show: bool) -> None:
        """task: whose scores are shown. begun: the steps that were done before this start."""
        self.scores = task.scores
        self.total_steps, self.epochs, self.begun, self.show = total_steps, epochs, begun, show
        self.began = time.monotonic()
        self.step, self.samples = begun, 0
        self.bar: Progress | None = None
        if show and sys.stderr.isatty():
            self.bar = Progress(console=Console(stderr=True))
            self.task = self.bar.add_task("epoch 1", total=total_steps, completed=begun, loss="-", rate="-")
            self.fit_terminal()

    def __enter__(self) -> TrainingProgress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def fit_terminal(self) -> None:
        """Chooses the bar's columns, by the room that each may come to need."""
        assert self.bar
        room = {
            "epoch": len(f"epoch {self.epochs}/{self.epochs} "),
            "bar": 5,  # it takes what there is, up to 40
            "steps": len(f"{self.total_steps}/{self.total_steps} "),
            "loss": len("steps  loss 00.0000 "),
            "rate": len("100,000 samples/s "),
            "elapsed": len("0:00:00 "),
            "left": len("left 0:00:00 "),
        }
        shown = columns_that_fit(room, self.bar.console.width + 1, drop=("bar", "rate", "elapsed", "left"))
        self.bar.columns = tuple(column for name in shown for column in COLUMNS[name])

    def after_step(self, epoch: int, samples: int, loss: Any) -> None:
        """loss: anything that `float` takes; read only when the bar is drawn, since a GPU has to be waited for."""
        self.step, self.samples = self.step + 1, self.samples + samples
        if self.bar and (self.step % 10 == 0 or self.step == self.total_steps):
            self.fit_terminal()
            self.bar.update(
                self.task,
                completed=self.step,
                description=f"epoch {epoch}/{self.epochs}",
                loss=f"{float(loss):.4f}",
                rate=f"{self.rate():,.0f}",
            )

    def after_epoch(self, row: dict[str, Any]) -> None:
        brief = [score for score in self.scores if score.on_a_line]
        scores = "  ".join(f"{score.brief} {score.text(row[score.name])}" for score in brief)
        parts = {
            "scores": f"epoch {row['epoch']}/{self.epochs}  loss {row.get('training_loss', row['loss']):.4f}  {scores}",
            "rate": f"  {self.rate():,.0f} samples/s",
            "left": f"  left {duration(self.seconds_left())}",
        }
        if self.bar:
            shown = columns_that_fit(
                {name: len(text) for name, text in parts.items()}, self.bar.console.width, drop=("rate", "left")
            )
            self.bar.console.print("".join(parts[name] for name in shown), highlight=False)
        elif self.show:
            print("".join(parts.values()), file=sys.stderr, flush=True)

    def rate(self) -> float:
        """Samples a second since the start, scoring included."""
        return self.samples / max(time.monotonic() - self.began, 1e-9)

    def seconds_left(self) -> float:
        return (time.monotonic() - self.began) / max(self.step - self.begun, 1) * (self.total_steps - self.step)


@contextmanager
def slow_work(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with each amount of work that is done, of `total`. What takes long says on standard
    error how far it is:
    in one line on a terminal, in a line every few seconds elsewhere."""
    began = time.monotonic()
    done, next_line, on_terminal = 0, began + QUIET, sys.stderr.isatty()

    def advance(amount: int) -> None:
        nonlocal done, next_line
        done, now = done + amount, time.monotonic()
        if next_line <= now and done < total:
            text = (
                f"{printable(what)}: {100 * done / total:.0f} %, left {duration((now - began) / done * (total - done))}"
            )
            print(
                f"\r{text}\x1b[K" if on_terminal else text, end="" if on_terminal else "\n", file=sys.stderr, flush=True
            )
            next_line = now + (0.5 if on_terminal else EVERY)

    try:
        yield advance
    finally:
        if on_terminal and next_line != began + QUIET:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def columns_that_fit(room: Mapping[str, int], width: int, *, drop: Sequence[str]) -> list[str]:
    """What stands side by side in `width` characters, of names and the room that each needs; `drop`: what is left out
    first, second, ..."""
    names = list(room)
    for name in drop:
        if sum(room[one] for one in names) > width:
            names.remove(name)
    return names


def duration(seconds: float) -> str:
    """0:07, 12:30, 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def wide_console() -> Console:
    """Standard output; where it is no terminal, wide enough for every table, since there is no edge to fit."""
    return Console() if sys.stdout.isatty() else Console(width=200)
