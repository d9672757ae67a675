"""The simulated assay: random yeast promoters, a mechanistic model of their expression, and cell sorting with noise.

What is modelled and what is not: docs/simulated_assay.md. Nothing here is a measurement.
"""

from prixfixe.simulation.assay import VERSION, SimulatedMeasurements, simulate
from prixfixe.simulation.model import true_expression
from prixfixe.simulation.testset import SimulatedTestSet, simulate_test_set

__all__ = [
    "VERSION",
    "SimulatedMeasurements",
    "SimulatedTestSet",
    "simulate",
    "simulate_test_set",
    "true_expression",
]
