"""Scores against scikit-learn, seqeval and hand-worked cases."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import chain
from typing import Any

import numpy as np
import pytest
from helpers import LABELS, random_answers
from seqeval.metrics import classification_report as entity_report
from seqeval.scheme import IOB2
from sklearn.metrics import classification_report, confusion_matrix, f1_score

from nlp_transfer.metrics import (
    accuracy_counts,
    bootstrap_interval,
    classification_metrics,
    entity_counts,
    entity_metrics,
    f1_from_counts,
    headline,
    macro_f1_counts,
    macro_f1_from_counts,
    multi_label_counts,
    multi_label_metrics,
    ratio,
    tune_thresholds,
)

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def random_tags(sentences: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Return gold and predicted tags, valid or not, of sentences of 0 to 11 words."""
    generator = np.random.default_rng(seed)
    gold = [generator.choice(TAGS, generator.integers(12)).tolist() for _ in range(sentences)]
    keep = [generator.random(len(tags)) < 0.8 for tags in gold]
    predicted = [
        np.where(kept, np.array(tags, dtype="<U5"), generator.choice(TAGS, len(tags))).tolist()
        for kept, tags in zip(keep, gold, strict=True)
    ]
    return gold, predicted


def random_sets(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[list[str]], list[list[str]]]:
    """Return gold and predicted decisions (N, 4), the last label unused, and the same as lists of names."""
    generator = np.random.default_rng(seed)
    gold = generator.random((rows, 4)) < [0.5, 0.3, 0.1, 0.0]
    predicted = gold ^ (generator.random((rows, 4)) < [0.2, 0.2, 0.1, 0.0])
    names = [[[LABELS[i] for i in np.flatnonzero(row)] for row in matrix] for matrix in (gold, predicted)]
    return gold, predicted, names[0], names[1]


def plain_f1(gold_N: np.ndarray, given_N: np.ndarray) -> float:
    """Return F1 from right decisions and the two kinds of wrong ones."""
    right, wrong = (gold_N & given_N).sum(), (gold_N != given_N).sum()
    return float(right / (right + wrong / 2)) if right else 0.0


def check_table(table: dict[str, dict[str, float]], report: dict[str, Any], names: list[str]) -> None:
    for name in names:
        expected = report[name]
        assert table[name]["precision"] == pytest.approx(expected["precision"])
        assert table[name]["recall"] == pytest.approx(expected["recall"])
        assert table[name]["f1"] == pytest.approx(expected["f1-score"])
        assert table[name]["support"] == expected["support"]


