"""The simulated assay: random yeast promoters, a mechanistic model of their expression, and cell sorting with noise.

What is modelled and what is not: docs/simulated_assay.md. Nothing here is a measurement.
"""

from prixfixe.simulation.assay import SimulatedMeasurements, measure, simulate
from prixfixe.simulation.model import true_expression

__all__ = ["SimulatedMeasurements", "measure", "simulate", "true_expression"]
