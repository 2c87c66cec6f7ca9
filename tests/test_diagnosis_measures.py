"""The maths of a diagnosis against independent formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from nlp_transfer.diagnosis.confidence import negative_entropy, thresholded_accuracy
from nlp_transfer.diagnosis.distance import bag_of_words, mmd_test, proxy_a_distance
from nlp_transfer.diagnosis.label_shift import Outputs, calibrate, estimate_shift, posterior, shares_by_em
from nlp_transfer.diagnosis.transferability import leep, logme
from nlp_transfer.diagnosis.vocabulary import overlap, pieces, pieces_of_words


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def domains(*sizes: int) -> np.ndarray:
    return np.repeat([0, 1], sizes)


# A-distance


def test_a_distance_of_separable_and_of_equal_domains(draw: np.random.Generator) -> None:
    far = np.concatenate([draw.normal(0, 1, (60, 5)), draw.normal(8, 1, (90, 5))])
    found = proxy_a_distance(far, domains(60, 90), np.arange(150))
    assert found.distance.value == 2.0
    assert found.accuracy == 1.0
    same = proxy_a_distance(draw.normal(0, 1, (1000, 5)), domains(300, 700), np.arange(1000))
    assert same.distance.value < 0.25
    assert abs(same.accuracy - 0.5) < 0.07


def test_a_distance_is_twice_the_total_variation_of_what_the_classifier_reads(draw: np.random.Generator) -> None:
    """A feature that 80 % of the source and 30 % of the target have: ε = ½ (0.2 + 0.3), d = 2 (1 − 2 ε) = 1."""
    feature = np.concatenate([np.arange(500) < 400, np.arange(1000) < 300]).astype(float)[:, None]
    found = proxy_a_distance(feature, domains(500, 1000), draw.permutation(1500))
    assert found.distance.value == pytest.approx(1.0)
    assert found.distance.low < 1.0 < found.distance.high


def test_a_distance_of_the_same_texts_is_none_though_each_could_be_learned_by_heart(draw: np.random.Generator) -> None:
    rows = draw.normal(0, 1, (40, 100))
    found = proxy_a_distance(np.concatenate([rows, rows]), domains(40, 40), np.tile(np.arange(40), 2))
    assert found.distance.value < 0.2


def test_a_distance_of_words_and_of_too_few_rows() -> None:
    words = [["film", str(number)] for number in range(30)] + [["app", str(number)] for number in range(30)]
    found = proxy_a_distance(bag_of_words(words), domains(30, 30), np.arange(60))
    assert found.distance.value == 2.0
    with pytest.raises(ValueError, match="distinct texts"):
        proxy_a_distance(bag_of_words(words), domains(30, 30), np.repeat([0, 1, 2], 20))


# MMD


def test_mmd_is_the_double_sum_of_the_paper(draw: np.random.Generator) -> None:
    source, target = draw.normal(0, 1, (7, 3)), draw.normal(1, 1, (5, 3))
    both = np.concatenate([source, target])
    squares = [float(((a - b) ** 2).sum()) for a, b in itertools.combinations(both, 2)]
    width = float(np.median(squares))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * width))

    within = [
        sum(k(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j) / (len(rows) * (len(rows) - 1))
        for rows in (source, target)
    ]
    across = sum(k(a, b) for a in source for b in target) / 35
    assert mmd_test(source, target, permutations=10).squared == pytest.approx(sum(within) - 2 * across)


def test_mmd_permutations_tell_equal_from_unequal_samples(draw: np.random.Generator) -> None:
    p_values = [
        mmd_test(draw.normal(0, 1, (40, 4)), draw.normal(0, 1, (30, 4)), permutations=99, seed=seed).p_value
        for seed in range(40)
    ]
    assert 0.3 < np.mean(p_values) < 0.7  # uniform under equality
    assert sum(value <= 0.05 for value in p_values) <= 6
    far = mmd_test(draw.normal(0, 1, (40, 4)), draw.normal(1, 1, (30, 4)), permutations=99)
    assert far.p_value == 0.01
    assert far.squared > 0


def test_mmd_of_equal_rows_and_of_a_subsample(draw: np.random.Generator) -> None:
    equal = mmd_test(np.ones((5, 2)), np.ones((4, 2)), permutations=20)
    assert equal.squared == pytest.approx(0)
    assert equal.p_value == 1.0
    rows = draw.normal(0, 1, (60, 2))
    one, two = (mmd_test(rows, rows + 3, permutations=20, most=10, seed=seed) for seed in (1, 1))
    assert one == two


# LogME and LEEP


def test_logme_is_the_maximum_of_the_evidence(draw: np.random.Generator) -> None:
    """log N(y; 0, F F' / α + I / β), maximised directly over α and β."""
    for width in (4, 40):
        features = draw.normal(0, 1, (25, width))
        labels = (features[:, 0] + draw.normal(0, 0.7, 25) > 0).astype(float)

        def negative(logs: np.ndarray, features: np.ndarray = features, labels: np.ndarray = labels) -> float:
            covariance = features @ features.T / math.exp(logs[0]) + np.eye(25) / math.exp(logs[1])
            _, determinant = np.linalg.slogdet(covariance)
            fit = labels @ np.linalg.solve(covariance, labels)
            return float((25 * math.log(2 * math.pi) + determinant + fit) / 2 / 25)

        best = min(minimize(negative, start, method="Nelder-Mead").fun for start in ([0, 0], [3, 1], [-2, 3]))
        assert logme(features, labels[:, None]) == pytest.approx(-best, abs=1e-4)


def test_logme_prefers_features_that_know_the_labels(draw: np.random.Generator) -> None:
    labels = np.eye(3)[draw.integers(0, 3, 90)]
    good = np.concatenate([labels + draw.normal(0, 0.3, (90, 3)), draw.normal(0, 1, (90, 5))], axis=1)
    assert logme(good, labels) > logme(draw.normal(0, 1, (90, 8)), labels)


def test_leep_is_the_loop_of_the_paper(draw: np.random.Generator) -> None:
    theta = draw.dirichlet(np.ones(4), 30)
    labels = draw.integers(0, 3, 30)
    joint = {(y, z): sum(theta[i][z] for i in range(30) if labels[i] == y) / 30 for y in range(3) for z in range(4)}
    marginal = {z: sum(joint[y, z] for y in range(3)) for z in range(4)}
    total = 0.0
    for i in range(30):
        total += math.log(sum(joint[labels[i], z] / marginal[z] * theta[i][z] for z in range(4)))
    assert leep(theta, labels) == pytest.approx(total / 30)
    assert leep(np.eye(3)[labels], labels) == pytest.approx(0)


# Label shift


def simulated(draw: np.random.Generator, shares: list[float], rows: int, sharpness: float = 1.0) -> tuple:
    """Rows whose log-probabilities are the true posterior under equal shares, made too sharp or too flat."""
    labels = draw.choice(len(shares), size=rows, p=shares)
    centres = 1.5 * np.eye(len(shares))
    inputs = centres[labels] + draw.normal(0, 1, (rows, len(shares)))
    logs = -((inputs[:, None] - centres) ** 2).sum(-1) / 2 * sharpness
    return logs - np.log(np.exp(logs).sum(-1, keepdims=True)), labels


def test_a_simulated_shift_is_found(draw: np.random.Generator) -> None:
    truth = [0.7, 0.2, 0.1]
    dev, dev_labels = simulated(draw, [1 / 3] * 3, 600, sharpness=2.5)
    target, _ = simulated(draw, truth, 800, sharpness=2.5)
    names = [["a", "b", "c"]]
    known, unknown = Outputs(dev, np.arange(600), dev_labels), Outputs(target, np.arange(800))
    found = estimate_shift(names, [np.full(3, 1 / 3)], [known], [unknown], resamples=40)
    assert found.clear
    assert found.shift == pytest.approx(0.7 - 1 / 3, abs=0.07)
    for name, share in zip("abc", truth, strict=True):
        assert found.target[name].value == pytest.approx(share, abs=0.08)
        assert found.target[name].low < found.target[name].value < found.target[name].high
    assert found == estimate_shift(names, [np.full(3, 1 / 3)], [known], [unknown], resamples=40)


def test_no_shift_is_not_clear(draw: np.random.Generator) -> None:
    dev, dev_labels = simulated(draw, [0.6, 0.4], 300)
    target, _ = simulated(draw, [0.6, 0.4], 300)
    known, unknown = Outputs(dev, np.arange(300), dev_labels), Outputs(target, np.arange(300))
    found = estimate_shift([["a", "b"]], [np.array([0.6, 0.4])], [known], [unknown], resamples=40)
    assert not found.clear


def test_several_labels_are_several_questions(draw: np.random.Generator) -> None:
    dev = [simulated(draw, [0.5, 0.5], 300), simulated(draw, [0.8, 0.2], 300)]
    target = [simulated(draw, [0.5, 0.5], 300), simulated(draw, [0.2, 0.8], 300)]
    rows = np.arange(300)
    known = [Outputs(logs, rows, labels) for logs, labels in dev]
    unknown = [Outputs(logs, rows) for logs, _ in target]
    shares = [np.array([0.5, 0.5]), np.array([0.8, 0.2])]
    found = estimate_shift([["not x", "x"], ["not y", "y"]], shares, known, unknown, resamples=20)
    assert list(found.target) == ["x", "y"]
    assert abs(found.target["x"].value - 0.5) < 0.12
    assert abs(found.target["y"].value - 0.8) < 0.12
    assert found.shift > 0.4


def test_em_maximises_the_likelihood_of_the_mixture(draw: np.random.Generator) -> None:
    logs, _ = simulated(draw, [0.25, 0.75], 200)
    source, weights = np.array([0.5, 0.5]), draw.integers(0, 3, 200).astype(float)
    found = shares_by_em(np.exp(logs), source, weights, iterations=5000, tolerance=1e-12)
    grid = np.linspace(0.001, 0.999, 999)
    values = [weights @ np.log(np.exp(logs) @ (np.array([share, 1 - share]) / source)) for share in grid]
    assert found[0] == pytest.approx(grid[int(np.argmax(values))], abs=1e-3)
    assert shares_by_em(np.exp(logs), np.array([1.0, 0.0]), weights) == pytest.approx([1.0, 0.0])


def test_calibration_undoes_sharpness_and_bias(draw: np.random.Generator) -> None:
    logs, labels = simulated(draw, [0.5, 0.5], 4000)
    bent = 3.0 * logs + np.array([1.0, 0.0])
    factor, bias = calibrate(bent, labels, np.ones(4000))
    assert factor == pytest.approx(1 / 3, abs=0.04)
    assert np.abs(posterior(bent, factor, bias) - np.exp(logs)).max() < 0.05


# Confidence


def test_thresholded_accuracy_is_the_definition(draw: np.random.Generator) -> None:
    dev, target = draw.random(50), draw.random(80)
    right = draw.random(50) < 0.7
    threshold = next(t for t in sorted(dev) if sum(score < t for score in dev) == sum(not ok for ok in right))
    expected = sum(score >= threshold for score in target) / 80
    assert thresholded_accuracy(dev, right, target) == pytest.approx(expected)
    assert thresholded_accuracy(dev, np.ones(50, dtype=bool), np.array([dev.min(), 0.0])) == 0.5
    assert thresholded_accuracy(dev, np.zeros(50, dtype=bool), target) == 0.0


def test_thresholded_accuracy_finds_that_of_calibrated_answers(draw: np.random.Generator) -> None:
    def answers(spread: float, rows: int) -> tuple[np.ndarray, np.ndarray]:
        sure = 0.5 + draw.random(rows) * spread
        return sure, draw.random(rows) < sure

    dev, right = answers(0.5, 4000)
    target, truth = answers(0.3, 4000)
    found = thresholded_accuracy(dev, right, target)
    assert found < right.mean() - 0.05
    assert abs(found - truth.mean()) < 0.2


def test_negative_entropy() -> None:
    values = negative_entropy(np.log([[0.5, 0.5], [1 - 1e-12, 1e-12]]))
    assert values == pytest.approx([-math.log(2), 0.0], abs=1e-9)


# Words


def test_overlap_counts_types_and_tokens() -> None:
    found = overlap([["The", "film", "good"]], [["the", "end"]], [["the", "app", "App", "good"], ["sync"]])
    assert (found.source_types, found.target_types) == (3, 4)
    assert found.shared_types == 2 / 5
    assert (found.unseen, found.unseen_at_home) == (3 / 5, 1 / 2)
    assert found.most_unseen == [("app", 2), ("sync", 1)]
    assert overlap([], [], []).unseen == 0.0


def test_pieces_are_counted_by_word() -> None:
    found = pieces(["app", "resync", "resync", "it's"], [1, 3, 3, 3], [False, False, True, False])
    assert (found.per_word, found.split_words, found.unknown_words) == (2.5, 0.75, 0.25)
    assert found.worst == [("resync", 3, 2)]


def test_pieces_belong_to_the_word_that_they_begin_in() -> None:
    offsets = [(0, 3), (3, 5), (5, 9), (9, 10), (10, 10)]  # the third carries the space before its word
    assert pieces_of_words(offsets, "resyn now!", [0, 6], [5, 9]).tolist() == [0, 0, 1, -1, -1]
    assert pieces_of_words([], "", [], []).tolist() == []
