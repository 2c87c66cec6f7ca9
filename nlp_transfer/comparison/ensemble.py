"""How near each of several models is to all of them together: agreement with their ensemble on unlabelled target text.

Hu et al. (2024), *Towards Reliable Model Selection for Unsupervised Domain Adaptation: An Empirical Study and A
Certified Baseline*, NeurIPS Datasets and Benchmarks (EnsV): the mean of the models' probabilities has a loss no larger
than their average, and is mostly better than most, so its answers stand in for the labels that the target lacks. Scores
of a single model judge how sure it is, or how its features lie; this one judges its answers by those of the others, and
a model that has collapsed finds nobody who agrees. An answer is the most probable class of each decision: what tuned
thresholds or the order of tags make of it later is left out, as it is a matter of each model. It needs models that err
differently, and at least three of them: of two, the more confident one is the ensemble.

Shape suffixes: M models, D decisions, U units, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..selection import mean_kappa

FEWEST = 3
"""Fewer models have no ensemble that could judge them."""


def agreement_with_ensemble(
    probabilities_MDUC: Sequence[np.ndarray], judged_MDUC: Sequence[np.ndarray] | None = None
) -> list[float]:
    """Return Cohen's kappa between each model's answers and those of the mean of all: 1 is the same, 0 chance.

    The paper counts equal answers; kappa takes off what is equal by chance, as words without an entity mostly are.

    Args:
        probabilities_MDUC: Probabilities of the classes of each decision by each model, of the same units.
        judged_MDUC: Those of other models, which are judged and have no vote; by default the voters are judged.

    Returns:
        A value for each model that is judged, the mean over decisions; NaN for all where fewer than three vote.

    Raises:
        ValueError: The models have looked at different units.
    """
    judged_MDUC = probabilities_MDUC if judged_MDUC is None else judged_MDUC
    if len(probabilities_MDUC) < FEWEST:
        return [float("nan")] * len(judged_MDUC)
    shapes = {found.shape for found in [*probabilities_MDUC, *judged_MDUC]}
    if len(shapes) > 1:
        raise ValueError(f"Models must have looked at the same units, not {sorted(shapes)}.")
    answers_DU = np.mean(probabilities_MDUC, axis=0).argmax(-1)
    return [mean_kappa(found.argmax(-1), answers_DU) for found in judged_MDUC]
