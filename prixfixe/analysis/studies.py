"""Studies: sweeps over values with a table and tests of their own, read from run folders alone; torch is not needed.

A `Study` says which values of config.yaml vary (its factors, by dotted key), how they are laid out, and which questions
are tested. The published ones stand in `prixfixe.dream.studies`; one of your own is as many lines (docs/studies.md).

The unit of every test is one choice of all factors. Seeds, folds and repeated sweeps are paired first and then averaged
within a unit, since runs that differ by these alone are no independent witnesses. Every question has tests of its own,
corrected among themselves (Holm).
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from prixfixe.analysis.comparable import settings_of, unlike_data, where_data_lie
from prixfixe.analysis.effects import MIN_PAIRS, holm, no_score, paired_test
from prixfixe.analysis.grid import SYMBOLS
from prixfixe.analysis.results import Results, Row, collect
from prixfixe.analysis.same_data import differing, some_of
from prixfixe.analysis.tables import Table
from prixfixe.analysis.views import any_simulated, commands, labelled, title
from prixfixe.common.errors import InputError
from prixfixe.common.text import counted
from prixfixe.tasks.scores import Score

TESTS = {"wilcoxon": "signed-rank", "mann_whitney": "rank-sum"}  # how the tests are called in the table
MIN_GROUP = 4  # with fewer on either side, a rank-sum test cannot give p < 0.05

NEEDED = object()  # the value of a factor whose key every run of the study must have

Levels = tuple[Any, ...]
Repeat = tuple[Any, ...]  # what tells runs of one unit apart: sweep, fold and seed
Units = Mapping[Levels, Mapping[Repeat, float]]


@dataclass(frozen=True)
class Factor:
    """A value that varies; a list is a tuple here.

    key: its dotted key in config.yaml. names: what some of its values are called, in the order in which they come
    first; form: what the others are called. short: headings of the table, where they are to be shorter than names.
    default: the value of runs that were made before there was such a key.
    """

    key: str
    names: Mapping[Any, str] = field(default_factory=dict)
    form: str = "{}"
    short: Mapping[Any, str] = field(default_factory=dict)
    default: Any = NEEDED

    def of(self, config: Mapping[str, Any]) -> Any:
        """The level of a run; NEEDED where its configuration has none."""
        return _as_level(config.get(self.key, self.default))

    def name(self, level: Any) -> str:
        return self.names.get(level) or self.form.format(_as_list(level))

    def sorted(self, levels: set[Any]) -> list[Any]:
        known = [level for level in self.names if level in levels]
        kind = {level: "" if isinstance(level, int | float) else type(level).__name__ for level in levels}
        return known + sorted(levels - set(known), key=lambda level: (kind[level], level))


@dataclass(frozen=True)
class Question:
    """Whether the levels of some factors (taken together, where there are several) differ.

    test: wilcoxon (signed-rank) pairs the runs that are equal in all other factors; mann_whitney (rank-sum) takes them
    as two groups. against: the level that every other one is compared with; None: every pair of levels. within: the
    factors at each of whose levels it is asked by itself.
    """

    factors: tuple[str, ...]
    test: Literal["wilcoxon", "mann_whitney"]
    against: Levels | None = None
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """factors: label -> factor. panels, rows, columns: labels of the factors, where they stand in the table.

    holds: keys and values that every run of the study has. follows: keys that vary along with a factor (all below them
    included).
    """

    name: str
    about: str
    factors: Mapping[str, Factor]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    questions: tuple[Question, ...]
    panels: tuple[str, ...] = ()
    holds: Mapping[str, str] = field(default_factory=dict)
    follows: tuple[str, ...] = ()

    def named(self, labels: Sequence[str], levels: Levels) -> str:
        """What some levels are called together: KL, or loss KL, is_reverse yes; a name that tells its factor, alone."""
        names = [self.factors[label].name(level) for label, level in zip(labels, levels, strict=True)]
        if len(names) == 1:
            return names[0]
        both = zip(labels, names, strict=True)
        return ", ".join(name if label in name else f"{label} {name}" for label, name in both)


@dataclass(frozen=True)
class StudyRuns:
    """levels: factor label -> level, and folds: the fold held out or None, of each of the rows. remarks: what the
    reader of the numbers has to know."""

    results: Results
    levels: list[dict[str, Any]]
    folds: list[Any]
    remarks: list[str]

    def of(self, labels: Sequence[str], index: int) -> Levels:
        return tuple(self.levels[index][label] for label in labels)

    def occurring(self, study: Study, labels: Sequence[str]) -> list[Levels]:
        """All combinations of the levels that occur, in order."""
        factors = [(study.factors[label], {levels[label] for levels in self.levels}) for label in labels]
        return list(itertools.product(*(factor.sorted(levels) for factor, levels in factors)))


def read_study(study: Study, folders: Sequence[Path]) -> StudyRuns:
    """The study's runs among those in some folders, planned ones included. InputError where there is none."""
    found = collect(folders)
    kept: list[tuple[Row, dict[str, Any], Mapping[str, Any]]] = []
    damaged, strangers = list(found.damaged), []
    for row in found.rows:
        try:
            config = settings_of(row)
        except (InputError, yaml.YAMLError) as error:
            damaged.append(str(error).partition("\n")[0])
            continue
        levels = {label: factor.of(config) for label, factor in study.factors.items()}
        if NEEDED in levels.values() or any(config.get(key) != value for key, value in study.holds.items()):
            strangers.append(row)
        else:
            kept.append((row, levels, config))
    if not kept:
        needed = [f"{key}={value}" for key, value in study.holds.items()]
        needed += [factor.key for factor in study.factors.values() if factor.default is NEEDED]
        raise InputError(
            f"{', '.join(map(str, folders))}: none of {counted(len(found.rows), 'run')} belongs to the study "
            f"{study.name}, whose runs have {', '.join(needed)}; to make them: "
            f"prixfixe train -m experiment={study.name}"
        )
    remarks = []
    if strangers:
        example = Path(strangers[0]["run"]).name
        remarks.append(f"left out: {counted(len(strangers), 'run')} not of this study, such as {example}")
    remarks += _beware(study, [(row, config) for row, _, config in kept if row["state"] == "done"])
    return StudyRuns(
        replace(found, rows=[row for row, _, _ in kept], damaged=damaged),
        [levels for _, levels, _ in kept],
        [config.get("dataset.fold") for _, _, config in kept],
        remarks,
    )


