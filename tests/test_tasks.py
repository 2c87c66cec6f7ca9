"""Tasks: losses beside plain torch formulas, decision rules, and scores on whole texts."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from conftest import sentencepiece_tokenizer, wordpiece_tokenizer
from datasets import Dataset
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.windows import Limits
from nlp_transfer.tasks.base import Encoded
from nlp_transfer.tasks.classification import Classification, MultiLabel
from nlp_transfer.tasks.ner import Ner, tag_set
from nlp_transfer.units import UNKNOWN, Step

LABELS = ["negative", "neutral", "positive"]
TEXTS = ["good film", "bad plot " * 40, "the screen is fine", "it broke"]


def step_of(task, batch, logits, hidden_size=4):
    hidden_NTH = torch.randn(*batch["input_ids"].shape, hidden_size)
    return Step(**task.units(hidden_NTH, logits, batch), progress=0.0, model=torch.nn.Linear(1, 1))


def batch_of(encoded, target=()):
    items = [{"source": row} for row in encoded.features]
    for item, row in zip(items, target, strict=False):
        item["target"] = row
    return PairCollator(0)(items)


def ner_dataset(words, tags):
    starts = [[sum(len(w) + 1 for w in row[:at]) for at in range(len(row))] for row in words]
    return Dataset.from_dict({"text": [" ".join(row) for row in words], "words": words, "starts": starts, "tags": tags})


# --- losses ------------------------------------------------------------------------------------------------------


def test_single_label_loss_is_the_mean_cross_entropy_of_texts():
    rows = Dataset.from_dict({"text": TEXTS[::2], "label": ["positive", "negative"]})
    task = Classification(LABELS)
    batch = batch_of(task.encode(rows, wordpiece_tokenizer(), Limits(64), labelled=True))
    logits = torch.randn(2, 3)
    loss = task.loss_sum(step_of(task, batch, logits)) / task.count(batch)
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0])).item())


def test_a_long_text_counts_once_however_many_windows_it_has():
    rows = Dataset.from_dict({"text": TEXTS, "label": ["positive", "negative", "neutral", "negative"]})
    task = Classification(LABELS)
    encoded = task.encode(rows, wordpiece_tokenizer(), Limits(16, 4), labelled=True)
    batch = batch_of(encoded)
    of_row = torch.tensor([window.row for window in encoded.windows])
    logits = torch.randn(len(of_row), 3)
    gold = torch.tensor([2, 0, 1, 0])
    losses = torch.nn.functional.cross_entropy(logits, gold[of_row], reduction="none")
    expected = torch.stack([losses[of_row == row].mean() for row in range(4)])
    assert task.count(batch).item() == pytest.approx(4)
    assert task.loss_sum(step_of(task, batch, logits)).item() == pytest.approx(expected.sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ("balanced", [6 / (3 * 3), 6 / (3 * 1), 6 / (3 * 2)]),  # n / (classes · n of the class)
        ({"neutral": 4.0}, [1.0, 4.0, 1.0]),
        ({"negative": 0.5, "neutral": 1.0, "positive": 2.0}, [0.5, 1.0, 2.0]),
    ],
)
def test_class_weights_are_those_of_torch_and_scikit_learn(given, weights):
    labels = ["negative", "negative", "negative", "neutral", "positive", "positive"]
    rows = Dataset.from_dict({"text": ["good"] * 6, "label": labels})
    task = Classification(LABELS, class_weights=given)
    task.fit(rows)
    assert task.weights_C.tolist() == pytest.approx(weights)
    batch = batch_of(task.encode(rows, wordpiece_tokenizer(), Limits(64), labelled=True))
    logits = torch.randn(6, 3)
    gold = torch.tensor([LABELS.index(label) for label in labels])
    expected = torch.nn.functional.cross_entropy(logits, gold, weight=torch.tensor(weights))
    loss = task.loss_sum(step_of(task, batch, logits)) / task.count(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_weights_equal_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = random.Random(0).choices(LABELS, weights=[6, 1, 3], k=50)
    task = Classification(LABELS, class_weights="balanced")
    task.fit(Dataset.from_dict({"text": ["x"] * 50, "label": labels}))
    expected = compute_class_weight("balanced", classes=np.array(LABELS), y=np.array(labels))
    assert task.weights_C.tolist() == pytest.approx(expected.tolist())


def test_multi_label_loss_is_binary_cross_entropy():
    rows = Dataset.from_dict({"text": TEXTS[::2], "labels": [["neutral", "positive"], []]})
    task = MultiLabel(LABELS)
    batch = batch_of(task.encode(rows, wordpiece_tokenizer(), Limits(64), labelled=True))
    logits = torch.randn(2, 3)
    gold = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, gold)
    loss = task.loss_sum(step_of(task, batch, logits)) / task.count(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_ner_loss_is_the_mean_over_words():
    words = [["Anna", "Berg", "visited", "Oslo"], ["the", "film"], ["Acme"]]
    tags = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-ORG"]]
    task = Ner(tag_set(["PER", "LOC", "ORG"]))
    batch = batch_of(task.encode(ner_dataset(words, tags), wordpiece_tokenizer(), Limits(64), labelled=True))
    logits = torch.randn(*batch["input_ids"].shape, len(task.labels))
    tokens = wordpiece_tokenizer()(words, is_split_into_words=True)
    picked, gold = [], []
    for row in range(3):
        ids = tokens.word_ids(row)
        for word, tag in enumerate(tags[row]):
            picked.append(logits[row, ids.index(word)])
            gold.append(task.labels.index(tag))
    expected = torch.nn.functional.cross_entropy(torch.stack(picked), torch.tensor(gold))
    assert task.count(batch).item() == 7
    loss = task.loss_sum(step_of(task, batch, logits)) / task.count(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["single", "multi", "ner"])
def test_target_rows_have_no_part_in_the_loss(kind):
    tokenizer = wordpiece_tokenizer()
    if kind == "ner":
        rows = ner_dataset([["Anna", "left"], ["Oslo"]], [["B-PER", "O"], ["B-LOC"]])
        task = Ner(tag_set(["PER", "LOC"]))
    else:
        task = MultiLabel(LABELS) if kind == "multi" else Classification(LABELS)
        gold = {"labels": [["neutral"], []]} if kind == "multi" else {"label": ["neutral", "positive"]}
        rows = Dataset.from_dict({"text": TEXTS[::2], **gold})
    source = task.encode(rows, tokenizer, Limits(64), labelled=True)
    target = task.encode(rows, tokenizer, Limits(64), labelled=False)
    alone, joint = batch_of(source), batch_of(source, target.features)
    shape = (*joint["input_ids"].shape, len(task.labels)) if kind == "ner" else (4, len(task.labels))
    logits = torch.randn(shape, requires_grad=True)
    step = step_of(task, joint, logits)
    assert task.count(joint).item() == task.count(alone).item()
    assert (~step.labelled_U == (step.domain_U == 1)).all()
    task.loss_sum(step).backward()
    assert logits.grad[2:].abs().sum() == 0 and logits.grad[:2].abs().sum() > 0


# --- windows to texts --------------------------------------------------------------------------------------------


def test_logits_of_a_text_are_the_mean_over_its_windows():
    rows = Dataset.from_dict({"text": TEXTS, "label": ["positive"] * 4})
    task = Classification(LABELS)
    encoded = task.encode(rows, wordpiece_tokenizer(), Limits(16, 4), labelled=False)
    logits = list(np.random.default_rng(0).normal(size=(len(encoded.windows), 3)))
    combined = task.combine(encoded, logits)
    for row in range(4):
        own = [value for value, window in zip(logits, encoded.windows, strict=True) if window.row == row]
        assert combined[row] == pytest.approx(np.mean(own, 0))
    assert encoded.long_rows == 1


def test_combine_of_no_rows_is_empty():
    assert Classification(LABELS).combine(Encoded([], 0, []), []) == []
    assert Ner(tag_set(["PER"])).combine(Encoded([], 0, []), []) == []


def test_words_of_a_long_text_come_back_in_order():
    words = [[f"film{number}" for number in range(70)], ["Oslo"]]
    rows = ner_dataset(words, [["O"] * 70, ["O"]])
    task = Ner(tag_set(["LOC"]))
    encoded = task.encode(rows, wordpiece_tokenizer(), Limits(24, 8), labelled=False)
    # Every window answers with the numbers of its words, so that a mix-up would show.
    logits = []
    for window in encoded.windows:
        values = np.full((len(window.input_ids), 3), -1.0)
        values[window.positions] = window.words[:, None] + 100.0 * window.row
        logits.append(values)
    combined = task.combine(encoded, logits)
    assert combined[0][:, 0].tolist() == list(range(70))
    assert combined[1][:, 0].tolist() == [100.0]


def test_a_word_without_a_token_is_outside_and_scored():
    rows = ner_dataset([["Anna", "\x00", "Oslo", "\x01"]], [["B-PER", "I-PER", "O", "B-LOC"]])
    task = Ner(tag_set(["PER", "LOC"]))
    encoded = task.encode(rows, wordpiece_tokenizer(), Limits(64), labelled=True)
    assert len(encoded.features[0]["units"]) == 2
    logits = [np.zeros((len(encoded.windows[0].input_ids), 5)) + 3.0 * np.eye(5)[task.index["B-PER"]]]
    [answer] = task.answer(task.combine(encoded, logits))
    assert answer == ["B-PER", "O", "B-PER"]
    score = task.score(task.gold(rows), [answer], 0.95, 100)
    # The gold entities are counted in full: one of them lies on a word that has no token.
    assert score.metrics["recall"] == 0.0
    assert sum(kind["support"] for kind in score.metrics["per_type"].values()) == 2


def test_words_inside_one_token_continue_its_entity():
    from tokenizers import AddedToken

    tokenizer = sentencepiece_tokenizer()
    tokenizer.add_tokens([AddedToken("北京", normalized=False)])
    text = "in 北京 was"
    rows = Dataset.from_dict(
        {
            "text": [text],
            "words": [["in", "北", "京", "was"]],
            "starts": [[0, 3, 4, 6]],
            "tags": [["O", "B-LOC", "I-LOC", "O"]],
        }
    )
    task = Ner(tag_set(["LOC"]))
    encoded = task.encode(rows, tokenizer, Limits(64), labelled=True)
    [row] = encoded.features
    assert row["unit_labels"].tolist() == [task.index[tag] for tag in ("O", "B-LOC", "O")]
    values = np.zeros((len(row["input_ids"]), 3))
    values[row["units"], row["unit_labels"]] = 5.0
    combined = task.combine(encoded, [values])
    assert task.answer(combined) == [["O", "B-LOC", "I-LOC", "O"]]
    assert task.probabilities(combined[0]).sum(-1) == pytest.approx(np.ones(4))


def test_truncated_words_are_outside_and_scored():
    words, tags = [["film"] * 30 + ["Oslo"]], [["O"] * 30 + ["B-LOC"]]
    rows = ner_dataset(words, tags)
    task = Ner(tag_set(["LOC"]))
    encoded = task.encode(rows, wordpiece_tokenizer(), Limits(16, 4, truncate=True), labelled=True)
    assert encoded.long_rows == 1
    combined = task.combine(encoded, [np.zeros((16, 3))])
    score = task.score(tags, task.answer(combined), 0.95, 100)
    assert score.metrics["per_type"]["LOC"]["support"] == 1
    assert score.metrics["f1"] == 0.0


# --- decisions ---------------------------------------------------------------------------------------------------


def valid(tags):
    before = "O"
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return False
        before = tag
    return True


@pytest.mark.parametrize("seed", range(30))
def test_tags_are_the_most_probable_valid_sequence(seed):
    draw = np.random.default_rng(seed)
    task = Ner(tag_set(["PER", "LOC"]))
    logits_UC = draw.normal(size=(int(draw.integers(1, 5)), 5))
    [answer] = task.answer([logits_UC])
    paths = [
        path for path in itertools.product(range(5), repeat=len(logits_UC)) if valid([task.labels[t] for t in path])
    ]
    best = max(paths, key=lambda path: sum(logits_UC[word, tag] for word, tag in enumerate(path)))
    assert answer == [task.labels[tag] for tag in best]


def test_no_words_have_no_tags():
    assert Ner(tag_set(["PER"])).answer([np.zeros((0, 3))]) == [[]]


def test_thresholds_are_tuned_for_each_label():
    task = MultiLabel(["a", "b"])
    rows = Dataset.from_dict({"text": ["x"] * 4, "labels": [["a"], ["a"], ["b"], []]})
    logit = lambda p: float(np.log(p / (1 - p)))  # noqa: E731
    logits = [np.array([logit(a), logit(b)]) for a, b in [(0.3, 0.6), (0.2, 0.7), (0.1, 0.9), (0.05, 0.65)]]
    assert task.answer(logits) == [["b"], ["b"], ["b"], ["b"]]
    task.tune(rows, logits)
    assert task.answer(logits) == [["a"], ["a"], ["b"], []]
    again = MultiLabel(["a", "b"])
    again.restore(task.settings())
    assert again.thresholds_C.tolist() == task.thresholds_C.tolist()
    score = task.score(task.gold(rows), task.answer(logits), 0.95, 100)
    assert score.metrics["micro_f1"] == 1.0


# --- scores ------------------------------------------------------------------------------------------------------


def test_ner_score_is_strict_seqeval_on_the_full_gold():
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-PER"], ["O", "B-LOC"]]
    answers = [["B-PER", "I-PER"], ["B-LOC", "O", "B-LOC"], []]  # two answers are short of words
    full = [[*given, *["O"] * (len(truth) - len(given))] for truth, given in zip(gold, answers, strict=True)]
    score = Ner(tag_set(["PER", "LOC"])).score(gold, answers, 0.95, 200)
    assert score.metrics["f1"] == pytest.approx(f1_score(gold, full, mode="strict", scheme=IOB2))
    assert score.interval.value == score.metrics["f1"]
    assert score.headline in score.metrics


def test_classification_score_names_its_headline():
    score = Classification(LABELS).score(["positive", "negative"], ["positive", "positive"], 0.95, 200)
    assert score.metrics[score.headline] == score.interval.value == 0.5
    assert score.statistic(score.counts_NK.sum(0)) == 0.5


def test_encoding_without_labels_holds_none():
    rows = Dataset.from_dict({"text": TEXTS, "label": ["positive"] * 4})
    encoded = Classification(LABELS).encode(rows, wordpiece_tokenizer(), Limits(64), labelled=False)
    assert all(row["label"] == UNKNOWN for row in encoded.features)


def test_an_entity_that_begins_inside_a_token_has_no_say_in_the_temperature():
    task = Ner(tag_set(["LOC"]))
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(200, 3)) * 3
    tags = [task.labels[number] for number in (logits + generator.normal(size=(200, 3)) * 2).argmax(-1)]
    within = task._continued(logits[:1])

    def fitted(rows, answers):
        return task.temperature(Dataset.from_dict({"tags": [answers]}), [rows])

    without = fitted(logits, tags)
    assert 0.6 < without < 19
    assert fitted(np.concatenate([logits, within]), [*tags, "B-LOC"]) == without
    assert fitted(np.concatenate([logits, within]), [*tags, "I-LOC"]) != without
