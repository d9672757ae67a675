"""What `prixfixe results` shows: the comparison, effects, ranks, costs, and two sweeps side by side, as tables."""

from __future__ import annotations

import itertools
import shlex
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.analysis.comparable import remarks, unlike_data
from prixfixe.analysis.filter import chosen_columns, known_column, sort_rows
from prixfixe.analysis.results import (
    AGREEMENT,
    CEILING,
    SO_FAR,
    Results,
    Row,
    averaged,
    by_seeds,
    combination,
    model_name,
    read_plan,
)
from prixfixe.analysis.tables import Table, default_columns, signed
from prixfixe.common.errors import InputError
from prixfixe.common.overrides import quoted
from prixfixe.common.simulated import SIMULATED
from prixfixe.common.text import counted, printable
from prixfixe.runs.folder import SLOTS
from prixfixe.sweeps.plan import Plan
from prixfixe.tasks.scores import Score

if TYPE_CHECKING:
    from prixfixe.analysis.effects import PartEffect

MEASURED_OPTIMISM = {"pearson_r": " (Pearson r by about 0.02 with 637 rows and 80 epochs)"}
MOST_COMMANDS = 5  # named one by one


def comparisons(
    results: Results, columns: str | None, sort: str | None, *, by_run: bool, by_test_fold: bool = False
) -> list[Table]:
    """A table a task and data, which alone can be compared: see `comparison`."""
    if sort is not None:
        known_column(sort, "--sort", results)
    groups = results.groups()
    tables = []
    for group in groups:
        names = chosen_columns(columns, results) if columns else ()
        of_others = results.scores.keys() - group.scores.keys()
        own = ",".join(name for name in names if name not in of_others)
        table = comparison(group, own or None, sort, by_run=by_run, by_test_fold=by_test_fold)
        tables.append(headed(replace(table, notes=[*remarks(group.rows), *table.notes]), group, len(groups)))
    return tables


def headed(table: Table, group: Results, groups: int) -> Table:
    """The table under the name of its task and data, where there are several."""
    return table if groups < 2 else replace(table, title=f"{group_name(group).capitalize()}: {table.title}")


def comparison(
    results: Results,
    columns: str | None,
    sort: str | None,
    *,
    by_run: bool = False,
    by_test_fold: bool = False,
    all_columns: bool = False,
) -> Table:
    """One row a combination, a test fold of one, or a run; what is not done, and how to run it, in the notes."""
    shown = results if by_run else averaged(results, by_test_fold=by_test_fold)
    if sort is not None:
        shown = sort_rows(shown, sort)
    if all_columns:
        names = chosen_columns(columns, shown) if columns else shown.columns
        return Table(title(results), names, shown.rows, notes(results), simulated=any_simulated(results))
    select = results.select
    started = [row for row in shown.rows if row["state"] == "done" or row.get(f"{select.name}{SO_FAR}") is not None]
    names = chosen_columns(columns, shown) if columns else default_columns(replace(shown, rows=started or shown.rows))
    rows = shown.rows if columns and set(names) & {"state", "reason", "command", "run"} else started
    footnote = []
    if any(row.get(name) is None and row.get(f"{name}{SO_FAR}") is not None for row in rows for name in names):
        footnote.append("~ not done yet: the scores of the last epoch so far.")
    footnote += [chosen_by(results)] if results.done and not results.of_kind("scores").keys().isdisjoint(names) else []
    footnote += [*about_folds(shown), *about_ceilings(shown, names), *shown.said]
    footnote += notes(results, reasons="reason" not in names)
    return Table(title(results), names, rows, footnote, numbered=True, scores=results.scores)


def about_folds(shown: Results) -> list[str]:
    """How test scores of rows that are averaged over folds came about, and whether they compare."""
    rows = [row for row in shown.rows if row.get("models")]
    if not rows:
        return []
    several = any(row.get("test_folds") for row in rows)
    spread = ", then the mean over test folds ± the standard deviation over them" if several else ""
    lines = [f"Test scores: the predictions of a test fold's models are averaged and scored{spread}."]
    if any(row[AGREEMENT] is not None for row in rows):
        lines[0] += " r of models: Pearson r of two models' predictions on test rows, the mean over pairs."
    tested = {tuple(row["tested_on"]) for row in rows if several}
    if len(tested) > 1:
        common = sorted(set.intersection(*map(set, tested)))
        how = f"--where test_fold={','.join(common)} has all on those that they share" if common else "none is shared"
        lines.append(f"beware: these rows rest on different test folds, so that they do not compare: {how}")
    return lines


