"""Sequences for the highest, the lowest or a wanted prediction, within constraints.

Every design is developed from a start of its own, with its own number of model calls, by one of

1. random: random inserts, or of a given start random changes; the best of them.
2. greedy: the best single substitution each round, from the whole mutagenesis; where not all of it can be paid for, a
   random part. It ends where none is better.
3. genetic: a population, from which tournaments choose parents; two-point crossover, mutation, and the best of parents
   and children live on (Vaishnav et al. 2022, Nature 603:455, evolve yeast promoters so).
4. gradient: letters drawn by probabilities that gradient descent moves, with a price on every change (Ledidi, Schreiber
   and Lu 2020, bioRxiv 2020.05.21.109686): `prixfixe.inference.editing`.

All are paid the same way: a call is one sequence through the model (all members of an ensemble, both strands). A
sequence that breaks a constraint is repaired before it is predicted, and never chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.progress import slow_work
from prixfixe.common.text import printable
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import N, Sequences
from prixfixe.inference.constraints import Constraints, fixed_positions, forbidden_sites, gc_range
from prixfixe.inference.ensemble import spread
from prixfixe.inference.mutagenesis import BASES, substitutions
from prixfixe.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

CALLS = 2000  # of the model, a design
NUMBER = 10  # designs without given starts
AT_ONCE = 64  # calls a design between two looks at what is left, where sequences do not depend on those before
ROUNDS_AT_ONCE = 16  # designs whose mutants are in memory together
POPULATION, TOURNAMENT = 50, 3
MUTATIONS = 2.0  # of a child, on average
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # codes (m, L), owner (m,) -> (m,), the higher the better


def objective(goal: str | float) -> Callable[[Any], Any]:
    """What is to be large, of predictions (numpy or torch): highest, lowest, or near a number. InputError otherwise."""
    if goal == "highest":
        return lambda predictions: predictions
    if goal == "lowest":
        return lambda predictions: -predictions
    try:
        wanted = float(goal)
    except (ValueError, TypeError):
        wanted = float("nan")
    if not np.isfinite(wanted):
        raise InputError(f"--goal {printable(goal, 40)}: choose highest, lowest, a number, or disagreement")
    return lambda predictions: -abs(predictions - wanted)


@dataclass(frozen=True)
class Starts:
    """n starts of one length L. rows: with their further columns. names: of the sequences given, or None where they are
    random. letters: the shares of A C G T that random letters are drawn with."""

    rows: Measurements
    names: list[str] | None
    letters: tuple[float, ...] = (0.25,) * BASES

    @property
    def codes(self) -> np.ndarray:
        return self.rows.sequences.padded()

    def of(self, codes: np.ndarray, owner: np.ndarray) -> Measurements:
        """Sequences in place of their starts, which give the further columns. codes: (m, L). owner: int64 (m,)."""
        sequences = Sequences.from_padded(codes, np.full(len(codes), codes.shape[1]))
        return replace(self.rows[owner], sequences=sequences)


@dataclass(frozen=True)
class Settings:
    """task: its number. calls: of the model, a design. rng: what all random numbers are drawn from. advance: is told of
    calls that are made."""

    task: int
    calls: int
    rng: np.random.Generator
    batch_size: int | None
    advance: Callable[[int], None]


class Search:
    """n designs side by side, each with its start, its model calls that are left, and the best sequence so far."""

    def __init__(self, score: Score, starts: Starts, limits: Constraints, settings: Settings) -> None:
        self.score, self.given, self.limits, self.rng = score, starts, limits, settings.rng
        self.places = np.flatnonzero(limits.free)
        self.starts = limits.repaired(starts.codes, starts.codes, self.rng)
        self.origin = starts.codes  # what changes are counted from
        broken = limits.violations(self.starts, self.origin)
        if broken.any():
            row = int(np.flatnonzero(broken)[0])
            which = f"start {row + 1}" if starts.names is None else printable(starts.names[row], 60)
            reason = limits.unavoidable(self.starts[broken > 0]) or (
                "no change of its free positions was found that keeps to --gc, --forbid and --most-changes"
            )
            raise InputError(f"{which} breaks the constraints: {reason}; loosen one of them")
        self.left, self.advance = np.full(len(self.starts), settings.calls), settings.advance
        self.best, self.best_scores = self.starts.copy(), np.full(len(self.starts), -np.inf)

    def evaluate(self, codes: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """The scores of sequences that keep to the constraints, (m,); -inf of those that a design has no calls for.
        owner: int64 (m,), in order, of which design each is."""
        taken = np.arange(len(owner)) - np.searchsorted(owner, owner) < self.left[owner]
        scores = np.full(len(owner), -np.inf)
        if taken.any():
            scores[taken] = self.score(codes[taken], owner[taken])
        self.left -= np.bincount(owner[taken], minlength=len(self.left))
        self.advance(int(taken.sum()))
        self.note(codes, owner, scores)
        return scores

    def note(self, codes: np.ndarray, owner: np.ndarray, scores: np.ndarray) -> None:
        """Keeps the best of each design."""
        order = np.lexsort((scores, owner))
        last = order[np.append(np.flatnonzero(np.diff(owner[order])), len(order) - 1)] if len(order) else order
        better = last[scores[last] > self.best_scores[owner[last]]]
        self.best[owner[better]], self.best_scores[owner[better]] = codes[better], scores[better]

    def repaired(self, codes: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Sequences that keep to the constraints: those that could not be brought to it are their start again."""
        codes = self.limits.repaired(codes, self.origin[owner], self.rng)
        broken = self.limits.violations(codes, self.origin[owner]) > 0
        codes[broken] = self.starts[owner[broken]]
        return codes

    def fresh(self, owner: np.ndarray) -> np.ndarray:
        """Random sequences: random letters at all free positions, or, of a given start, at 1 to as many as may change:
        uint8 (m, L)."""
        codes, free = self.starts[owner], len(self.places)
        if self.given.names is None:
            drawn = self.rng.choice(BASES, (len(owner), free), p=self.given.letters)
            codes[:, self.places] = drawn
            return self.repaired(codes, owner)
        most = min(self.limits.most_changes or free, free)
        count = self.rng.integers(1, most + 1, len(owner))
        chosen = self.rng.random((len(owner), free)).argsort(axis=1) < count[:, None]
        inside = codes[:, self.places]
        codes[:, self.places] = np.where(chosen, (inside + self.rng.integers(1, BASES, inside.shape)) % BASES, inside)
        return self.repaired(codes, owner)