def score_table(study: Study, runs: StudyRuns, score: Score) -> Table:
    """One row a panel and row of the layout, one column a column of it, and their mean where none is missing. Values
    are means over seeds (`<column>_sd`: their standard deviation), or, where no run is done, None; `<column>_state`
    says why."""
    columns, labels = runs.occurring(study, study.columns), (*study.panels, *study.rows)
    cells: dict[tuple[Levels, Levels], list[Row]] = defaultdict(list)
    for index, row in enumerate(runs.results.rows):
        cells[runs.of(labels, index), runs.of(study.columns, index)].append(row)
    factors = [study.factors[label] for label in study.columns]
    names, short = {}, {}
    for levels in columns:
        each = [(factor, factor.name(level), level) for factor, level in zip(factors, levels, strict=True)]
        names[levels] = name = "+".join(full for _, full, _ in each)
        short[name] = "+".join(factor.short.get(level) or full for factor, full, level in each)
    rows = []
    for levels in runs.occurring(study, labels):
        shown: Row = {label: study.factors[label].name(level) for label, level in zip(labels, levels, strict=True)}
        for column, name in names.items():
            group = cells.get((levels, column), [])
            values = [row[score.name] for row in group if row["state"] == "done" and row.get(score.name) is not None]
            shown[name] = statistics.fmean(values) if values else None
            shown[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            states = [row["state"] for row in group if row["state"] in SYMBOLS]
            shown[f"{name}_state"] = states[0] if states else "no score" if group else None
        every = [shown[name] for name in names.values()]
        rows.append(shown | {"mean over columns": statistics.fmean(every) if None not in every else None})
    return Table(
        f"{study.about}: {score.label}. {title(runs.results)}",
        [*labels, *names.values(), "mean over columns"],
        rows,
        [*runs.remarks, *_not_done(runs)],
        labels=short | {label: label for label in labels} | {"mean over columns": "mean"},
        simulated=any_simulated(runs.results),
    )


def panels(study: Study, table: Table) -> list[Table]:
    """The table for the eye: one a panel, with a symbol where a value is missing."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in table.rows:
        symbols = {c: SYMBOLS.get(row.get(f"{c}_state") or "", "") for c in table.columns if row[c] is None}
        groups[tuple(row[label] for label in study.panels)].append({**row, **symbols})
    columns = [column for column in table.columns if column not in study.panels]
    used = {row[f"{c}_state"] for row in table.rows for c in columns if row[c] is None and row.get(f"{c}_state")}
    meaning = [f"{symbol} {state}" for state, symbol in SYMBOLS.items() if state in used]
    titles = [", ".join(panel).capitalize() for panel in groups]
    titles[0] = "\n\n".join(filter(None, (table.title, titles[0])))
    found = [
        Table(title, columns, rows, labels=table.labels) for title, rows in zip(titles, groups.values(), strict=True)
    ]
    found[-1] = replace(found[-1], notes=[*([", ".join(meaning) + "."] if meaning else []), *table.notes])
    return found


def answer_table(study: Study, runs: StudyRuns, score: Score) -> Table:
    """One row a test: what is compared, with what, where; the mean difference; how many; p, before and after
    correction.

    p is None with fewer than MIN_PAIRS pairs, or fewer than MIN_GROUP in a group.
    """
    units = _units(study, runs, score)
    rows: list[Row] = []
    for question in study.questions if units else ():
        answers = list(_answers(study, runs, question, units, score))
        corrected = holm([row["p"] for row in answers])
        rows += [row | {"p_adjusted": p} for row, p in zip(answers, corrected, strict=True)]
    columns = ("test", "term", "part", "other", "difference", "low", "high", "better", "n", "p", "p_adjusted")
    labels = {"term": "factor", "part": "this", "other": "against", "low": "from", "high": "to", "better": "better in"}
    table = Table(no_score(score), columns, rows, labels=labels, simulated=any_simulated(runs.results))
    if not rows:
        return table
    notes = [
        "signed-rank: Wilcoxon's signed-rank test over runs paired in all other factors; from, to: 95 % bootstrap "
        "interval of the mean difference. rank-sum: Wilcoxon's rank-sum test (Mann-Whitney U) of two groups.",
        "n: pairs, or runs in each group, seeds averaged. p corrected: by Holm's method, over the tests of "
        "one question (the rows of one test and factor).",
    ]
    if any(row["p"] is None for row in rows):
        notes.append(f"p is - with fewer than {MIN_PAIRS} pairs or {MIN_GROUP} runs in a group.")
    title = labelled(runs.results, f"{score.label} of this minus that of the other, and whether it is chance")
    return replace(table, title=title, notes=notes)


def _as_level(value: Any) -> Any:
    """A value of config.yaml that can be compared and looked up: its lists as tuples."""
    if isinstance(value, dict):
        return str(value)
    return tuple(map(_as_level, value)) if isinstance(value, list) else value


def _as_list(level: Any) -> Any:
    """The other way round, as a level is written."""
    return [*map(_as_list, level)] if isinstance(level, tuple) else level


def _beware(study: Study, runs: Sequence[tuple[Row, Mapping[str, Any]]]) -> Iterator[str]:
    """Remarks where the runs differ in what is no factor of the study, so that they may not be comparable."""
    factors = [factor.key for factor in study.factors.values()]
    if data := unlike_data((row for row, _ in runs), factors):
        yield data
    configs = [config for _, config in runs]
    named = ("dataset",) if data else where_data_lie(configs)
    if settings := differing(configs, ("seed", "choices", *study.follows, *factors, *named)):
        yield f"beware: these runs also differ in {settings}"


def _not_done(runs: StudyRuns) -> list[str]:
    """What is not done, by state, with reasons and with what runs just these; what could not be read."""
    states: dict[str, list[Row]] = defaultdict(list)
    for row in runs.results.others:
        states[row["state"]].append(row)
    lines = []
    for state, rows in states.items():
        reasons = [f" ({str(row['reason']).partition(chr(10))[0]})" if row["reason"] else "" for row in rows]
        names = [Path(row["run"]).name + reason for row, reason in zip(rows, reasons, strict=True)]
        lines.append(f"{len(rows)} {state}: {some_of(names, ', ')}")
    again = commands([row for row in runs.results.others if row["state"] != "running"])
    lines += [f"damaged: {message}" for message in runs.results.damaged]
    return [*lines, *(["To run just these:"] if again else []), *(f"  {line}" for line in again)]


def _units(study: Study, runs: StudyRuns, score: Score) -> Units:
    """Levels of all factors -> sweep (where several have the same runs), fold and seed -> score."""
    labels = tuple(study.factors)
    done: list[tuple[Levels, Repeat, Row]] = []
    for index, row in enumerate(runs.results.rows):
        if row["state"] == "done" and row.get(score.name) is not None:
            done.append((runs.of(labels, index), (runs.folds[index], row["seed"]), row))
    counts = Counter((levels, repeat) for levels, repeat, _ in done)
    repeated = max(counts.values(), default=0) > 1
    units: dict[Levels, dict[Repeat, float]] = defaultdict(dict)
    for levels, repeat, row in done:
        units[levels][str(Path(row["run"]).parent) if repeated else "", *repeat] = row[score.name]
    return units


def _answers(study: Study, runs: StudyRuns, question: Question, units: Units, score: Score) -> Iterator[Row]:
    """The tests of a question, without correction."""
    levels = runs.occurring(study, question.factors)
    if question.against is None:
        pairs = [(b, a) for a, b in itertools.combinations(levels, 2)]
    else:
        pairs = [(level, question.against) for level in levels if level != question.against]
    labels = list(study.factors)
    places = [labels.index(label) for label in question.factors]
    wheres = [labels.index(label) for label in question.within]
    for where, (level, other) in itertools.product(runs.occurring(study, question.within), pairs):
        within = {key: repeats for key, repeats in units.items() if tuple(key[place] for place in wheres) == where}
        here, there = (_at(within, places, chosen) for chosen in (level, other))
        term = ", ".join(question.factors)
        if where:
            names = [study.factors[label].name(one) for label, one in zip(question.within, where, strict=True)]
            term += f"; {', '.join(names)}"
        row: Row = {
            "test": TESTS[question.test],
            "term": term,
            "part": study.named(question.factors, level),
            "other": study.named(question.factors, other),
        }
        yield row | (_paired(here, there, score) if question.test == "wilcoxon" else _grouped(here, there))


def _at(units: Units, places: Sequence[int], chosen: Levels) -> Units:
    """The units with the chosen levels at some places: all their other levels -> repeat -> score."""
    return {
        tuple(level for place, level in enumerate(key) if place not in places): repeats
        for key, repeats in units.items()
        if tuple(key[place] for place in places) == chosen
    }


def _paired(here: Units, there: Units, score: Score) -> Row:
    means = []
    for key, repeats in here.items():
        if shared := repeats.keys() & there.get(key, {}):
            means.append(statistics.fmean(repeats[repeat] - there[key][repeat] for repeat in shared))
    if not means:
        return _nothing("0")
    found = paired_test(np.array(means), score)
    limits = {name: found[name] for name in ("low", "high", "p")}
    count = str(found["pairs"])
    return {"difference": found["mean"], **limits, "better": f"{found['better']} of {count}", "n": count}


def _grouped(here: Units, there: Units) -> Row:
    from scipy.stats import mannwhitneyu

    a, b = ([statistics.fmean(repeats.values()) for repeats in group.values()] for group in (here, there))
    count = f"{len(a)} + {len(b)}"
    if not a or not b:
        return _nothing(count)
    enough = min(len(a), len(b)) >= MIN_GROUP
    p = float(mannwhitneyu(a, b, alternative="two-sided").pvalue) if enough else None
    return _nothing(count) | {"difference": statistics.fmean(a) - statistics.fmean(b), "p": p}


def _nothing(count: str) -> Row:
    return {"difference": None, "low": None, "high": None, "better": None, "n": count, "p": None}