def about_ceilings(shown: Results, names: Sequence[str]) -> list[str]:
    """What the noise ceilings in a table rest on."""
    lines = []
    for column in [name for name in names if name.endswith(CEILING)]:
        low, high, rows = ([row[key] for row in shown.rows if row.get(key := f"{column}{end}") is not None]
                           for end in ("_low", "_high", "_rows"))  # fmt: skip
        if rows:
            counts = f"{min(rows):,.0f}" + (f" to {max(rows):,.0f}" if round(min(rows)) != round(max(rows)) else "")
            folds = any(row.get("folds", 1) > 1 for row in shown.rows)
            counts, of = (f"{counts} a fold", " of one") if folds else (counts, "")
            part = column.removesuffix(CEILING).rstrip("_") or "validation"
            lines.append(
                f"Ceiling of r ({part}): what a perfect prediction would reach, by rows that repeat a sequence "
                f"({counts}); 95 % interval{of} {min(low):.3f} to {max(high):.3f}."
            )
    return lines


def chosen_by(results: Results) -> str:
    """That scores are optimistic, since one of them chose the epoch that they are of."""
    own, select = [score.label for score in results.of_kind("scores").values()], results.select
    named = " and ".join(filter(None, (", ".join(own[:-1]), own[-1])))
    are = f"{named[0].upper()}{named[1:]} {'are' if len(own) > 1 else 'is'}"
    tested = bool(results.of_kind("tests"))
    others = "Test rows chose nothing." if tested else "dataset.test=FILE gives scores of rows that chose nothing."
    return (
        f"{are} of the best epoch, chosen by {select.label} on the rows that it is scored on: they are optimistic"
        f"{MEASURED_OPTIMISM.get(select.name, '')}. {others}"
    )


def title(results: Results) -> str:
    """How many are done; that they are simulated, where they are."""
    runs, combinations = len(results.rows), len({model_name(row) for row in results.rows})
    what = counted(runs, "run") + " of " if combinations != runs else ""
    return labelled(results, f"{len(results.done)} of {what}{counted(combinations, 'combination')} done")


def group_name(results: Results) -> str:
    """Task and data of rows that may be compared: task binary, dataset table (dataset.path=promoters.tsv)."""
    row = results.rows[0]
    data = f" ({row['data']})" if row.get("data") else ""
    return f"task {row['task']}, dataset {printable(row['dataset'] or 'unknown')}{data}"


def labelled(results: Results, text: str) -> str:
    """A title as a sentence; that the numbers below it are simulated, where some are."""
    return f"{text}. {SIMULATED}" if any_simulated(results) else f"{text}."


def any_simulated(results: Results) -> bool:
    return any(row["simulated"] for row in results.rows)


def notes(results: Results, *, reasons: bool = True) -> list[str]:
    """The runs that are not done, by name and with what runs just these, and what could not be read. reasons: why they
    are not done, where the table itself does not say it."""
    lines: list[str] = []
    select = results.select
    absent = [row for row in results.others if row["state"] == "missing" and is_of_folds(row)]
    for row in results.others:
        if row in absent:
            continue
        reason = str(row["reason"]).strip().partition("\n")[0] if reasons and row["reason"] else ""
        value = row.get(f"{select.name}{SO_FAR}")
        so_far = f", {select.label} {select.text(value)} so far" if value is not None else ""
        epoch = f"epoch {row['epoch']}{so_far}" if row.get("epoch") else ""
        lines.append(": ".join(part for part in (row["state"], Path(row["run"]).name, epoch, reason) if part))
    lines += missing_folds(absent, results.rows)
    lines += [f"damaged: {message}" for message in results.damaged]
    again = commands([row for row in results.others if row["state"] != "running"])
    return [*lines, *(["To run just these:"] if again else []), *(f"  {line}" for line in again)]


def is_of_folds(row: Row) -> bool:
    return row.get("test_fold") is not None and row.get("fold") is not None


