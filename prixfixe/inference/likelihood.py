"""Variants by a language model, without training: how much likelier it finds one letter than another at a masked
position (Meier et al. 2021; of DNA: Benegas et al. 2023)."""

from __future__ import annotations

import numpy as np

from prixfixe.data.measurements import Measurements
from prixfixe.inference.predictor import Predictor
from prixfixe.training.scoring import AtOnce, predict_on_device, to_host


def scores_likelihood(model: Predictor) -> bool:
    """Whether the task predicts nothing a sequence, but says how likely masked letters are (`Task.likelihood`)."""
    return all(member.task.predicts is None and member.task.likelihood is not None for member in model.members)


def log_likelihood_ratios(
    model: Predictor, references: Measurements, alternatives: Measurements, batch_size: int | None = None
) -> np.ndarray:
    """log P(alternative) - log P(reference) in nats, float64 (members, n): of the letters in which a pair of rows
    differs, all of which are masked, given the others; the mean over them, and so over the strands that a recipe feeds.
    NaN where the recipe reads none of them.

    Where a pair differs is told by its codes once the recipe has placed them: nothing needs to be known of how it does.
    """
    found = []
    for member in model.members:
        pair = [member.samples(rows) for rows in (references, alternatives)]
        mask = pair[0].codes != pair[1].codes
        at_once = member.at_once if batch_size is None else AtOnce(batch_size)
        likelihoods = []
        assert member.task.likelihood is not None
        summed, count = member.task.likelihood
        for samples in pair:
            masked = samples.with_columns(mask=mask)
            outputs = predict_on_device(member.network, member.recipe, member.task, masked, batch_size=at_once)
            with np.errstate(invalid="ignore"):
                likelihoods.append(-to_host(outputs[summed]) / to_host(outputs[count]))
        found.append(likelihoods[1] - likelihoods[0])
    return np.stack(found)
