"""Label-free scores against formulas written another way, on cases whose answer is known, and on bad input."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest

from nlp_transfer import selection
from nlp_transfer.recipe.trust import Selection
from nlp_transfer.selection import Units


def random_probabilities(seed: int = 0, shape: tuple[int, int, int] = (1, 30, 4), scale: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=shape) * scale
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def certain(classes: list[int], count: int = 3) -> np.ndarray:
    return np.eye(count)[classes][None]


def blobs(seed: int = 0, each: int = 20, classes: int = 3, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(classes), each)
    return np.eye(classes, width)[truth] * 10 + draw.normal(size=(len(truth), width)), truth


def units(probabilities: np.ndarray, features: np.ndarray, gold: np.ndarray | None = None) -> Units:
    return Units(probabilities, probabilities.argmax(-1), features, gold)


def test_names_are_those_of_the_recipe() -> None:
    assert [*selection.SCORES] == [name for name in get_args(Selection) if name not in ("source_dev", "oracle")]


# Confidence and diversity


def test_entropy_by_loops() -> None:
    rows = random_probabilities()[0]
    expected = sum(p * math.log(p) for row in rows for p in row) / len(rows)
    assert selection.entropy(rows[None]) == pytest.approx(expected)
    assert selection.entropy(np.full((1, 5, 4), 0.25)) == pytest.approx(-math.log(4))
    assert selection.entropy(certain([0, 1, 2])) == 0.0


def test_information_maximisation_is_the_mean_divergence_from_the_mean() -> None:
    """Mutual information, written as Kullback-Leibler divergence instead of as a difference of entropies."""
    rows = random_probabilities(1)[0]
    mean = rows.mean(0)
    expected = np.mean([sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True)) for row in rows])
    assert selection.information_maximisation(rows[None]) == pytest.approx(expected)
    assert selection.information_maximisation(certain([0, 1, 2] * 4)) == pytest.approx(math.log(3))
    assert selection.information_maximisation(certain([1] * 9)) == pytest.approx(0.0)


def test_bnm_by_eigenvalues() -> None:
    rows = random_probabilities(2)[0]
    expected = np.sqrt(np.linalg.eigvalsh(rows.T @ rows).clip(min=0)).sum() / math.sqrt(30 * 4)
    assert selection.bnm(rows[None]) == pytest.approx(expected)
    assert selection.bnm(certain([0, 1, 2] * 4)) == pytest.approx(1.0)
    assert selection.bnm(certain([0] * 12)) == pytest.approx(1 / math.sqrt(3))
    assert selection.bnm(certain([2])) == pytest.approx(1.0)  # one unit cannot use more than one class


@pytest.mark.parametrize("score", [selection.entropy, selection.information_maximisation, selection.bnm])
def test_several_labels_are_the_mean_over_their_decisions(score: object) -> None:
    yes = np.random.default_rng(3).uniform(size=(3, 20))
    both = np.stack([1 - yes, yes], axis=-1)
    assert score(both) == pytest.approx(np.mean([score(one[None]) for one in both]))  # type: ignore[operator]


def test_a_collapsed_model_fools_entropy_but_not_diversity() -> None:
    good, collapsed = certain([0, 1, 2] * 10) * 0.94 + 0.02, certain([1] * 30)
    assert selection.entropy(collapsed) > selection.entropy(good)
    assert selection.information_maximisation(collapsed) < selection.information_maximisation(good)
    assert selection.bnm(collapsed) < selection.bnm(good)


# Clusters


def adjusted_mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Vinh, Epps and Bailey (2010), by the hypergeometric sum, with the arithmetic mean of the entropies."""
    total = len(first)
    table = np.array([[((first == a) & (second == b)).sum() for b in set(second)] for a in set(first)])
    rows, columns = table.sum(1), table.sum(0)

    def of(counts: np.ndarray) -> float:
        return -sum(n / total * math.log(n / total) for n in counts if n)

    found = of(rows) + of(columns) - of(table.ravel())
    chance = 0.0
    for a, b in itertools.product(rows, columns):
        for n in range(max(1, a + b - total), min(a, b) + 1):
            probability = math.comb(b, n) * math.comb(total - b, a - n) / math.comb(total, a)
            chance += probability * n / total * math.log(total * n / (a * b))
    return (found - chance) / ((of(rows) + of(columns)) / 2 - chance)


def lloyd(features: np.ndarray, starts: np.ndarray) -> np.ndarray:
    for _ in range(100):
        nearest = ((features[:, None] - starts[None]) ** 2).sum(-1).argmin(-1)
        starts = np.stack([features[nearest == number].mean(0) for number in range(len(starts))])
    return nearest


def test_class_ami_by_loops() -> None:
    draw = np.random.default_rng(4)
    features = draw.normal(size=(60, 5))
    features[:, 0] *= 4
    chosen = (features[:, 0] + 2 * draw.normal(size=60) > 0).astype(int) + (features[:, 0] > 4)
    clusters = lloyd(features, np.stack([features[chosen == number].mean(0) for number in range(3)]))
    expected = adjusted_mutual_information(chosen, clusters)
    assert 0.1 < expected < 0.9
    assert selection.class_ami(features, chosen[None], 3) == pytest.approx(expected)


