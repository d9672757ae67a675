"""Figures for papers and for the report: each function takes rows or statistics and returns a matplotlib Figure.

matplotlib is imported here, and only here: import this package where a figure is drawn.
"""

from prixfixe.figures.costs import cost_scatter
from prixfixe.figures.curves import learning_curves
from prixfixe.figures.effects import effect_forest, interaction_matrix, variance_bars
from prixfixe.figures.heat_map import heat_map
from prixfixe.figures.ranks import average_ranks, critical_difference
from prixfixe.figures.style import as_svg, save

__all__ = [
    "as_svg",
    "average_ranks",
    "cost_scatter",
    "critical_difference",
    "effect_forest",
    "heat_map",
    "interaction_matrix",
    "learning_curves",
    "save",
    "variance_bars",
]
