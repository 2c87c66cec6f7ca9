"""Scores of a model on target text without labels: to select a checkpoint, or to judge an adapted model.

All are *higher is better*. They see units: texts, or the first subword of each word for NER. Of each unit a task makes
D decisions among C classes: one decision among all labels (single-label, NER: among the tags), or for several labels a
yes or no of each label. Every score is the mean over the D decisions, so one formula serves all tasks.

Definitions follow Musgrave, Belongie and Lim (2023), *Three New Validators and a Large-Scale Benchmark Ranking for
Unsupervised Domain Adaptation*, arXiv 2208.07360. No label-free score is right everywhere; source dev often does as
well.

Shape suffixes: D decisions, U units, C classes, H hidden size. Values that are not finite give NaN, never an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CLIP = 0.01
"""Domain probabilities are kept this far from 0 and 1: no unit then weighs more than 99 times the ratio of sizes."""

FOLDS = 5


@dataclass(frozen=True)
class Units:
    """What a model says of some units.

    Args:
        probabilities_DUC: Probabilities of the classes of each decision.
        chosen_DU: The classes that the model answers with; under tuned thresholds not always the most probable.
        features_UH: The vectors that the task head reads.
        gold_DU: The right classes, of source units only.
    """

    probabilities_DUC: np.ndarray
    chosen_DU: np.ndarray
    features_UH: np.ndarray
    gold_DU: np.ndarray | None = None

    def __len__(self) -> int:
        return self.chosen_DU.shape[1]

    def sample(self, most: int, seed: int = 0) -> Units:
        """Return at most ``most`` units, drawn at random: for equally many units always the same ones."""
        if len(self) <= most:
            return self
        kept = np.sort(np.random.default_rng(seed).permutation(len(self))[:most])
        gold_DU = None if self.gold_DU is None else self.gold_DU[:, kept]
        return Units(self.probabilities_DUC[:, kept], self.chosen_DU[:, kept], self.features_UH[kept], gold_DU)

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        return bool(np.isfinite(self.probabilities_DUC).all() and np.isfinite(self.features_UH).all())


def entropy(probabilities_DUC: np.ndarray) -> float:
    """Return minus the mean entropy of the predictions, in nats: −ln C (undecided) to 0 (certain).

    ``−E_u[H(p_u)]`` (arXiv 2208.07360). A model that is certain of one class for everything scores best:
    never trust it alone.
    """
    return -float(_entropies(probabilities_DUC).mean())


def information_maximisation(probabilities_DUC: np.ndarray) -> float:
    """Return the mutual information of units and predictions, in nats: 0 to ln C.

    ``H(E_u[p_u]) − E_u[H(p_u)]``: certain of each unit, diverse over all (Shi and Sha 2012, arXiv 1206.6438; "IM" in
    arXiv 2208.07360).
    """
    return float((_entropies(probabilities_DUC.mean(1)) - _entropies(probabilities_DUC).mean(-1)).mean())


def bnm(probabilities_DUC: np.ndarray) -> float:
    """Return the nuclear norm of the prediction matrix over its largest possible value: above 0, up to 1.

    ``‖P‖_* / √(U · min(U, C))``: the sum of the singular values of P (U, C) grows with certainty and with the number
    of classes in use (Cui et al. 2020, arXiv 2003.12237; "BNM" in arXiv 2208.07360, there without the normalisation).
    """
    if not np.isfinite(probabilities_DUC).all():
        return float("nan")
    _, units, classes = probabilities_DUC.shape
    norms_D = np.linalg.svd(probabilities_DUC, compute_uv=False).sum(-1)
    return float(norms_D.mean() / np.sqrt(units * min(units, classes)))


def class_ami(features_UH: np.ndarray, chosen_DU: np.ndarray, classes: int) -> float:
    """Return how well predicted classes agree with the clusters of the features: about 0 by chance, 1 for the same.

    The adjusted mutual information of the predictions and C k-means clusters ("ClassAMI" in arXiv 2208.07360). The
    clusters start at the mean features of the predicted classes (as in Robbiano et al. 2021, arXiv 2102.06679), so that
    the score needs no random numbers and each label of several has clusters of its own; a class that is never predicted
    starts at the mean of all units. Decisions that all turn out alike give 0.

    Args:
        features_UH: Features of target units.
        chosen_DU: Predicted classes, 0 to C − 1.
        classes: Their number C.
    """
    if not np.isfinite(features_UH).all():
        return float("nan")
    return agreement_with_clusters(chosen_DU, clusters_of(features_UH, chosen_DU, classes))


def clusters_of(features_UH: np.ndarray, chosen_DU: np.ndarray, classes: int) -> np.ndarray:
    """Return the cluster of each unit for each decision (D, U), as :func:`class_ami` finds them."""
    return np.stack([_clusters(features_UH, chosen_U, classes) for chosen_U in chosen_DU])


def kappa(first_U: np.ndarray, second_U: np.ndarray) -> float:
    """Return Cohen's kappa of two lists of classes: (p_o − p_e) / (1 − p_e); 1 where both are one same class.

    Args:
        first_U: Class indices of one.
        second_U: Those of the other.
    """
    equal = float((first_U == second_U).mean())
    classes = 1 + max(int(first_U.max()), int(second_U.max()))
    shares = [np.bincount(found_U, minlength=classes) / len(found_U) for found_U in (first_U, second_U)]
    chance = float(shares[0] @ shares[1])
    return 1.0 if chance == 1.0 else (equal - chance) / (1 - chance)


def mean_kappa(first_DU: np.ndarray, second_DU: np.ndarray) -> float:
    """Return :func:`kappa` of the classes that two models give, the mean over decisions."""
    return float(np.mean(list(map(kappa, first_DU, second_DU))))


def agreement_with_clusters(chosen_DU: np.ndarray, clusters_DU: np.ndarray) -> float:
    """Return the adjusted mutual information of predicted classes and clusters, the mean over decisions."""
    return float(np.mean([_agreement(*pair) for pair in zip(chosen_DU, clusters_DU, strict=True)]))


def dev(error_U: np.ndarray, source_UH: np.ndarray, target_UH: np.ndarray) -> float:
    """Return minus the target risk that Deep Embedded Validation estimates from source dev: about −1 to 0.

    You et al. (2019), *Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation*, ICML: source units
    count as much more as they look like target, by :func:`density_ratios`; see :func:`weighted_risk`.

    Args:
        error_U: Loss of each labelled source unit that the model was not trained on; here the share of its decisions
            that are wrong.
        source_UH: Features of the same units.
        target_UH: Features of target units.
    """
    if not all(np.isfinite(values).all() for values in (error_U, source_UH, target_UH)):
        return float("nan")
    if min(len(source_UH), len(target_UH)) < 2:
        return float("nan")
    return -weighted_risk(error_U, density_ratios(source_UH, target_UH))


def errors_of(source: Units) -> np.ndarray:
    """Return the share of the decisions of each labelled unit that are wrong: (U,)."""
    return np.asarray((source.chosen_DU != source.gold_DU).mean(0))


def weighted_risk(error_U: np.ndarray, weights_U: np.ndarray) -> float:
    """Return the importance-weighted mean error with the control variate of Deep Embedded Validation.

    ``E[wℓ] + η E[w] − η`` with ``η = −Cov(wℓ, w) / Var(w)``: weights have the mean 1 in theory, so that what they miss
    of it tells by how much the weighted error is off.
    """
    weighted_U = weights_U * error_U
    variance = float(weights_U.var(ddof=1)) if len(weights_U) > 1 else 0.0
    eta = -float(np.cov(weighted_U, weights_U, ddof=1)[0, 1]) / variance if variance > 0 else 0.0
    return float(weighted_U.mean() + eta * weights_U.mean() - eta)


def density_ratios(source_UH: np.ndarray, target_UH: np.ndarray) -> np.ndarray:
    """Return how much likelier each source unit is in the target, by a domain classifier on the features.

    ``w = (U_source / U_target) · p(target | x) / p(source | x)``. The classifier is a logistic regression on
    standardised features with a Gaussian prior that gives log-odds the variance 1 (C = 1/H). Each unit is judged by one
    that has not seen it (cross-fitting in at most five folds), where the paper holds out training rows instead.

    Args:
        source_UH: Features of at least two source units.
        target_UH: Features of at least two target units.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = (len(source_UH), len(target_UH))
    features = np.concatenate([source_UH, target_UH]).astype(np.float64)
    domains = np.repeat([0, 1], counts)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0 / features.shape[1], max_iter=1000))
    folds = StratifiedKFold(min(FOLDS, *counts), shuffle=True, random_state=0)
    told = cross_val_predict(model, features, domains, cv=folds, method="predict_proba")[: counts[0], 1]
    target_U = np.clip(told, CLIP, 1 - CLIP)
    return np.asarray(counts[0] / counts[1] * target_U / (1 - target_U))


