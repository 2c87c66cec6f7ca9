"""Picking a model by its agreement with the ensemble of all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from nlp_transfer.comparison.ensemble import agreement_with_ensemble
from nlp_transfer.selection import kappa


def model(draw: np.random.Generator, gold: np.ndarray, accuracy: float, classes: int = 3) -> np.ndarray:
    """Probabilities (1, U, C) of a model whose errors are its own."""
    wrong = (gold + draw.integers(1, classes, len(gold))) % classes
    answers = np.where(draw.random(len(gold)) < accuracy, gold, wrong)
    probabilities = np.full((len(gold), classes), 0.1)
    probabilities[np.arange(len(gold)), answers] = 1 - 0.1 * (classes - 1)
    return probabilities[None]


def test_kappa_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 4, 200), draw.integers(0, 3, 200)
    second[:120] = first[:120]
    assert kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert kappa(np.zeros(5, dtype=int), np.zeros(5, dtype=int)) == 1.0
    assert kappa(np.zeros(4, dtype=int), np.array([0, 0, 0, 1])) == 0.0, "equal by chance alone"


def test_the_best_model_agrees_most() -> None:
    for trial in range(10):
        draw = np.random.default_rng(trial)
        gold = draw.integers(0, 3, 600)
        found = agreement_with_ensemble([model(draw, gold, accuracy) for accuracy in (0.7, 0.7, 0.9, 0.75, 0.75)])
        assert found.index(max(found)) == 2


def test_a_model_that_gives_one_class_to_everything_is_last() -> None:
    draw = np.random.default_rng(1)
    gold = (draw.random(500) < 0.1).astype(int)
    sound = [model(draw, gold, 0.95, classes=2) for _ in range(3)]
    collapsed = np.broadcast_to([0.99, 0.01], (1, 500, 2))
    found = agreement_with_ensemble([*sound, collapsed])
    assert min(found[:3]) > 0.5
    assert found[3] < 0.05, "nine in ten of its answers are right, as chance would have it"


def test_two_models_have_no_judge() -> None:
    two = [np.full((1, 4, 2), 0.5)] * 2
    assert all(math.isnan(value) for value in agreement_with_ensemble(two))


def test_models_must_have_seen_the_same_units() -> None:
    with pytest.raises(ValueError, match="same units"):
        agreement_with_ensemble([np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), np.zeros((1, 5, 2))])
