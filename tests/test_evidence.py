"""Which differences of label-free scores count as evidence, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

from nlp_transfer import evidence
from nlp_transfer.evidence import Scored, Vote, beyond_chance, jackknife_error, votes, without_vote
from nlp_transfer.intervals import Interval
from nlp_transfer.selection import SCORES, Units, score


def side(draw: np.random.Generator, count: int, margin: float) -> Units:
    """Units of two classes, ``margin`` apart in the features."""
    gold = draw.integers(0, 2, count)
    features = np.eye(2, 8)[gold] * margin + draw.normal(size=(count, 8))
    odds = np.exp(features[:, :2])
    probabilities = odds / odds.sum(1, keepdims=True)
    return Units(probabilities[None], probabilities.argmax(1)[None], features, gold[None])


def model(seed: int, margin: float, count: int = 400) -> Scored:
    draw = np.random.default_rng(seed)
    return Scored(side(draw, count, margin), side(draw, 120, margin))


def test_the_error_of_a_mean_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    errors = [jackknife_error(lambda kept: float(values[kept].mean()), 2000, seed) for seed in range(30)]
    assert np.mean(errors) == pytest.approx(values.std(ddof=1) / np.sqrt(2000), rel=0.1)


def test_the_error_by_leaving_out_single_units_is_the_formula() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0])
    means = [np.delete(values, at).mean() for at in range(4)]
    expected = np.sqrt(3 / 4 * np.sum((np.array(means) - np.mean(means)) ** 2))
    assert jackknife_error(lambda kept: float(values[kept].mean()), 4) == pytest.approx(expected)
    assert expected == pytest.approx(values.std(ddof=1) / 2)


def test_neighbours_that_go_together_count_as_one() -> None:
    """Twenty words of a sentence, all right or all wrong: the error is that of sentences, not that of words."""
    sentences = np.random.default_rng(0).normal(size=100)
    words = np.repeat(sentences, 20)
    errors = [jackknife_error(lambda kept: float(words[kept].mean()), 2000, seed) for seed in range(30)]
    assert np.mean(errors) == pytest.approx(sentences.std(ddof=1) / 10, rel=0.1)


def test_scores_are_those_of_selection() -> None:
    draw = np.random.default_rng(1)
    target, source = side(draw, 150, 2.0), side(draw, 80, 2.0)
    scored = Scored(target, source)
    assert set(evidence.EVIDENCE) <= set(SCORES)
    for name in evidence.EVIDENCE:
        assert scored.score(name) == pytest.approx(score(name, target, source))


def test_a_better_model_has_the_votes_and_one_that_is_as_good_has_not() -> None:
    clear = votes(model(0, 3.0), model(1, 1.0))
    assert [vote.side(0.01, 1.0) for vote in clear.values()] == [1, 1]
    assert [vote.side(0.01, 1.0) for vote in votes(model(1, 1.0), model(0, 3.0)).values()] == [-1, -1]
    alike = [votes(model(2 * trial, 1.5), model(2 * trial + 1, 1.5)) for trial in range(12)]
    counted = [vote.side(0.0, errors) != 0 for errors in (0.0, 2.0) for found in alike for vote in found.values()]
    without, beyond_two = counted[:24], counted[24:]
    assert all(without), "any difference is one"
    assert sum(beyond_two) <= 6


def test_a_vote_needs_both_a_margin_and_more_than_its_error() -> None:
    assert Vote(0.05, 0.01).side(0.01, 1.0) == 1
    assert Vote(-0.05, 0.01).side(0.01, 1.0) == -1
    assert Vote(0.05, 0.06).side(0.01, 1.0) == 0
    assert Vote(0.05, 0.01).side(0.06, 1.0) == 0
    assert Vote(None).side(0.0, 0.0) == 0


def test_a_score_may_abstain() -> None:
    found = votes(model(0, 3.0), model(1, 1.0), abstaining={"dev"})
    assert found["dev"] == Vote(None)
    assert found["class_ami"].difference is not None


@pytest.mark.parametrize(
    ("selected_by", "words", "blind", "silent"),
    [
        ("source_dev", False, False, set()),
        ("dev", False, False, {"dev"}),
        ("class_ami", False, True, {"class_ami", "dev"}),
        ("source_dev", False, True, {"dev"}),
        ("source_dev", True, False, {"class_ami", "dev"}),
        ("dev", True, True, {"class_ami", "dev"}),
    ],
)
def test_who_has_no_vote(selected_by: str, words: bool, blind: bool, silent: set[str]) -> None:
    assert without_vote(selected_by, words, blind) == silent


@pytest.mark.parametrize(
    ("gain", "side"),
    [
        ((0.03, 0.01, 0.05), 1),
        ((0.03, -0.01, 0.05), 0),
        ((-0.03, -0.05, -0.01), -1),
        ((0.005, 0.004, 0.006), 0),
        ((0.03, 0.012, 0.07), 1),
        ((-0.03, -0.07, -0.012), -1),
    ],
)
def test_a_gain_votes_where_its_interval_does_not_hold_0(gain: tuple[float, float, float], side: int) -> None:
    assert beyond_chance(Interval(*gain)).side(margin=0.01, errors=1.0) == side
