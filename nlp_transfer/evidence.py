"""What speaks for one of two models on unlabelled target text: differences of label-free scores, and their errors.

Two models that are equally good differ in every score by chance, so a difference counts only where it is large beside
the error that the sample of units gives it. The error is that of the grouped jackknife (Efron and Tibshirani 1993,
chapter 11): each of G groups of units is left out in turn, from both models,

    error² = (G − 1) / G · Σ_g (Δ_g − mean Δ)².

Units next to each other stay together, as words of a sentence are right or wrong together. What does not depend on
single units is found once: the clusters of ClassAMI and the density ratios of DEV.

Neither score has a vote where words are labelled. From news to politics and science DEV favoured four of the twelve
adapted taggers of ``recipes/benchmarks/results/news_ner.json`` (those with a number under ``guarded``), and ClassAMI,
in earlier runs that are not recorded, all of eight: most were worse than their twins, the most favoured ones by 13 and
19 points of F1. Most words are outside of entities, and whatever pushes the few others apart looks orderly. There a
gain on source dev is asked for (:func:`beyond_chance`).

Shape suffixes: D decisions, U units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from .intervals import Interval
from .selection import Units, agreement_with_clusters, clusters_of, density_ratios, errors_of, weighted_risk

EVIDENCE = ("class_ami", "dev")

OVERLAP = (0.5, 2.0)
"""Mean density ratio of source units within which DEV has a vote."""

GROUPS = 20
CHUNKS = 100
"""Units are left out in chunks of neighbours: this many in all, dealt to the groups at random."""


@dataclass(frozen=True)
class Vote:
    """What a score says of the adapted model beside its twin.

    Args:
        difference: Score of the adapted model minus the twin's; None where the score abstains.
        error: Standard error of the difference over units.
    """

    difference: float | None
    error: float | None = None

    def side(self, margin: float, errors: float) -> int:
        """Return 1 for the adapted model, −1 against it, 0 for neither.

        Args:
            margin: Difference that says nothing yet.
            errors: Number of standard errors that say nothing yet.
        """
        if self.difference is None or self.error is None:
            return 0
        return int(np.sign(self.difference)) if abs(self.difference) > max(margin, errors * self.error) else 0


class Scored:
    """The scores of a model as functions of the units that are looked at.

    Args:
        target: Units of unlabelled target text.
        source: Labelled units of the source.
    """

    def __init__(self, target: Units, source: Units) -> None:
        self.counts = {"class_ami": len(target), "dev": len(source)}
        self._target = target
        self._clusters_DU = clusters_of(target.features_UH, target.chosen_DU, target.probabilities_DUC.shape[-1])
        self._error_U = errors_of(source)
        self._weights_U = density_ratios(source.features_UH, target.features_UH)

    @property
    def mean_weight(self) -> float:
        """Mean density ratio of the source units; 1 in theory."""
        return float(self._weights_U.mean())

    def score(self, name: str, kept: np.ndarray | None = None) -> float:
        """Return a score.

        Args:
            name: One of ``EVIDENCE``.
            kept: Indices of the units that are looked at; by default all.
        """
        kept = np.arange(self.counts[name]) if kept is None else kept
        if name == "class_ami":
            return agreement_with_clusters(self._target.chosen_DU[:, kept], self._clusters_DU[:, kept])
        return -weighted_risk(self._error_U[kept], self._weights_U[kept])


def without_vote(selected_by: str | None, words: bool, blind: bool = False) -> set[str]:
    """Return the scores that have no vote.

    Args:
        selected_by: What has selected the adapted checkpoint: the best of many by a score looks good by that score.
        words: The task labels words, not texts.
        blind: Source dev, whose errors DEV weighs, says nothing of the training.
    """
    if words:
        return {*EVIDENCE}
    return ({selected_by} if selected_by in EVIDENCE else set()) | ({"dev"} if blind else set())


def beyond_chance(gain: Interval) -> Vote:
    """Return the vote of a score whose gain is known with its interval, which is one error long towards 0."""
    return Vote(gain.value, gain.value - gain.low if gain.value > 0 else gain.high - gain.value)


def votes(adapted: Scored, twin: Scored, abstaining: Collection[str] = ()) -> dict[str, Vote]:
    """Return the vote of each score.

    Args:
        adapted: The adapted model.
        twin: The twin, by the same units.
        abstaining: Scores that have no vote; see :func:`without_vote`.
    """
    overlap = all(OVERLAP[0] <= side.mean_weight <= OVERLAP[1] for side in (adapted, twin))
    silent = {*abstaining} if overlap else {*abstaining, "dev"}
    return {name: Vote(None) if name in silent else _vote(name, adapted, twin) for name in EVIDENCE}


def _vote(name: str, adapted: Scored, twin: Scored) -> Vote:
    def difference(kept: np.ndarray | None = None) -> float:
        return adapted.score(name, kept) - twin.score(name, kept)

    return Vote(difference(), jackknife_error(difference, adapted.counts[name]))


def jackknife_error(statistic: Callable[[np.ndarray], float], count: int, seed: int = 0) -> float:
    """Return the standard error of a statistic of units by leaving out groups of them.

    Args:
        statistic: Maps the indices of the units that are kept to a number.
        count: Number of units, at least 2.
        seed: Seed by which chunks of neighbouring units are dealt to groups.
    """
    groups = min(GROUPS, count)
    chunks_U = np.arange(count) * min(CHUNKS, count) // count
    dealt = np.random.default_rng(seed).permutation(chunks_U[-1] + 1) % groups
    group_U = dealt[chunks_U]
    values_G = np.array([statistic(np.flatnonzero(group_U != group)) for group in range(groups)])
    return math.sqrt((groups - 1) / groups * float(((values_G - values_G.mean()) ** 2).sum()))