def test_class_ami_at_its_ends() -> None:
    features, truth = blobs()
    assert selection.class_ami(features, truth[None], 3) == pytest.approx(1.0)
    shuffled = np.random.default_rng(0).permutation(truth)
    assert abs(selection.class_ami(features, shuffled[None], 3)) < 0.15
    assert selection.class_ami(features, np.zeros((1, 60), dtype=int), 3) == 0.0  # scikit-learn says 1 of two constants
    lost = np.where(truth == 2, 1, truth)
    assert 0.3 < selection.class_ami(features, lost[None], 3) < 0.95
    assert selection.class_ami(np.zeros((8, 4)), np.arange(8)[None] % 2, 2) == 0.0  # no clusters in equal features


def test_each_label_of_several_has_its_own_clusters() -> None:
    draw = np.random.default_rng(5)
    bits = draw.integers(0, 2, size=(2, 80))
    features = np.concatenate([bits.T * 6.0, np.zeros((80, 2))], axis=1) + draw.normal(size=(80, 4)) * 0.3
    assert selection.class_ami(features, bits, 2) == pytest.approx(1.0)


# Deep Embedded Validation


def test_weighted_risk_is_the_intercept_of_a_regression() -> None:
    """A control variate of known mean 1 is a regression of the weighted error on weight − 1, read off at 0."""
    draw = np.random.default_rng(6)
    weights, errors = draw.gamma(2.0, 0.5, size=50), (draw.uniform(size=50) < 0.3).astype(float)
    expected = np.polyfit(weights - 1, weights * errors, 1)[1]
    assert selection.weighted_risk(errors, weights) == pytest.approx(expected)
    assert selection.weighted_risk(errors, np.ones(50)) == pytest.approx(errors.mean())
    assert selection.weighted_risk(np.array([0.5]), np.array([1.3])) == pytest.approx(0.65)
    assert selection.weighted_risk(np.ones(50), weights) == pytest.approx(1.0)  # what is always wrong is always wrong


def test_dev_sees_the_error_that_lies_where_the_target_is() -> None:
    draw = np.random.default_rng(7)
    source, target = draw.normal(size=(1500, 1)), draw.normal(size=(1500, 1)) + 1
    wrong_source, wrong_target = (side[:, 0] > 1 for side in (source, target))
    ratios = selection.density_ratios(source, target)
    assert np.corrcoef(np.log(ratios), source[:, 0])[0, 1] > 0.999  # ln of the ratio of N(1, 1) and N(0, 1) is x − ½
    assert ratios.mean() == pytest.approx(1.0, abs=0.1)
    assert wrong_source.mean() < 0.2
    assert -selection.dev(wrong_source.astype(float), source, target) == pytest.approx(wrong_target.mean(), abs=0.06)


def test_density_ratios_count_both_sides() -> None:
    draw = np.random.default_rng(8)
    same = selection.density_ratios(draw.normal(size=(400, 3)), draw.normal(size=(100, 3)))
    assert same.mean() == pytest.approx(1.0, abs=0.1)
    apart = selection.density_ratios(draw.normal(size=(50, 3)), draw.normal(size=(50, 3)) + 50)
    assert (apart >= 0.01).all() and (apart < 0.1).all()


def test_dev_needs_source_labels() -> None:
    features, truth = blobs()
    told = units(certain(truth.tolist()), features)
    with pytest.raises(ValueError, match="labelled source"):
        selection.score("dev", told, told)
    assert selection.score("dev", told, units(certain(truth.tolist()), features, truth[None])) == pytest.approx(0.0)
    wrong = units(certain(truth.tolist()), features, (truth[None] + 1) % 3)
    assert selection.score("dev", told, wrong) == pytest.approx(-1.0)


# Bad input


@pytest.mark.parametrize("name", selection.SCORES)
@pytest.mark.parametrize("spoilt", ["probabilities", "features"])
def test_what_is_not_finite_gives_no_number(name: str, spoilt: str) -> None:
    features, truth = blobs()
    probabilities = certain(truth.tolist())
    source = units(probabilities.copy(), features.copy(), truth[None])
    (probabilities[0, 0] if spoilt == "probabilities" else features[0])[0] = np.nan
    assert math.isnan(selection.score(name, units(probabilities, features), source))


@pytest.mark.parametrize("name", selection.SCORES)
@pytest.mark.parametrize("count", [1, 2])
def test_few_units(name: str, count: int) -> None:
    features, truth = blobs()
    source = units(certain(truth.tolist()), features, truth[None])
    few = units(certain([0, 1][:count]), features[:count])
    value = selection.score(name, few, source)
    assert isinstance(value, float)
    assert math.isfinite(value) or (name == "dev" and count == 1)


def test_samples_are_the_same_for_equally_many_units() -> None:
    features, truth = blobs()
    one, two = (units(certain(truth.tolist()), features * factor, truth[None]).sample(7) for factor in (1, 2))
    assert len(one) == len(two) == 7
    assert np.array_equal(one.features_UH * 2, two.features_UH)
    assert np.array_equal(one.gold_DU, one.chosen_DU)
    assert units(certain(truth.tolist()), features).sample(60).features_UH is features