def missing_folds(absent: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """The runs that were never begun, by model and test fold: one line a model."""
    lines = []
    for model in by_seeds(absent, model_name):
        parts, whole = [], []
        for group in by_seeds(model):
            planned = [row for row in rows if is_of_folds(row) and combination(row) == combination(group[0])]
            tested, validated = f"t{group[0]['test_fold']}", dict.fromkeys(f"f{row['fold']}" for row in group)
            if len(planned) == len(group):
                whole.append(tested)
            else:
                parts.append(f"{tested} ({', '.join(validated)})")
        parts += [f"all of {', '.join(whole)}"] if whole else []
        lines.append(f"missing: {counted(len(model), 'run')} of {model_name(model[0])}: {'; '.join(parts)}")
    return lines


def commands(rows: Sequence[Row]) -> list[str]:
    """What runs these rows again: one command a sweep where one can name just these, or else one a run."""
    sweeps: dict[Path, list[Row]] = defaultdict(list)
    for row in rows:
        sweeps[Path(row["run"]).parent].append(row)
    lines: list[str] = []
    for folder, some in sweeps.items():
        single = [row["command"] for row in some]
        names = [Path(row["run"]).name for row in some]
        if len(some) > 1 and (narrowed := narrowed_command(read_plan(folder, []), names)):
            lines.append(narrowed)
            continue
        of_folds = [narrowed_command(read_plan(folder, []), [Path(row["run"]).name for row in group])
                    for group in by_seeds(some)]  # fmt: skip
        if 1 < len(of_folds) < len(some) and all(of_folds):
            single = [line for line in of_folds if line]
        lines += single[:MOST_COMMANDS]
        if (more := len(single) - MOST_COMMANDS) > 0:
            lines.append(f"... and {more} more: --format csv has all, in the column command")
    return lines


def narrowed_command(plan: Plan, names: Sequence[str]) -> str | None:
    """One sweep over the values that these combinations of a plan have, where all of its combinations are in the plan;
    else None.

    Combinations that are done are passed over by the sweep itself.
    """
    jobs = [dict(override.partition("=")[::2] for override in plan.jobs[name]) for name in names if name in plan.jobs]
    if len(jobs) < len(names) or any(job.keys() != jobs[0].keys() for job in jobs):
        return None
    values = {key: list(dict.fromkeys(job[key] for job in jobs)) for key in jobs[0]}
    planned = {frozenset(word.partition("=")[::2] for word in job) for job in plan.jobs.values()}
    products = itertools.product(*values.values())
    if any(frozenset(zip(values, product, strict=True)) not in planned for product in products):
        return None
    overrides = [f"{key}={','.join(some)}" for key, some in values.items()]
    words = [*plan.launched_with, *overrides, f"hydra.sweep.dir={quoted(str(plan.folder))}"]
    return f"prixfixe train -m {shlex.join(words)}"


def analyses(
    sides: Sequence[Results], score: str | None, *, effects_: bool, ranks_: bool, pareto_: bool
) -> list[Table]:
    """What is asked of every task and data by itself. sides: the runs, and those that they are compared with, where
    there are some. score: its column; None: what chose the epochs."""
    groups = sides[0].groups()
    sides[0].score(score)
    others = {key_of(group): group for side in sides[1:] for group in side.groups()}
    if len(sides) > 1 and not any(key_of(group) in others for group in groups):
        rows = [*sides[0].rows, *sides[1].rows]
        names = "; ".join(dict.fromkeys(map(group_name, (*groups, *others.values()))))
        raise InputError(unlike_data(rows) or f"the two sides have no task and data in common: {names}")
    tables: list[Table] = []
    for group in groups:
        try:
            asked = group.score(score)
        except InputError:  # the score of another task
            continue
        found = effects(group, asked) if effects_ else []
        found += ranks(group, asked, alone=len(groups) == 1) if ranks_ else []
        found += pareto(group, asked) if pareto_ else []
        compared = [group.rows]
        if key_of(group) in others:
            found += against(group, others[key_of(group)], asked)
            compared.append(others[key_of(group)].rows)
        if found:
            found[0] = replace(found[0], notes=[*remarks(*compared, score=asked.name), *found[0].notes])
            tables += [headed(table, group, len(groups)) for table in found]
    return tables


def key_of(group: Results) -> tuple[Any, ...]:
    """What rows that may be compared have in common: their task and their data."""
    return (group.rows[0].get("task"), group.rows[0].get("data_number")) if group.rows else ()


def effect_table(found: Sequence[PartEffect], score: Score) -> Table:
    """What each part is worth, a row a comparison."""
    columns = ("slot", "part", "other", "mean", "low", "high", "better", "pairs", "p", "p_adjusted")
    labels = {"other": "against", "mean": "difference", "low": "from", "high": "to", "better": "better in"}
    title = f"{score.label} of a part minus {score.label} of another of its slot, with all else equal"
    return Table(title, columns, [asdict(effect) for effect in found], labels=labels)


def effects(results: Results, score: Score) -> list[Table]:
    """What each part is worth, the analysis of variance, the largest interactions, and what it all says."""
    from prixfixe.analysis.effects import MIN_INTERVAL, OVERLAP, analyse, shares_add_up

    label, found = score.label, analyse(results.rows, score)
    table = replace(effect_table(found.effects, score), simulated=any_simulated(results))
    if not found.effects:
        return [replace(table, title=title(results), notes=found.findings)]
    about = (
        "from, to: 95 % interval over contexts (the outer one of Student's t and bootstrap-t; none of fewer than "
        f"{MIN_INTERVAL} pairs); p: signed-rank test, corrected for all tests of parts and of pairs of slots (Holm)."
    )
    cells = [
        {"slot": " x ".join(cell.slots), "parts": " + ".join(cell.parts), "excess": cell.excess}
        | {"mean": f"{cell.mean:.3f}", "combinations": cell.combinations}
        for cell in found.interactions[:10]
    ]
    tables = [
        replace(table, title=labelled(results, table.title), notes=[*found.findings, about]),
        Table(
            f"Analysis of variance of {label} between combinations (type II)",
            ("term", "share", "df", "p", "p_adjusted"),
            [asdict(share) for share in found.shares],
            [] if shares_add_up(found.shares) else [f"{OVERLAP[0].upper()}{OVERLAP[1:]}."],
        ),
        Table(
            f"The ten largest interactions: {label} above what the two parts add up to",
            ("slot", "parts", "excess", "mean", "combinations"),
            cells,
        ),
    ]
    return [table for table in tables if table.rows]


def ranks(results: Results, score: Score, *, alone: bool = True) -> list[Table]:
    """Bootstrap ranks of the models, and ranks of the parts of each slot. InputError where nothing can be ranked, which
    a table says instead of it where this is not asked for `alone`."""
    from prixfixe.analysis.against import slot_ranking
    from prixfixe.analysis.folds import ranked_predictions
    from prixfixe.analysis.ranks import part_cd, rank_models, ranked_scores

    done, own = results.done, results.of_kind("scores")
    try:
        by = ranked_scores(own)
        found = rank_models(ranked_predictions(done, by))
    except InputError as error:
        if alone:
            raise
        return [Table(title(results), ("name",), [], [str(error)], simulated=any_simulated(results))]
    of_scores = [f"{name.removesuffix('_r').removesuffix('_rho')}_rank" for name in by]
    limits = {"average_rank": found.average_rank, "low_rank": found.low, "high_rank": found.high}
    ranked = limits | dict(zip(of_scores, found.by_score.values(), strict=True))
    rows: list[Row] = [
        {"name": name, **{column: values[i] for column, values in ranked.items()}}
        | {"tied": _ranges(sorted(sum(pair) - i + 1 for pair in found.indistinguishable if i in pair))}
        for i, name in enumerate(found.names)
    ]
    weighted = "the weighted scores" if len(found.subsets) > 1 else " and ".join(own[name].label for name in by)
    about = [
        f"{found.samples:,} bootstrap samples of {found.share:.0%} of {found.n:,} sequences of the {found.source}, "
        f"ranked by {weighted}; from, to: 95 % of the samples; not told apart from: numbers of those that are neither "
        "ahead nor behind in 97.5 % of them."
    ]
    if not found.exact:
        about.append(
            "Spearman's rho on a sample is computed with the ranks among all sequences, not with ranks made anew."
        )
    headings = {"name": "combination", "auroc_rank": "AUROC rank", "low_rank": "from", "high_rank": "to"}
    tables = [
        Table(
            labelled(results, f"Average ranks on the {found.source}"),
            ("name", *limits, *of_scores, "tied"),
            rows,
            [*about, *(f"left out: {reason}" for reason in found.left_out)],
            numbered=True,
            labels=headings | {"tied": "not told apart from"},
            simulated=any_simulated(results),
        )
    ]
    parts, remarks = [], []
    for slot in SLOTS:
        parts += slot_ranking(results, slot, score)
        if cd := part_cd(results.rows, slot, score):
            alike = [", ".join(cd.names[first : last + 1]) for first, last in cd.groups]
            remarks.append(
                f"{slot}: {'not told apart: ' + '; '.join(alike) if alike else 'all told apart'} "
                f"(critical difference {cd.difference:.2f} over {cd.blocks} {cd.over})"
            )
    if parts:
        columns = ("slot", "part", "average_rank", "best_in", "contexts", score.name)
        tables.append(
            Table(f"Ranks of the parts by {score.label} with all else equal", columns, parts, remarks, scores=own)
        )
    return tables


def pareto(results: Results, score: Score) -> list[Table]:
    """For each cost, the combinations that no other beats in both."""
    from prixfixe.analysis.costs import COSTS, pareto_front
    from prixfixe.analysis.effects import no_score

    rows = averaged(results).rows
    fronts: list[Row] = []
    for cost, label in COSTS.items():
        fronts += [{"front": label, **row} for row in pareto_front(rows, score, cost)]
    costs = [cost for cost in COSTS if any(row.get(cost) is not None for row in fronts)]
    about = "Of every cost, cheapest first: what no other combination beats in both score and that cost."
    return [
        Table(
            labelled(results, f"{score.label} against cost: the Pareto fronts") if fronts else title(results),
            ("front", *SLOTS, score.name, *costs),
            fronts,
            [about if fronts else no_score(score)],
            labels={"front": "cost"},
            simulated=any_simulated(results),
            scores={score.name: score},
        )
    ]


def against(new: Results, old: Results, score: Score) -> list[Table]:
    """What changed per combination, and where new parts rank in their slots."""
    import numpy as np

    from prixfixe.analysis.against import ONE_SEED, compare, new_parts, slot_ranking, together
    from prixfixe.analysis.effects import interval, no_score

    rows = compare(new, old, score)
    if not rows:
        raise InputError(no_score(score))
    changes = ("better", "worse", "within noise", ONE_SEED, "unknown", "only new", "only old")
    counts = {change: sum(row["change"] == change for row in rows) for change in changes}
    remarks = [", ".join(f"{count} {change}" for change, count in counts.items() if count) + "."]
    of_parts: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows:
        if row["difference"] is not None:
            of_parts[tuple(row[slot] for slot in SLOTS)].append(row["difference"])
    if of_parts:
        means = np.array([statistics.fmean(some) for some in of_parts.values()])  # variants are no further witnesses
        limits = interval(means)
        between = f" (95 % interval {signed(limits[0])} to {signed(limits[1])})" if limits else ""
        remarks.append(
            f"Over the {counted(len(means), 'combination')} of both sides, {score.label} changed by "
            f"{signed(means.mean())} on average{between}."
        )
    if counts["better"] or counts["worse"] or counts["within noise"]:
        remarks.append(
            "noise: half the width of a 95 % interval. Where seeds are in it, one in twenty combinations in which "
            "nothing has changed is beyond it. Within it, no change is shown, nor that there is none."
        )
    if any(row["noise_from"] == "sequences" for row in rows):
        remarks.append(
            "noise from sequences is that of the validation sequences alone (paired bootstrap): with one seed on a "
            "side, what training again would change is not known, and nothing is called better or worse."
        )
    if counts[ONE_SEED]:
        remarks.append(
            f"{ONE_SEED}: beyond the noise of the sequences, though training again with another seed might change as "
            "much: two seeds or more on both sides tell (seed=0,1,2)."
        )
    if counts["unknown"]:
        remarks.append(
            "unknown: no predictions of the same validation sequences on both sides, and not two seeds on both."
        )
    apart = [column for column in ("variant", "test_fold") if any(row[column] is not None for row in rows)]
    columns = (*SLOTS, *apart, "old", "new", "difference", "noise", "noise_from", "change")
    everything = replace(new, rows=[*new.rows, *old.rows], damaged=[])
    heading = labelled(everything, f"{score.label}, new against old")
    tables = [Table(heading, columns, rows, remarks, simulated=any_simulated(everything))]
    for slot, parts in new_parts(new, old).items():
        ranking = slot_ranking(together(new, old), slot, score)
        places = [f"{row['part']} is {i} of {len(ranking)}" for i, row in enumerate(ranking, 1) if row["part"] in parts]
        remark = f"{', '.join(parts)}: no shared combination of the other slots yet."
        if ranking:
            remark = f"{', '.join(places)}, over {ranking[0]['contexts']} combinations of the other slots."
        heading = f"New in {slot}: ranks by {score.label} with all else equal"
        columns = ("part", "average_rank", "best_in", "contexts", score.name)
        tables.append(Table(heading, columns, ranking, [remark], numbered=True, scores={score.name: score}))
    return tables


def _ranges(numbers: Sequence[int]) -> str:
    """1-3, 5."""
    groups: list[list[Any]] = []
    for value in numbers:
        if groups and value == groups[-1][1] + 1:
            groups[-1][1] = value
        else:
            groups.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in groups)
