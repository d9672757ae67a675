"""What a sweep in a pool shows while it runs: its grid on a terminal, a line a job elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prixfixe.common.errors import InputError
from prixfixe.common.progress import duration
from prixfixe.common.text import printable, printable_lines
from prixfixe.runs.folder import SLOTS, RunFolder
from prixfixe.runs.reader import number_in, read_history
from prixfixe.sweeps.plan import end_line, record_end
from prixfixe.sweeps.pool import JobError, JobRaisedError, JobStoppedError, JobTimeoutError, Watcher
from prixfixe.tasks.scores import by_name, declared

EVERY = 1.0  # seconds between two looks at how far the running jobs are


def watch(folder: Path, asked: Sequence[str], names: Sequence[str], at_a_time: int) -> LineView:
    """The view for a sweep: the grid where standard error is a terminal and the sweep is one, lines elsewhere.

    asked: all of the sweep, those done before included. names: those that are run now, in the pool's order.
    """
    if sys.stderr.isatty() and len({slots(name) for name in asked}) > 1:
        return GridView(folder, asked, names, at_a_time)
    return LineView(folder, names)


class LineView(Watcher):
    """Says in a line how each job has ended, and records it for those that could not do so themselves.

    It counts by itself: to read all runs' folders at every end takes hours with thousands.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.name_width = max(map(len, names), default=0)
        self.start = time.monotonic()
        self.over: set[int] = set()
        self.began: dict[str, float] = {}
        self.tried_again: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.tried_again:
            tries = (f"{name} ({times} times)" if times > 1 else name for name, times in self.tried_again.items())
            print(f"tried again: {printable(', '.join(tries))}", file=sys.stderr)

    def started(self, index: int, tries: int) -> None:
        self.over.discard(index)
        self.began[self.names[index]] = time.time()
        if tries > 1:
            self.tried_again[self.names[index]] = tries - 1

    def ended(self, index: int, outcome: Any, again: bool) -> None:
        self.over.add(index)
        name = self.names[index]
        if not isinstance(outcome, JobError):
            self.say_end(index, outcome, None)
            return
        try:
            recorded = self.record(name, outcome)
        except (InputError, OSError) as error:
            print(printable(f"{name}: {outcome}; that could not be recorded: {error}"), file=sys.stderr)
        else:
            if recorded and not again:
                self.say_end(index, None, str(outcome))
            elif not recorded and isinstance(outcome, JobRaisedError):
                self.say_end(index, None, outcome.message)
        if again:
            print(printable(f"{name} is tried again: {outcome}"), file=sys.stderr)

    def record(self, name: str, outcome: JobError) -> bool:
        """Records why a job failed, unless its run has done so, was not begun, or is another process's."""
        run = RunFolder(self.folder / name)
        if isinstance(outcome, JobRaisedError) and outcome.kind == "BusyError":
            return False
        if isinstance(outcome, JobStoppedError) and run.status().get("state") != "running":
            return False
        overrule = isinstance(outcome, JobTimeoutError)
        return record_end(run, str(outcome), self.began.get(name, 0.0), overrule=overrule)

    def say_end(self, index: int, metrics: Mapping[str, Any] | None, reason: str | None) -> None:
        """A job's last line, with its number among all; and the time left, where it has scores."""
        total = len(self.names)
        ended = end_line(self.names[index].ljust(self.name_width), metrics, reason)
        text = f"[{len(self.over):>{len(str(total))}}/{total}] {ended}"
        if metrics is not None:
            left = (time.monotonic() - self.start) / max(len(self.over), 1) * (total - len(self.over))
            text += f"  left {duration(left)}"
        self.said(index, text)

    def said(self, index: int, text: str) -> None:
        print(printable_lines(text), file=sys.stderr)

    def stopping(self, running: int, grace: float) -> None:
        rest = f"{running} jobs have {grace:g} s to save where they are; Ctrl-C again does not wait"
        print(f"stopping: {rest}", file=sys.stderr)