class TestClassification:
    def test_by_hand(self) -> None:
        scores = classification_metrics(["a", "a", "b", "b"], ["a", "b", "b", "b"], ["a", "b", "c"])
        assert scores["accuracy"] == 0.75
        first = {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
        assert scores["per_class"]["a"] == first
        assert scores["per_class"]["b"]["f1"] == pytest.approx(0.8)
        assert scores["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
        assert scores["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)  # c occurs nowhere and does not count
        assert scores["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]

    @pytest.mark.parametrize("rows", [1, 7, 500])
    def test_against_sklearn(self, rows: int) -> None:
        gold, predicted = random_answers(rows, seed=rows)
        scores = classification_metrics(gold, predicted, LABELS)
        report = classification_report(gold, predicted, labels=LABELS, output_dict=True, zero_division=0)
        check_table(scores["per_class"], report, LABELS)
        assert scores["accuracy"] == pytest.approx(np.mean(np.array(gold) == np.array(predicted)))
        for average in ("macro", "weighted"):
            expected = f1_score(gold, predicted, average=average, zero_division=0)
            assert scores[f"{average}_f1"] == pytest.approx(expected)
        assert scores["confusion_matrix"] == confusion_matrix(gold, predicted, labels=LABELS).tolist()
        assert json.loads(json.dumps(scores)) == scores

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="no rows"):
            classification_metrics([], [], LABELS)
        with pytest.raises(ValueError, match="1 gold rows and 2 predicted"):
            classification_metrics(["bad"], ["bad", "bad"], LABELS)
        with pytest.raises(ValueError, match=r"predicted labels \['odd'\]"):
            classification_metrics(["bad"], ["odd"], LABELS)
        with pytest.raises(ValueError, match="differ"):
            classification_metrics(["bad"], ["bad"], ["bad", "bad"])


class TestMultiLabel:
    def test_by_hand(self) -> None:
        scores = multi_label_metrics([["a", "b"], [], ["b"]], [("a",), set(), ["b", "a"]], ["a", "b", "c"])
        assert scores["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
        assert scores["exact_match"] == pytest.approx(1 / 3)
        first = {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
        assert scores["per_class"]["a"] == first
        assert scores["macro_f1"] == pytest.approx(2 / 3)  # a and b have 2/3 each; c occurs nowhere

    def test_against_sklearn(self) -> None:
        gold_NC, predicted_NC, gold, predicted = random_sets(300, seed=1)
        scores = multi_label_metrics(gold, predicted, LABELS)
        report = classification_report(gold_NC, predicted_NC, target_names=LABELS, output_dict=True, zero_division=0)
        check_table(scores["per_class"], report, LABELS)
        assert scores["micro_f1"] == pytest.approx(f1_score(gold_NC, predicted_NC, average="micro"))
        used_macro = f1_score(gold_NC[:, :3], predicted_NC[:, :3], average="macro")
        assert scores["macro_f1"] == pytest.approx(used_macro)
        assert scores["exact_match"] == pytest.approx((gold_NC == predicted_NC).all(1).mean())
        assert json.loads(json.dumps(scores)) == scores

    def test_no_label_anywhere(self) -> None:
        scores = multi_label_metrics([[], []], [[], []], LABELS)
        assert (scores["micro_f1"], scores["macro_f1"], scores["exact_match"]) == (0.0, 0.0, 1.0)

    def test_unknown_label(self) -> None:
        with pytest.raises(ValueError, match=r"gold labels \['odd'\]"):
            multi_label_metrics([["odd"]], [[]], LABELS)
        with pytest.raises(ValueError, match=r"predicted labels \['odd'\]"):
            multi_label_counts([[]], [["odd"]], LABELS)


class TestThresholds:
    def test_by_hand(self) -> None:
        gold = np.array([[0, 1, 0], [1, 1, 0], [1, 1, 0], [0, 1, 0]])
        probabilities = np.array([[0.1, 0.9, 0.9], [0.3, 0.2, 0.9], [0.4, 0.6, 0.9], [0.2, 0.8, 0.9]])
        assert tune_thresholds(gold, probabilities) == pytest.approx([0.25, 0.1, 0.5])

    def test_ties_go_to_the_closest_to_one_half(self) -> None:
        # Above 0.85 one of two is found, f1 2/3; above 0.1 both are found among four, f1 2/3 as well.
        gold, probabilities = np.array([[1], [0], [0], [1]]), np.array([[0.2], [0.7], [0.8], [0.9]])
        assert tune_thresholds(gold, probabilities) == pytest.approx([0.85])

    @pytest.mark.parametrize("decimals", [1, 3, 9])
    def test_no_threshold_is_better(self, decimals: int) -> None:
        generator = np.random.default_rng(decimals)
        gold = (generator.random((80, 5)) < [0.02, 0.2, 0.5, 0.9, 1.0]).astype(int)
        gold[0] = 1
        probabilities = np.clip(0.3 * gold + 0.7 * generator.random((80, 5)), 0, 1).round(decimals)
        thresholds = tune_thresholds(gold, probabilities)
        assert ((thresholds > 0) & (thresholds < 1)).all()
        for column, threshold in enumerate(thresholds):
            tried = [0.0001, *probabilities[:, column], *np.linspace(0.05, 0.95, 19)]
            best = max(plain_f1(gold[:, column], probabilities[:, column] > value) for value in tried)
            assert plain_f1(gold[:, column], probabilities[:, column] > threshold) == pytest.approx(best)

    def test_neighbouring_floats_are_divided(self) -> None:
        for lower in (np.float64(0.3), np.nextafter(0.3, 1)):
            upper = np.nextafter(lower, 1)
            threshold = tune_thresholds(np.array([[0], [1]]), np.array([[lower], [upper]]))[0]
            assert upper > threshold and not lower > threshold

    def test_edges(self) -> None:
        assert tune_thresholds(np.array([[1], [1]]), np.zeros((2, 1))).tolist() == [0.5]
        assert tune_thresholds(np.array([[1], [0]]), np.array([[1.0], [1.0]])).tolist() == [0.5]
        assert tune_thresholds(np.zeros((0, 2)), np.zeros((0, 2))).tolist() == [0.5, 0.5]
        for gold, probabilities in ([2], [0.5]), ([1], [1.5]), ([1], [np.nan]), ([1], [0.1, 0.2]):
            with pytest.raises(ValueError):
                tune_thresholds(np.array([gold]), np.array([probabilities]))


class TestEntities:
    def test_by_hand(self) -> None:
        gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "B-LOC"]]
        predicted = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "I-LOC"]]
        scores = entity_metrics(gold, predicted)
        assert (scores["precision"], scores["recall"]) == (pytest.approx(1 / 3), 0.25)
        assert scores["f1"] == pytest.approx(2 / 7)
        person = {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
        assert scores["per_type"]["PER"] == person
        assert scores["per_type"]["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 3}
        assert scores["word_report"]["accuracy"] == pytest.approx(4 / 6)
        assert scores["word_report"]["per_tag"]["B-LOC"]["recall"] == pytest.approx(1 / 3)
        assert entity_counts(gold, predicted).tolist() == [[1, 2, 2], [0, 1, 2]]

    def test_strict_not_lenient(self) -> None:
        gold, predicted = [["B-PER", "I-PER"]], [["I-PER", "I-PER"]]
        lenient = entity_report(gold, predicted, output_dict=True, zero_division=0)
        assert lenient["micro avg"]["f1-score"] == 1.0
        assert entity_metrics(gold, predicted)["f1"] == 0.0
        assert entity_counts(gold, predicted).tolist() == [[0, 0, 1]]

    @pytest.mark.parametrize("seed", range(4))
    def test_against_seqeval(self, seed: int) -> None:
        gold, predicted = random_tags(120, seed)
        scores = entity_metrics(gold, predicted)
        report = entity_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
        check_table(scores["per_type"], report, ["LOC", "PER"])
        overall = report["micro avg"]
        assert scores["precision"] == pytest.approx(overall["precision"])
        assert scores["recall"] == pytest.approx(overall["recall"])
        assert scores["f1"] == pytest.approx(overall["f1-score"])
        assert f1_from_counts(entity_counts(gold, predicted).sum(0)) == pytest.approx(scores["f1"])
        words, answers = list(chain(*gold)), list(chain(*predicted))
        by_word = classification_report(words, answers, output_dict=True, zero_division=0)
        check_table(scores["word_report"]["per_tag"], by_word, TAGS)
        assert scores["word_report"]["accuracy"] == pytest.approx(by_word["accuracy"])
        assert json.loads(json.dumps(scores)) == scores

    def test_nothing_to_find(self) -> None:
        sentences: list[list[str]] = [["O", "O"], []]
        for tags in ([sentence] for sentence in sentences):
            scores = entity_metrics(tags, tags)
            assert (scores["f1"], scores["per_type"]) == (0.0, {})
            assert json.loads(json.dumps(scores)) == scores

    @pytest.mark.parametrize("score", [entity_metrics, entity_counts])
    def test_refusals(self, score: Any) -> None:
        with pytest.raises(ValueError, match=r"Sentence 1 .* 2 gold tags and 1 predicted"):
            score([["O"], ["O", "O"], ["O"]], [["O"], ["O"], []])
        with pytest.raises(ValueError, match="2 gold rows and 1 predicted"):
            score([["O"], ["O"]], [["O"]])
        with pytest.raises(ValueError, match="no rows"):
            score([], [])
        for tag in ("PER", "E-PER", "B-", "OTHER", ""):
            with pytest.raises(ValueError, match="IOB2"):
                score([["O"]], [[tag]])


class TestCounts:
    def test_sums_give_the_metrics(self) -> None:
        gold, predicted = random_answers(200, seed=3)
        scores = classification_metrics(gold, predicted, LABELS)
        assert ratio(accuracy_counts(gold, predicted).sum(0)) == pytest.approx(scores["accuracy"])
        counts = macro_f1_counts(gold, predicted, LABELS)
        assert counts.shape == (200, 12)
        assert macro_f1_from_counts(counts.sum(0)) == pytest.approx(scores["macro_f1"])
        _, _, gold_sets, predicted_sets = random_sets(200, seed=3)
        counts = multi_label_counts(gold_sets, predicted_sets)
        assert counts.shape == (200, 3)
        expected = multi_label_metrics(gold_sets, predicted_sets, LABELS)["micro_f1"]
        assert f1_from_counts(counts.sum(0)) == pytest.approx(expected)

    def test_statistics_keep_leading_shapes(self) -> None:
        counts = np.random.default_rng(0).integers(0, 9, (2, 5, 12))
        assert ratio(counts[..., :2]).shape == f1_from_counts(counts[..., :3]).shape == (2, 5)
        values = macro_f1_from_counts(counts)
        assert values.shape == (2, 5)
        assert values[1, 2] == pytest.approx(macro_f1_from_counts(counts[1, 2]))
        for statistic, width in ((ratio, 2), (f1_from_counts, 3), (macro_f1_from_counts, 12)):
            assert statistic(np.zeros((4, width))).tolist() == [0.0] * 4

    def test_numbers_of_rows_must_agree(self) -> None:
        for counts in (accuracy_counts, multi_label_counts):
            with pytest.raises(ValueError):
                counts(["a"], ["a", "a"])
        with pytest.raises(ValueError, match="1 gold rows and 2"):
            macro_f1_counts(["bad"], ["bad", "bad"], LABELS)

    @pytest.mark.parametrize("kind", ["classification", "multi_label", "ner"])
    def test_headline_is_in_the_scores(self, kind: str) -> None:
        name, counts, statistic = headline(kind)
        gold: Any
        predicted: Any
        if kind == "classification":
            gold, predicted = random_answers(50, seed=5)
            scores = classification_metrics(gold, predicted, LABELS)
        elif kind == "multi_label":
            _, _, gold, predicted = random_sets(50, seed=5)
            scores = multi_label_metrics(gold, predicted, LABELS)
        else:
            gold, predicted = random_tags(50, seed=5)
            scores = entity_metrics(gold, predicted)
        assert bootstrap_interval(counts(gold, predicted), statistic).value == pytest.approx(scores[name])

    def test_unknown_headline(self) -> None:
        with pytest.raises(ValueError, match="known are classification, multi_label, ner"):
            headline("masked_lm")


class TestEvaluate:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse every connection: nothing may be fetched."""

        def refuse(*_: Any) -> None:
            raise AssertionError("a metric went to the network")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    def test_classification(self, tmp_path: Any) -> None:
        import evaluate

        from nlp_transfer.evaluate_metrics import F1, Accuracy, Average

        gold, predicted = random_answers(90, seed=8)
        averages: tuple[Average, ...] = ("macro", "weighted", "micro")
        metric = evaluate.combine(
            [Accuracy(cache_dir=tmp_path), *(F1(average, cache_dir=tmp_path) for average in averages)]
        )
        for start in range(0, 90, 32):
            rows = slice(start, start + 32)
            metric.add_batch(predictions=predicted[rows], references=gold[rows])
        scores = classification_metrics(gold, predicted, LABELS)
        expected = {name: scores[name] for name in ("accuracy", "macro_f1", "weighted_f1")}
        assert metric.compute() == pytest.approx({**expected, "micro_f1": scores["accuracy"]})

    def test_multi_label(self, tmp_path: Any) -> None:
        from nlp_transfer.evaluate_metrics import F1, Average

        _, _, gold, predicted = random_sets(90, seed=8)
        gold[0], predicted[0] = [], []
        scores = multi_label_metrics(gold, predicted, LABELS)
        averages: tuple[Average, ...] = ("macro", "micro")
        for average in averages:
            metric = F1(average, multi_label=True, cache_dir=tmp_path)
            name = f"{average}_f1"
            expected = {name: pytest.approx(scores[name])}
            assert metric.compute(predictions=predicted, references=gold) == expected
        assert metric.compute(predictions=[[], []], references=[[], []]) == {"micro_f1": 0.0}

    def test_entities(self, tmp_path: Any) -> None:
        from nlp_transfer.evaluate_metrics import StrictEntityF1

        gold, predicted = random_tags(90, seed=8)
        metric = StrictEntityF1(cache_dir=tmp_path)
        for start in range(0, 90, 32):
            metric.add_batch(predictions=predicted[start : start + 32], references=gold[start : start + 32])
        scores = entity_metrics(gold, predicted)
        expected = {name: scores[name] for name in ("precision", "recall", "f1")}
        assert metric.compute() == pytest.approx(expected)
        strict = metric.compute(predictions=[["I-PER", "I-PER"]], references=[["B-PER", "I-PER"]])
        assert strict == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
        nothing = metric.compute(predictions=[["O"]], references=[["O"]])
        assert nothing == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
        assert json.loads(json.dumps(nothing)) == nothing

    def test_settings(self, tmp_path: Any) -> None:
        from nlp_transfer.evaluate_metrics import F1, Accuracy

        assert Accuracy(cache_dir=tmp_path).keep_in_memory
        assert not Accuracy(cache_dir=tmp_path, keep_in_memory=False).keep_in_memory
        with pytest.raises(ValueError, match="average must be"):
            F1("samples")  # type: ignore[arg-type]


def test_importing_metrics_is_light() -> None:
    heavy = "{'torch', 'evaluate', 'sklearn', 'datasets'}"
    code = f"import sys, nlp_transfer.metrics; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
