"""The figures of a report: which there are, what each is called, what it shows in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from prixfixe import figures
from prixfixe.analysis.effects import OVERLAP, shares_add_up
from prixfixe.figures.style import mark_simulated
from prixfixe.report.content import Content
from prixfixe.tasks.scores import Score


@dataclass(frozen=True)
class Drawing:
    """name: of its file, without an ending. alt: what it shows, for those who cannot see it."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


def draw_heat_maps(content: Content) -> Iterator[Drawing]:
    """One a score."""
    rows = content.combinations.rows
    for score in content.combinations.present_scores:
        label = score.label
        yield Drawing(
            f"grid_{score.name}",
            f"{label} of all combinations",
            "",
            f"Heat map of {label}",
            figures.heat_map(rows, score),
        )


def draw(content: Content) -> Iterator[Drawing]:
    """All figures but the heat maps, those for which there is something to show."""
    for drawing in _drawings(content):
        mark_simulated(drawing.figure, content.results.rows)
        yield drawing


def _drawings(content: Content) -> Iterator[Drawing]:
    score, label = content.score, content.score.label
    start = f"{label[0].upper()}{label[1:]}"  # of a sentence
    rows = content.combinations.rows
    if content.analysis.effects:
        yield Drawing(
            "effects",
            f"{start} of each part against the others of its slot",
            "Mean difference over all contexts in which all of them are done, with a 95 % interval over contexts. "
            "Filled: p < 0.05 "
            "(signed-rank test, Holm's correction over all comparisons and interactions).",
            "Forest plot: "
            + "; ".join(f"{e.slot} {e.part} {e.mean:+.3f}" for e in content.analysis.effects if e.other == "others"),
            figures.effect_forest(content.analysis.effects, score),
        )
    if content.analysis.shares:
        yield Drawing(
            "variance",
            f"Shares of the variance of {label}",
            "Analysis of variance over finished combinations, type II sums of squares; the residual holds "
            "interactions of three and four parts, and chance."
            + ("" if shares_add_up(content.analysis.shares) else f" {OVERLAP[0].upper()}{OVERLAP[1:]}."),
            "Bars: " + "; ".join(f"{s.term} {s.share:.1%}" for s in content.analysis.shares),
            figures.variance_bars(content.analysis.shares, score),
        )
    if content.analysis.interactions:
        largest = content.analysis.interactions[0]
        yield Drawing(
            "interactions",
            "Which parts need each other",
            f"{start} of each pair of parts beyond what the two add up to (least squares on all parts); violet: "
            "better than that, "
            "orange: worse.",
            f"Matrix of pairs of parts; the largest deviation is {largest.excess:+.3f}, of "
            f"{' with '.join(largest.parts)}",
            figures.interaction_matrix(content.analysis.interactions, score),
        )
    if content.ranks is not None:
        first = content.ranks.names[0]
        yield Drawing(
            "ranks",
            "Average ranks",
            "Dots: the mean over bootstrap samples; bars: where the rank lies in 95 % of them.",
            f"{len(content.ranks.names)} models by average rank; first is {first} with "
            f"{content.ranks.average_rank[0]:.2f}",
            figures.average_ranks(content.ranks, content.cores),
        )
    if content.differences:
        yield Drawing(
            "critical_difference",
            "Critical-difference diagrams",
            "Average ranks, 1 the best; what a bar joins cannot be told apart (Friedman and Nemenyi, 5 %).",
            "; ".join(
                f"{title}: "
                + ", ".join(f"{name} {rank:.2f}" for name, rank in zip(one.names, one.average_rank, strict=True))
                for title, one in content.differences.items()
            ),
            figures.critical_difference(content.differences),
        )
    if any(row["state"] == "done" and row.get(score.name) is not None and row["parameters"] for row in rows):
        yield Drawing(
            "costs",
            f"{start} against what it costs",
            "Dashed: the Pareto front, of combinations that no other beats in both; its members are numbered, "
            "and named below each panel.",
            f"Scatter plots of {label} against parameters, training time and inference rate; the fronts are in "
            "the tables below",
            figures.cost_scatter(rows, score),
        )
    if content.curves:
        yield Drawing(
            "learning_curves",
            "Learning curves",
            "One line a run. Training losses of different final blocks are on scales of their own.",
            f"Curves of {len(content.curves)} runs over their epochs",
            figures.learning_curves(content.curves, _drawn_scores(content)),
        )


def _drawn_scores(content: Content) -> list[Score]:
    """The score that the report is about, or that chose the epochs where the former has no history; and another one."""
    own = content.results.of_kind("scores")
    first = content.score if content.score.name in own else content.results.select
    return [first, *(score for score in own.values() if score.name != first.name)][:2]