@dataclass
class Cell:
    """How far one combination is."""

    state: str = "waiting"  # running, done, failed
    score: str = ""  # as text
    began: float = 0.0  # of this try, time.monotonic()
    epoch: int = 0
    epochs: int = 0


STYLES = {"waiting": "dim", "running": "bold yellow", "done": "green", "failed": "bold red"}
SYMBOLS = {"waiting": "·", "running": "▸", "done": "✓", "failed": "✗"}


class GridView(LineView):
    """The combinations as a table: core and first layers down, recipe and final layers across; how far each one is."""

    capture = True

    def __init__(self, folder: Path, asked: Sequence[str], names: Sequence[str], at_a_time: int) -> None:
        super().__init__(folder, names)
        self.at_a_time = at_a_time
        self.cells = {name: Cell() for name in asked}
        self.next_look = 0.0
        self.durations: list[float] = []
        self.last_failure = ""
        self.now = ""
        for name in set(asked) - set(names):
            self.settle(name)

    def __enter__(self) -> Self:
        self.live = Live(self.render(), console=Console(stderr=True), auto_refresh=False, vertical_overflow="crop")
        self.live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.live.update(self.render(), refresh=True)
        self.live.stop()
        super().__exit__(*error)

    def started(self, index: int, tries: int) -> None:
        super().started(index, tries)
        cell = self.cells[self.names[index]]
        cell.state, cell.began = "running", time.monotonic()

    def ended(self, index: int, outcome: Any, again: bool) -> None:
        super().ended(index, outcome, again)
        name = self.names[index]
        if again:
            self.cells[name] = Cell()
        elif isinstance(outcome, JobStoppedError):
            self.cells[name].state = "waiting"
        elif isinstance(outcome, JobError):
            self.cells[name].state = "failed"
            self.last_failure = printable(f"{name}: {outcome}")
        else:
            self.durations.append(time.monotonic() - self.cells[name].began)
            self.settle(name)

    def stopping(self, running: int, grace: float) -> None:
        super().stopping(running, grace)
        self.now = "stopping"

    def tick(self) -> None:
        if time.monotonic() > self.next_look:
            self.next_look = time.monotonic() + EVERY
            for name, cell in self.cells.items():
                if cell.state == "running":
                    cell.epoch, cell.epochs = epochs_done(RunFolder(self.folder / name), cell.epochs)
            self.live.update(self.render(), refresh=True)

    def settle(self, name: str) -> None:
        """A combination that is done, now or from an earlier start."""
        cell = self.cells[name]
        cell.state = "done"
        try:
            metrics = RunFolder(self.folder / name).metrics()
            select = str(metrics.get("select", "pearson_r"))
            score = by_name(declared(metrics)).get(select)
            cell.score = score.text(metrics.get(select)) if score else ""
        except (InputError, OSError):
            return

    def seconds_left(self) -> float | None:
        """From the mean time of the jobs that ended in this start, or of those that have done an epoch; else None."""
        now = time.monotonic()
        running = [cell for cell in self.cells.values() if cell.state == "running"]
        known = self.durations or [(now - cell.began) / cell.epoch * cell.epochs for cell in running if cell.epoch]
        if not known:
            return None
        mean = statistics.fmean(known)
        waiting = sum(cell.state == "waiting" for cell in self.cells.values())
        rest = [max(0.0, mean - (now - cell.began)) for cell in running]
        return max((mean * waiting + sum(rest)) / self.at_a_time, max(rest, default=0.0))

    def render(self) -> Group:
        """The grid, as large as the terminal allows, and what there is to say below it."""
        console = Console(stderr=True)
        running = [(name, cell) for name, cell in self.cells.items() if cell.state == "running"]
        below = [self.summary()]
        below += [line(f"▸ {printable(name)}  {progress(cell)}", "running") for name, cell in running[:8]]
        if len(running) > 8:
            below.append(line(f"  and {len(running) - 8} more", "running"))
        if self.last_failure:
            below.append(line(f"✗ last failure: {self.last_failure}", "failed"))
        for cell_width in (7, 5, 1):
            grid = self.grid(cell_width)
            width = console.measure(grid, options=console.options.update(width=10_000)).maximum
            if width <= console.width and grid.row_count + len(below) < console.height:
                return Group(grid, *below)
        return Group(*below)

    def summary(self) -> Text:
        states = [cell.state for cell in self.cells.values()]
        text = line("")
        for state in ("done", "running", "waiting", "failed"):
            if count := states.count(state):
                text.append(f"{count} {state}  ", STYLES[state])
        text.append(f"{duration(time.monotonic() - self.start)} so far")
        left = self.seconds_left()
        if self.now:
            text.append(f", {self.now}")
        elif left is not None and {"running", "waiting"} & {*states}:
            text.append(f", about {duration(left)} left")
        return text

    def grid(self, cell_width: int) -> Table:
        """The table: core in major rows, first in minor ones, recipe in major columns, final in minor ones."""
        places: dict[tuple[str, ...], list[Cell]] = {}
        for name, cell in self.cells.items():
            places.setdefault(slots(name), []).append(cell)
        recipes, firsts, cores, finals = map(dict.fromkeys, zip(*places, strict=True))
        block = len(finals) * (cell_width + 1)  # the columns of one recipe
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
        for title, labels in (("core", cores), ("first", firsts)):
            table.add_column(width=max(map(len, (title, *labels))), no_wrap=True)
        for _ in recipes:
            table.add_column(width=block, no_wrap=True)
        table.add_row("", "", *(Text(fit(recipe, block - 1), style="bold") for recipe in recipes))
        if cell_width > 1:
            minor = " ".join(fit(final, cell_width) for final in finals)
            table.add_row("core", "first", *[minor] * len(recipes), style="dim")
        for core in cores:
            for first in firsts:
                row = [Text() for _ in recipes]
                for text, recipe in zip(row, recipes, strict=True):
                    for final in finals:
                        content, state = cells_that_fit(places.get((recipe, first, core, final), []), cell_width)
                        text.append(fit(content, cell_width) + " ", STYLES.get(state, ""))
                table.add_row(Text(core if first == next(iter(firsts)) else "", style="bold"), Text(first), *row)
        return table


