"""What a model says of units, against one window at a time without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import ner_rows, text_rows
from training import Bench, build

from nlp_transfer.outputs import WORDS_PER_UNIT, sample_rows, units_of


def spoken(bench: Bench, window: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits and last hidden states of one window."""
    with torch.no_grad():
        output = bench.model.eval()(torch.tensor([window.input_ids]), output_hidden_states=True)
    return output.logits[0].numpy(), output.hidden_states[-1][0].numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum(-1, keepdims=True)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("kind", ["classification", "multi_label"])
def test_units_of_texts_are_means_over_windows(kind: str, mean: bool, tiny_bert: Path) -> None:
    bench = build(tiny_bert, kind, max_length=9)
    bench.task.mean_pooling = mean
    found = units_of(bench.model, bench.task, bench.source, 0, most=1000, batch_tokens=64)
    rows: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for window in bench.source.windows:
        logits, hidden = spoken(bench, window)
        rows.setdefault(window.row, []).append((logits, hidden.mean(0) if mean else hidden[0]))
    assert max(len(parts) for parts in rows.values()) > 1
    logits = np.stack([np.mean([part[0] for part in rows[row]], axis=0) for row in sorted(rows)])
    features = np.stack([np.mean([part[1] for part in rows[row]], axis=0) for row in sorted(rows)])
    assert found.features_UH == pytest.approx(features, abs=1e-5)
    if kind == "multi_label":
        yes = 1 / (1 + np.exp(-logits))
        assert found.probabilities_DUC[:, :, 1] == pytest.approx(yes.T, abs=1e-5)
        assert found.probabilities_DUC.sum(-1) == pytest.approx(1.0)
    else:
        assert found.probabilities_DUC[0] == pytest.approx(softmax(logits), abs=1e-5)
        assert found.chosen_DU[0].tolist() == logits.argmax(-1).tolist()
    assert found.gold_DU is not None and found.gold_DU.shape == found.chosen_DU.shape
    labels = {window.row: row["label"] for window, row in zip(bench.source.windows, bench.source.features, strict=True)}
    assert found.gold_DU.T.tolist() == [np.atleast_1d(labels[row]).tolist() for row in sorted(labels)]


def test_answers_follow_the_tuned_thresholds(tiny_bert: Path) -> None:
    bench = build(tiny_bert, "multi_label")
    bench.task.thresholds_C = np.array([0.0, 1.0, 0.5])  # type: ignore[attr-defined]
    found = units_of(bench.model, bench.task, bench.source, 0, most=1000)
    assert found.chosen_DU[0].all() and not found.chosen_DU[1].any()


def test_units_of_words_are_their_first_subwords(tiny_bert: Path) -> None:
    bench = build(tiny_bert, "ner", max_length=9, dann=True)
    found = units_of(bench.model, bench.task, bench.source, 0, most=10_000, batch_tokens=64)
    logits, features = [], []
    for window in bench.source.windows:
        told, hidden = spoken(bench, window)
        logits.append(told[window.positions])
        features.append(hidden[window.positions])
    assert found.features_UH == pytest.approx(np.concatenate(features), abs=1e-5)
    assert found.probabilities_DUC[0] == pytest.approx(softmax(np.concatenate(logits)), abs=1e-5)
    names = [tag for tags in ner_rows(24)["tags"] for tag in tags]
    assert found.gold_DU is not None
    assert sorted(bench.task.labels[number] for number in found.gold_DU[0]) == sorted(names)
    assert bench.target is not None
    unlabelled = units_of(bench.model, bench.task, bench.target, 0, most=30)
    assert unlabelled.gold_DU is None and len(unlabelled) == 30


def test_a_model_keeps_its_mode(tiny_bert: Path) -> None:
    bench = build(tiny_bert, "classification")
    for training in (True, False):
        bench.model.train(training)
        units_of(bench.model, bench.task, bench.source, 0, most=10)
        assert bench.model.training is training


def test_samples_of_rows() -> None:
    rows = text_rows(50)
    kept = sample_rows(rows, 20, 1)
    assert len(kept) == 20 and kept["text"][:] == sample_rows(rows, 20, 1)["text"][:]
    places = [rows["text"][:].index(text) for text in kept["text"]]
    assert places == sorted(places) and places != list(range(20))
    assert places != [rows["text"][:].index(text) for text in sample_rows(rows, 20, 2)["text"]]
    assert sample_rows(rows, 50, 1) is rows


def test_samples_of_long_sentences_are_bounded_in_words() -> None:
    rows = Dataset.from_dict({"words": [["word"] * 40] * 30})
    assert len(sample_rows(rows, 20, 1)) == WORDS_PER_UNIT * 20 // 40
    assert len(sample_rows(Dataset.from_dict({"words": [["word"] * 900]}), 2, 1)) == 1
