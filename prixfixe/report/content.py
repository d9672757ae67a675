"""What a report says, gathered from run folders: rows, statistics, curves, versions. No figure is drawn here and no
page written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prixfixe.analysis import ranks as of_models
from prixfixe.analysis.comparable import remarks
from prixfixe.analysis.effects import Analysis, analyse
from prixfixe.analysis.evaluation import BOOTSTRAP_FRACTION
from prixfixe.analysis.folds import ranked_predictions
from prixfixe.analysis.ranks import CriticalDifference, Ranks
from prixfixe.analysis.results import Curve, Results, Row, averaged, collect, labels, model_name
from prixfixe.analysis.views import about_folds, group_name
from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.runs.folder import SLOTS, RunFolder
from prixfixe.runs.reader import read_history
from prixfixe.tasks.scores import Score

FACTS = ("n", "epochs", "device", "ended")  # of metrics.json and status.json
MOST_IN_DIAGRAM = 20  # models in a critical-difference diagram; more cannot be read


@dataclass(frozen=True)
class Content:
    """What a report says of one task and data, which `name` names; '' where there is but one.

    results: one row a run; combinations: seeds averaged. differences: critical differences by what they compare.

    ranks: None where predictions of the same sequences are not there for two models, and no_ranks says so.
    problems: what could not be read, one sentence each. facts: what metrics.json and status.json say, a list of values
    a name.
    """

    score: Score
    name: str
    results: Results
    combinations: Results
    analysis: Analysis
    ranks: Ranks | None
    no_ranks: str
    cores: dict[str, str]
    differences: dict[str, CriticalDifference]
    curves: list[Curve]
    versions: dict[str, list[str]]
    facts: dict[str, list[Any]]
    problems: list[str]


def gather(folders: Sequence[Path], score: str | None, samples: int) -> list[Content]:
    """Everything that a report on these sweeps or runs says, by task and data. score: the column that statistics are
    about where the runs have it; None: what chose the epochs. samples: of the bootstrap ranks, 0 for none.

    Raises InputError as `collect` does, and for a score that no run has; what is damaged is named in `problems` and
    passed over.
    """
    results = collect(folders)
    groups = results.groups()
    results.score(score)
    contents = []
    for group in groups:
        asked = group.score(score if score in group.scores else None) if len(groups) > 1 else group.score(score)
        contents.append(content_of(group, asked, samples, group_name(group).capitalize() if len(groups) > 1 else ""))
    return contents


def content_of(results: Results, score: Score, samples: int, name: str) -> Content:
    """What a report says of one task and data."""
    combinations = averaged(results)
    problems = list(results.damaged)
    ranked = _ranks(results, score, samples)
    curves = []
    for row in results.rows:
        try:
            history = read_history(RunFolder(Path(row["run"])).history_file)
        except InputError as error:
            problems.append(str(error))
        else:
            if history:
                curves.append(Curve(row, history))
    found = analyse(results.rows, score)
    findings = [f"{line[0].upper()}{line[1:]}." for line in remarks(results.rows)]
    findings += [*about_folds(combinations), *combinations.said, *found.findings]
    versions, facts = _circumstances(results.rows, problems)
    return Content(
        score,
        name,
        results,
        combinations,
        replace(found, findings=findings),
        *ranked,
        curves,
        versions,
        facts,
        list(dict.fromkeys(problems)),
    )


def _ranks(
    results: Results, score: Score, samples: int
) -> tuple[Ranks | None, str, dict[str, str], dict[str, CriticalDifference]]:
    """Ranks of the combinations, why there are none, each combination's core, and critical differences of models and of
    parts."""
    done = results.done
    named = [*zip(labels(done), done, strict=True), *zip(labels(done, model_name), done, strict=True)]
    cores = {name: str(row["core"]) for name, row in named}
    ranks, no_ranks, differences = None, "", {}
    for slot in SLOTS:
        if difference := of_models.part_cd(done, slot, score):
            differences[f"{slot}: over {difference.over}"] = difference
    if samples:
        try:
            by = of_models.ranked_scores(results.of_kind("scores"))
            kept = ranked_predictions(done, by)
            ranks = of_models.rank_models(kept, samples, BOOTSTRAP_FRACTION)
            if len(ranks.names) <= MOST_IN_DIAGRAM:
                of_all = {"combinations: over parts of the sequences": of_models.model_cd(kept)}
                differences = {**of_all, **differences}
        except InputError as error:
            no_ranks = str(error)
    return ranks, no_ranks, cores, differences


def _circumstances(rows: Sequence[Row], problems: list[str]) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """Under which versions the runs were made, and what differs or not among their metrics: each with its distinct
    values."""
    versions: dict[str, set[str]] = defaultdict(set)
    facts: dict[str, set[Any]] = defaultdict(set)
    for row in rows:
        folder = RunFolder(Path(row["run"]))
        try:
            status = folder.status()
            metrics = folder.metrics() if row["state"] == "done" else {}
        except InputError as error:
            problems.append(str(error))
            continue
        for name, version in status.get("versions", {}).items():
            versions[printable(name, 100)].add(printable(version, 100))
        for name in FACTS:
            facts[name].update(filter(None, [status.get(name) if name == "ended" else metrics.get(name)]))
    known = [{name: sorted(values) for name, values in found.items() if values} for found in (versions, facts)]
    return known[0], known[1]