def line(text: str, state: str = "") -> Text:
    """A line that is cut where the terminal ends."""
    return Text(text, style=STYLES.get(state, ""), no_wrap=True, overflow="ellipsis")


def slots(name: str) -> tuple[str, ...]:
    """autosome+conv+bilstm+mlp+seed3 -> (autosome, conv, bilstm, mlp)."""
    return tuple((printable(name).split("+") + [""] * len(SLOTS))[: len(SLOTS)])


def cells_that_fit(cells: Sequence[Cell], width: int) -> tuple[str, str]:
    """What stands at one place of the grid, and in which state's colour; several runs (seeds, variants) share one."""
    states = [cell.state for cell in cells]
    state = next((state for state in ("failed", "running", "waiting", "done") if state in states), "")
    if width == 1 or not cells:
        return SYMBOLS.get(state, " "), state
    if len(cells) > 1:
        return f"{states.count('done')}/{len(cells)}", state
    [cell] = cells
    if state == "done":
        return (SYMBOLS[state] if cell.score in ("", "-") else cell.score), state
    if state == "running":
        return f"▸{100 * cell.epoch // cell.epochs}%" if cell.epochs else "▸", state
    return SYMBOLS[state], state


def fit(text: str, width: int) -> str:
    """Text of exactly this width."""
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…" if width > 1 else text[:width]


def progress(cell: Cell) -> str:
    epochs = f"epoch {min(cell.epoch + 1, cell.epochs)}/{cell.epochs}  " if cell.epochs else ""
    return epochs + duration(time.monotonic() - cell.began)


def epochs_done(run: RunFolder, epochs: int) -> tuple[int, int]:
    """The epochs that a running job has done, and those it is to do (0 until it is known)."""
    try:
        done = len(read_history(run.history_file).get("epoch", ()))
        return done, epochs or number_in(run.config(), "training", "epochs")
    except InputError:
        return 0, 0