def random_search(search: Search) -> None:
    while search.left.any():
        owner = np.arange(len(search.left)).repeat(np.minimum(search.left, AT_ONCE))
        search.evaluate(search.fresh(owner), owner)


def greedy(search: Search) -> None:
    designs = np.arange(len(search.starts))
    now, scores = search.starts.copy(), search.evaluate(search.starts, designs)
    going = designs
    while len(going := going[search.left[going] > 0]):
        for some in np.array_split(going, -(-len(going) // ROUNDS_AT_ONCE)):  # memory goes with these
            mutants = [_mutants(now[design], search.origin[design], search) for design in some]
            search.evaluate(np.concatenate(mutants), some.repeat([len(one) for one in mutants]))
        going = going[search.best_scores[going] > scores[going]]
        now[going], scores[going] = search.best[going], search.best_scores[going]


def _mutants(codes: np.ndarray, origin: np.ndarray, search: Search) -> np.ndarray:
    """All single substitutions at free positions that keep to the constraints, in a random order: (m, L)."""
    place = search.places.repeat(BASES - 1)
    mutants = np.repeat(codes[None], len(place), axis=0)
    mutants[np.arange(len(place)), place] = substitutions(codes[search.places])
    mutants = mutants[search.rng.permutation(len(mutants))]
    return mutants[search.limits.violations(mutants, origin[None]) == 0]


Fitness = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def genetic(search: Search) -> None:
    evolve(search, lambda codes, scores, start: scores)


def evolve(search: Search, fitness: Fitness) -> tuple[np.ndarray, np.ndarray]:
    """The last population of each design and its scores: (n, P, L) and (n, P), as far as calls reach.

    fitness: of a design's sequences (m, L), with their scores (m,) and their start (L,), who rather lives on: (m,).
    """
    n, length = search.starts.shape
    size = max(min(POPULATION, int(search.left.min()) // 10), 2)
    owner = np.arange(n).repeat(size)
    codes = search.fresh(owner).reshape(n, size, length)
    if search.given.names is not None:
        codes[:, 0] = search.starts
    scores = search.evaluate(codes.reshape(-1, length), owner).reshape(n, size)
    while search.left.any():
        parents = np.stack(
            [_tournament(codes[i], fitness(codes[i], scores[i], search.origin[i]), search.rng) for i in range(n)]
        )
        children = search.repaired(_children(parents.reshape(-1, 2, length), search), owner)
        scored = search.evaluate(children, owner).reshape(n, size)
        codes = np.concatenate([codes, children.reshape(n, size, length)], axis=1)
        scores = np.concatenate([scores, scored], axis=1)
        kept = []
        for i in range(n):
            unlike = np.zeros(2 * size, dtype=bool)  # a sequence lives once
            unlike[np.unique(codes[i], axis=0, return_index=True)[1]] = True
            fit = np.where(unlike & np.isfinite(scores[i]), fitness(codes[i], scores[i], search.origin[i]), -np.inf)
            kept.append(np.argsort(-fit, kind="stable")[:size])
        rows = np.arange(n)[:, None]
        codes, scores = codes[rows, np.stack(kept)], scores[rows, np.stack(kept)]
    return codes, scores


def _tournament(codes: np.ndarray, fit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pairs of parents, as many as there are sequences: (P, 2, L), each the fittest of some that are drawn."""
    drawn = rng.integers(0, len(codes), (len(codes), 2, TOURNAMENT))
    return codes[np.take_along_axis(drawn, fit[drawn].argmax(axis=2)[..., None], axis=2)[..., 0]]


def _children(parents: np.ndarray, search: Search) -> np.ndarray:
    """(m, 2, L) -> (m, L): a stretch of the second parent within the first, and random letters at some free places."""
    m, _, length = parents.shape
    cuts = np.sort(search.rng.integers(0, length + 1, (m, 2)), axis=1)
    place = np.arange(length)
    children = np.where((cuts[:, :1] <= place) & (place < cuts[:, 1:]), parents[:, 1], parents[:, 0])
    free = len(search.places)
    mutated = search.rng.random((m, free)) < MUTATIONS / max(free, 1)
    inside = children[:, search.places]
    drawn = (inside + search.rng.integers(1, BASES, inside.shape)) % BASES
    children[:, search.places] = np.where(mutated, drawn, inside)
    return np.asarray(children, dtype=np.uint8)


def starts_of(
    model: Predictor,
    start: Sequence[str] | Measurements | None,
    names: Sequence[str] | None,
    number: int | None,
    fixed: str | None,
    rng: np.random.Generator,
    columns: Mapping[str, Any] | None = None,
) -> list[tuple[Starts, np.ndarray]]:
    """Starts in groups of one length, each with the positions that may change, bool (L,): neither the constant ends of
    the training sequences nor what `fixed` says.

    start: None is `number` random inserts between these ends; InputError of a run that kept no construct. Of given
    sequences, `number` of each. N at a position that may change becomes a random letter; elsewhere it stays.
    """
    built = model.construct
    if start is None:
        if built is None:
            raise InputError(
                f"{model.name} was trained by an older version and keeps nothing of how its sequences are built: give "
                "sequences to start from, --start FILE"
            )
        if model.needs:
            raise InputError(
                f"{model.name} needs the columns {', '.join(model.needs)} beside the sequences: give a table that has "
                "them, and sequences to start from, --start FILE"
            )
        template = built.left + "N" * built.insert + built.right
        left, right = map(len, model.flanks)  # the model puts them there itself
        rows = model.rows_of([template[left : len(template) - right]])
        called, count = None, number or NUMBER
    else:
        rows = start if isinstance(start, Measurements) else model.rows_of(start, columns or {})
        called, count = list(map(str, range(len(rows)))) if names is None else list(names), number or 1
    composition = (0.25,) * BASES if built is None else built.composition
    members: dict[bytes, list[int]] = {}
    for row, string in enumerate(rows.sequences.to_strings()):
        free = ~fixed_positions(fixed, len(string))
        if built is not None and start is not None:
            free &= ~_ends(string, built.left, built.right)
        elif built is not None:
            free &= np.array([letter == "N" for letter in string])
        members.setdefault(free.tobytes(), []).extend([row] * count)
    groups = []
    for key, chosen in members.items():
        free, own = np.frombuffer(key, dtype=bool), rows[np.array(chosen)]
        codes = own.sequences.padded()
        holes = (codes == N) & (free | (start is None))  # a random insert is whole, also where it then stays
        codes[holes] = rng.choice(BASES, int(holes.sum()), p=composition)
        free = free & (codes < N).all(axis=0)
        if not free.any():
            raise InputError("no position may change: the constant ends and --fixed leave none")
        own = replace(own, sequences=Sequences.from_padded(codes, own.sequences.lengths))
        groups.append((Starts(own, None if called is None else [called[row] for row in chosen], composition), free))
    return groups


def _ends(string: str, left: str, right: str) -> np.ndarray:
    """Which positions are of constant ends that a sequence has: bool (L,)."""
    ends = np.zeros(len(string), dtype=bool)
    if len(string) > len(left) + len(right):
        ends[: len(left)] = string.startswith(left)
        ends[len(string) - len(right) :] = string.endswith(right)
    return ends


def design(
    model: Predictor,
    *,
    goal: str | float = "highest",
    method: str = "genetic",
    number: int | None = None,
    start: Sequence[str] | Measurements | None = None,
    names: Sequence[str] | None = None,
    judge: Predictor | None = None,
    task: str | None = None,
    calls: int = CALLS,
    fixed: str | None = None,
    gc: str | Sequence[float] | None = None,
    forbid: str | Sequence[str] | None = None,
    most_changes: int | None = None,
    columns: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """See `Predictor.design`. A row a design; of goal disagreement a row a sequence of the last populations."""
    import pandas as pd

    for what, value in {"calls": calls, "number": number, "most_changes": most_changes}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"{what}={printable(value, 40)}: a whole number, at least 1")
    if type(seed) is not int or seed < 0:
        raise InputError(f"seed={printable(seed, 40)}: a whole number, at least 0")
    if judge is not None and (judge is model or not isinstance(judge, Predictor)):
        raise InputError("judge is a second model, as prixfixe.load gives it: one that did not choose")
    if start is None and most_changes is not None and method in ("genetic", "random") and goal != "disagreement":
        raise InputError(f"method {method} has no start to change: give one (--start), or leave out --most-changes")
    rng = np.random.default_rng(seed)
    share, sites = gc_range(gc), forbidden_sites(forbid)
    groups = starts_of(model, start, names, number, fixed, rng, columns)
    if goal == "disagreement":
        from prixfixe.inference.disagreement import disagreeing as design_group

        if method != "genetic":
            raise InputError("goal disagreement is reached by method genetic: leave out --method")
    else:
        design_group = partial(_designed, goal=goal, method=method)
    tables = []
    with slow_work("design", calls * sum(len(starts.rows) for starts, _ in groups)) as advance:
        for starts, free in groups:
            limits = Constraints(free, share, sites, most_changes, model.flanks)
            settings = Settings(task_of(model, task), calls, rng, batch_size, advance)
            tables.append(design_group(model, judge, starts, limits, settings))
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "name", [f"design_{row}" for row in range(len(table))])
    return table


def task_of(model: Predictor, task: str | None) -> int:
    """The number of a task by its name, which may be left out of a single one. InputError otherwise."""
    if task is None and len(model.tasks) == 1:
        return 0
    if task not in model.tasks:
        said = "several tasks" if task is None else f"no task {printable(task, 60)}"
        raise InputError(
            f"{model.name} predicts {said}: choose one with --task: {printable(', '.join(model.tasks), 300)}"
        )
    return model.tasks.index(task)


def predicted(
    model: Predictor, rows: Measurements, task: int, batch_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the spread of the members for one task: (n,) both."""
    size = model.chunk_rows(batch_size)
    chunks = (rows[first : first + size] for first in range(0, len(rows), size))
    found = np.concatenate(list(model.predict_member_chunks(chunks, batch_size=batch_size)), axis=1)
    values = found.reshape(len(model.members), len(rows), -1)[:, :, task]
    return values.mean(axis=0), spread(values)


def _designed(
    model: Predictor,
    judge: Predictor | None,
    starts: Starts,
    limits: Constraints,
    settings: Settings,
    *,
    goal: str | float,
    method: str,
) -> pd.DataFrame:
    better, task, batch_size = objective(goal), settings.task, settings.batch_size

    def score(codes: np.ndarray, owner: np.ndarray) -> np.ndarray:
        return np.asarray(better(predicted(model, starts.of(codes, owner), task, batch_size)[0]))

    search = Search(score, starts, limits, settings)
    if method == "gradient":
        from prixfixe.inference.editing import gradient

        gradient(search, model, task, better)
    elif method in METHODS:
        METHODS[method](search)
    else:
        raise InputError(f"--method {printable(method, 40)}: choose one of {', '.join((*METHODS, 'gradient'))}")
    return final_table(search, search.best, np.arange(len(search.best)), model, judge, task, batch_size)


METHODS: Mapping[str, Callable[[Search], None]] = {"random": random_search, "greedy": greedy, "genetic": genetic}


def final_table(
    search: Search,
    codes: np.ndarray,
    owner: np.ndarray,
    model: Predictor,
    judge: Predictor | None,
    task: int,
    batch_size: int | None,
) -> pd.DataFrame:
    """The final strings, sequence, and of given starts start and changes; and what is predicted of them: prediction and
    judge, and the spread of each that is an ensemble.

    The strings are read anew, predicted anew, and every constraint is checked on them: RuntimeError where one is
    broken, which would be an error of the search.
    """
    import pandas as pd

    width = codes.shape[1]
    strings = Sequences.from_padded(codes, np.full(len(codes), width)).to_strings()
    read = Sequences.from_strings(strings)
    final, origin = read.padded(width), search.origin[owner]
    if ((final != origin) & ~search.limits.free).any() or search.limits.violations(final, origin).any():
        raise RuntimeError("a designed sequence breaks a constraint: this is an error in the search, please report it")
    table = pd.DataFrame({"sequence": strings})
    if search.given.names is not None:
        table["start"] = [search.given.names[row] for row in owner]
        table["changes"] = (final != origin).sum(axis=1)
    rows = replace(search.given.rows[owner], sequences=read)
    for name, one in (("prediction", model), ("judge", judge)):
        if one is None:
            continue
        number = task if one is model else task_of(one, model.tasks[task] if len(one.tasks) > 1 else None)
        table[name], deviation = predicted(one, rows, number, batch_size)
        if len(one.members) > 1:
            table["spread" if one is model else "judge_spread"] = deviation
    return table
