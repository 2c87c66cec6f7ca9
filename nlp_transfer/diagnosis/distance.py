"""How far apart two sets of texts are: proxy A-distance and maximum mean discrepancy.

Shape suffixes: N rows, U units, H hidden size, P permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..intervals import Interval, bootstrap_interval

FEWEST = 20
"""Distinct texts of a domain below which nothing is measured: five folds of fewer say nothing."""
FOLDS = 5
STRENGTH = 0.01
"""Inverse regularisation of the domain classifier: there are often more features than rows."""


@dataclass(frozen=True)
class ADistance:
    """How well a linear classifier tells the domains apart.

    Args:
        distance: Proxy A-distance with its bootstrap interval: 0 (nothing tells them apart) to 2 (everything does).
        accuracy: Share of held-out units whose domain is found, mean of the two domains; 0.5 is chance.
    """

    distance: Interval
    accuracy: float


@dataclass(frozen=True)
class Mmd:
    """A two-sample test of the feature distributions.

    Args:
        squared: Unbiased estimate of MMD²; about 0, or below, where the distributions are equal.
        p_value: Share of permutations with as large a value: small means that they differ.
        permutations: Number of permutations.
    """

    squared: float
    p_value: float
    permutations: int


def bag_of_words(rows: Sequence[Sequence[str]]) -> Any:
    """Return which words each row holds: a sparse matrix of 0 and 1, a column a word type."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=list, binary=True, dtype=np.float64).fit_transform(rows)


def proxy_a_distance(
    features_UX: Any, domain_U: np.ndarray, groups_U: np.ndarray, seed: int = 0, resamples: int = 1000
) -> ADistance:
    """Estimate the A-distance of two domains, 2 (1 − 2 ε).

    Ben-David et al. (2007), *Analysis of Representations for Domain Adaptation*, section 4: ε is the error of a linear
    classifier that tells the domains apart. Here it is logistic regression, ε is measured in cross-validation, and it
    is the mean of the two domains' error rates, so that their sizes do not matter. An ε above ½ is chance and gives 0.

    Args:
        features_UX: A dense or sparse matrix of U units. Dense columns are standardised.
        domain_U: 0 source, 1 target.
        groups_U: Units of one group (equal texts, words of one sentence) are held out together, so that what is
            learned by heart does not count.
        seed: Seed of the folds.
        resamples: Bootstrap resamples of the groups.

    Returns:
        The distance. Its interval says how sure it is for these rows, not how another encoder would do.

    Raises:
        ValueError: A domain has fewer than :data:`FEWEST` groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for side in (0, 1):
        if len(np.unique(groups_U[domain_U == side])) < FEWEST:
            raise ValueError(f"At least {FEWEST} distinct texts of each domain are needed.")
    linear = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    classifier = make_pipeline(StandardScaler(), linear) if isinstance(features_UX, np.ndarray) else linear
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    answers_U = cross_val_predict(classifier, features_UX, domain_U, groups=groups_U, cv=folds)
    _, group_U = np.unique(groups_U, return_inverse=True)
    # Of each group: wrong and all units of the source, wrong and all of the target.
    columns = [(answers_U != domain_U) & (domain_U == 0), domain_U == 0, (answers_U != domain_U) & (domain_U == 1)]
    counts_N4 = np.stack([np.bincount(group_U, column) for column in [*columns, domain_U == 1]], axis=1)
    interval = bootstrap_interval(counts_N4, _distance, resamples=resamples, seed=seed)
    return ADistance(interval, float(1 - _error(counts_N4.sum(0))))


def _error(counts: np.ndarray) -> np.ndarray:
    errors = counts[..., [0, 2]] / np.maximum(counts[..., [1, 3]], 1)
    return np.asarray(errors.mean(-1))


def _distance(counts: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 2 * (1 - 2 * _error(counts)))


def mmd_test(
    source_NH: np.ndarray, target_NH: np.ndarray, permutations: int = 500, most: int = 500, seed: int = 0
) -> Mmd:
    """Test whether two samples come from one distribution, by the kernel two-sample test.

    Gretton et al. (2012), *A Kernel Two-Sample Test*, JMLR 13: lemma 6 (the unbiased estimate; k is a Gaussian kernel
    whose bandwidth is the median distance),

        MMD² = Σ_{i≠j} k(x_i, x_j) / m(m−1) + Σ_{i≠j} k(y_i, y_j) / n(n−1) − 2 Σ_{ij} k(x_i, y_j) / mn

    The p-value is that of a permutation test, (1 + number of permutations with as large an MMD²) / (1 + permutations).

    Args:
        source_NH: Features of the source, at least two rows.
        target_NH: Features of the target, at least two rows.
        permutations: Permutations of the domains.
        most: Rows of a domain that are looked at; drawn by the seed if there are more.
        seed: Seed of the draw and of the permutations.

    Returns:
        The estimate and its p-value.

    Raises:
        ValueError: A domain has fewer than two rows.
    """
    if min(len(source_NH), len(target_NH)) < 2:
        raise ValueError("MMD needs at least two rows of each domain.")
    generator = np.random.default_rng(seed)
    halves = [rows[np.sort(generator.permutation(len(rows))[:most])] for rows in (source_NH, target_NH)]
    size = len(halves[0])
    kernel_NN = _gaussian_kernel(np.concatenate(halves).astype(np.float64))
    np.fill_diagonal(kernel_NN, 0.0)
    observed = np.zeros((len(kernel_NN), 1))
    observed[:size] = 1
    shuffled = generator.permuted(np.repeat(observed, permutations, axis=1), axis=0)
    squared = float(_mmd_squared(kernel_NN, observed)[0])
    as_large = int((_mmd_squared(kernel_NN, shuffled) >= squared - 1e-12).sum())
    return Mmd(squared, (1 + as_large) / (1 + permutations), permutations)


def _gaussian_kernel(rows_NH: np.ndarray) -> np.ndarray:
    norms_N = (rows_NH**2).sum(1)
    squares_NN = np.maximum(norms_N[:, None] + norms_N - 2 * rows_NH @ rows_NH.T, 0.0)
    bandwidth = float(np.median(squares_NN[np.triu_indices(len(rows_NH), 1)]))
    # Equal rows throughout: any bandwidth gives the same kernel.
    return np.asarray(np.exp(-squares_NN / (2 * bandwidth if bandwidth > 0 else 1.0)))


def _mmd_squared(kernel_NN: np.ndarray, source_NP: np.ndarray) -> np.ndarray:
    """Return MMD² (P,) for each column of 0 and 1 that says which rows are the source; the diagonal must be 0."""
    target_NP = 1 - source_NP
    towards_NP = kernel_NN @ source_NP
    m, n = source_NP.sum(0), target_NP.sum(0)
    within_source = (source_NP * towards_NP).sum(0) / (m * (m - 1))
    within_target = (target_NP * (kernel_NN @ target_NP)).sum(0) / (n * (n - 1))
    return np.asarray(within_source + within_target - 2 * (target_NP * towards_NP).sum(0) / (m * n))