Score = Callable[[Units, Units | None], float]
"""Maps target units, and labelled source units where the score needs them, to a number."""


def _dev(target: Units, source: Units | None) -> float:
    if source is None or source.gold_DU is None:
        raise ValueError("dev needs labelled source units.")
    return dev(errors_of(source), source.features_UH, target.features_UH)


SCORES: dict[str, Score] = {
    "entropy": lambda target, _: entropy(target.probabilities_DUC),
    "information_maximisation": lambda target, _: information_maximisation(target.probabilities_DUC),
    "bnm": lambda target, _: bnm(target.probabilities_DUC),
    "class_ami": lambda target, _: class_ami(target.features_UH, target.chosen_DU, target.probabilities_DUC.shape[-1]),
    "dev": _dev,
}
NEEDS_SOURCE = {"dev"}


def score(name: str, target: Units, source: Units | None = None) -> float:
    """Return a label-free score of a model; higher is better.

    Args:
        name: A key of ``SCORES``.
        target: Units of unlabelled target text.
        source: Labelled units of source dev, for the scores in ``NEEDS_SOURCE``.

    Returns:
        The score; NaN where the model's numbers are not finite or the units too few.
    """
    return SCORES[name](target, source) if target.finite and (source is None or source.finite) else float("nan")


def _entropies(probabilities: np.ndarray) -> np.ndarray:
    """Entropies (...) of distributions (..., C), with 0 · ln 0 = 0."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return np.asarray(-(probabilities * logs).sum(-1))


def _clusters(features_UH: np.ndarray, chosen_U: np.ndarray, classes: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    clusters = min(classes, len(np.unique(features_UH, axis=0)))
    if clusters < 2:
        return np.zeros_like(chosen_U)
    # The classes in use come first: with fewer distinct units than classes, theirs are the clusters that are left.
    order = np.argsort(-np.bincount(chosen_U, minlength=classes), kind="stable")[:clusters]
    members = [features_UH[chosen_U == number] for number in order]
    starts_CH = np.stack([(own if len(own) else features_UH).mean(0) for own in members])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(KMeans(clusters, init=starts_CH, n_init=1).fit_predict(features_UH))


def _agreement(chosen_U: np.ndarray, clusters_U: np.ndarray) -> float:
    from sklearn.metrics import adjusted_mutual_info_score

    alike = min(len(np.unique(values)) for values in (chosen_U, clusters_U)) < 2
    return 0.0 if alike else float(adjusted_mutual_info_score(chosen_U, clusters_U))
