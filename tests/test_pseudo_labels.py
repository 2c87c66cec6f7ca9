"""Pseudo-labels: calibration, selection and losses beside formulas of their own, and what tasks trust."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import wordpiece_tokenizer
from datasets import Dataset
from helpers import ner_rows

from nlp_transfer.calibration import COLDEST, HOTTEST, fit_binary_temperature, fit_temperature
from nlp_transfer.data.batching import PairCollator, some_rows
from nlp_transfer.data.load import load_split
from nlp_transfer.data.windows import Limits
from nlp_transfer.methods.mean_teacher import MeanTeacher
from nlp_transfer.pseudo_labels import PseudoLabel, Rule, keep, one_class, share_of_round, summarise
from nlp_transfer.tasks.classification import Classification, MultiLabel
from nlp_transfer.tasks.ner import Ner, tag_set
from nlp_transfer.units import UNKNOWN, Step

LABELS = ["a", "b", "c"]
TAGS = tag_set(["LOC", "PER"])
ALL = Rule("threshold", 0.0, class_balanced=False)


def label(answer: Any, kept: bool = True, **more: Any) -> PseudoLabel:
    return PseudoLabel(answer, str(answer), 0.9, kept, **more)


def step_of(task: Any, batch: dict[str, torch.Tensor], logits: torch.Tensor) -> Step:
    hidden_NTH = torch.zeros(*batch["input_ids"].shape, 4)
    return Step(**task.units(hidden_NTH, logits, batch), progress=0.0, model=torch.nn.Identity())


# Calibration


def test_temperature_is_the_best_of_a_grid() -> None:
    draw = np.random.default_rng(0)
    logits, gold = draw.normal(size=(300, 4)) * 5, draw.integers(0, 4, 300)
    gold[:200] = logits[:200].argmax(-1)
    grid = np.geomspace(COLDEST, HOTTEST, 4000)
    losses = []
    for temperature in grid:
        scaled = logits / temperature
        losses.append((np.log(np.exp(scaled).sum(1)) - scaled[range(300), gold]).mean())
    assert fit_temperature(logits, gold) == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
    given = gold[:, None] == np.arange(4)
    odds = [np.where(given, 1 / (1 + np.exp(-logits / t)), 1 / (1 + np.exp(logits / t))) for t in grid]
    best = int(np.argmax([np.log(one).mean() for one in odds]))
    assert fit_binary_temperature(logits, given.astype(float)) == pytest.approx(grid[best], rel=2e-3)


def test_temperature_stays_within_its_range() -> None:
    right = np.eye(3)
    assert fit_temperature(right, np.arange(3)) == COLDEST  # no mistake: the loss falls for ever
    assert fit_temperature(right, (np.arange(3) + 1) % 3) == HOTTEST  # only mistakes
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1.0


# Selection


def by_hand(classes: list[str], confidence: list[float], rule: Rule) -> list[bool]:
    """The rule as its documentation says it, in loops."""
    order = sorted(range(len(classes)), key=lambda row: (-confidence[row], row))
    names = set(classes)
    if rule.select == "threshold":
        chosen = [row for row in order if confidence[row] >= rule.threshold]
    elif rule.class_balanced:
        sizes = {name: math.ceil(rule.share * classes.count(name)) for name in names}
        chosen = [row for name in names for row in [r for r in order if classes[r] == name][: sizes[name]]]
    else:
        chosen = order[: math.ceil(rule.share * len(classes))]
    if rule.class_balanced:
        most = math.ceil(rule.class_cap * len(chosen) / len(names))
        ranked = {name: [row for row in order if classes[row] == name and row in chosen] for name in names}
        chosen = [row for name in names for row in ranked[name][:most]]
    return [row in chosen for row in range(len(classes))]


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("select", ["threshold", "top_share"])
def test_selection_is_that_of_the_loops(select: Any, balanced: bool) -> None:
    draw = np.random.default_rng(1)
    for share in (0.3, 0.5, 1.0):
        classes = draw.choice(LABELS, size=41, p=[0.7, 0.2, 0.1]).tolist()
        confidence = draw.random(41).round(1)  # with ties
        rule = Rule(select, 0.4, share, balanced, 1.2)
        assert keep(classes, confidence, rule).tolist() == by_hand(classes, confidence.tolist(), rule)


def test_balanced_selection_does_not_starve_a_hard_class_nor_feed_an_easy_one() -> None:
    classes = ["easy"] * 80 + ["hard"] * 20
    confidence = np.r_[np.linspace(0.9, 1.0, 80), np.linspace(0.5, 0.6, 20)]
    kept = keep(classes, confidence, Rule("top_share", share=0.5, class_balanced=True, class_cap=1.2))
    assert (kept[:80].sum(), kept[80:].sum()) == (30, 10)  # 40 would be half of the easy ones; 1.2 · 50 / 2 is 30
    assert kept[50:80].all()
    loose = keep(classes, confidence, Rule("top_share", share=0.5, class_balanced=False))
    assert (loose[:80].sum(), loose[80:].sum()) == (50, 0)
    assert keep([], np.zeros(0), Rule("top_share")).tolist() == []


def test_share_grows_linearly_up_to_everything() -> None:
    assert [share_of_round(number, 0.4, 0.25) for number in (1, 2, 3, 4)] == pytest.approx([0.4, 0.65, 0.9, 1.0])


def test_summary_and_collapse() -> None:
    rows = [label("a"), label("a", kept=False), label("b"), label("a")]
    found = summarise(rows, [label("a"), label("b"), label("b"), label("a")])
    assert (found.rows, found.kept, found.agreement, found.left_out) == (4, 3, 0.75, None)
    assert found.predicted_shares == {"a": 0.75, "b": 0.25}
    assert found.kept_shares == {"a": 0.6667, "b": 0.3333}
    assert summarise([label(["O"], known=[True, False])]).left_out == 0.5
    many = [label("a")] * 98 + [label("b")] * 2
    assert one_class(many, ["a", "b"]) == "a"
    assert one_class(many, ["a"] * 97 + ["b"] * 3) is None  # as frequent in the source
    assert one_class([label("a")] * 100, ["a"] * 97 + ["b"] * 3) == "a"
    assert one_class(rows, ["a", "b"]) is None


# What tasks trust


def test_text_is_labelled_with_its_calibrated_probability() -> None:
    logits = [np.array([2.0, 0.0, 0.0]), np.array([0.0, 0.4, 0.0])]
    first, second = Classification(LABELS).guess(logits, 2.0, replace(ALL, threshold=0.5, probabilities=True))
    expected = np.exp([1.0, 0, 0]) / np.exp([1.0, 0, 0]).sum()
    assert (first.answer, first.kept, second.answer, second.kept) == ("a", True, "b", False)
    assert first.confidence == pytest.approx(expected[0], abs=1e-6)
    assert first.probabilities == pytest.approx(expected, abs=1e-6)


def test_several_labels_are_trusted_both_ways_one_by_one() -> None:
    task = MultiLabel(LABELS, [0.5, 0.5, 0.2])
    odds = np.array([[0.95, 0.05, 0.5], [0.6, 0.97, 0.1], [0.4, 0.6, 0.3]])
    found = task.guess(list(np.log(odds / (1 - odds))), 1.0, replace(ALL, threshold=0.9))
    assert [one.answer for one in found] == [["a", "c"], ["a", "b"], ["b", "c"]]
    assert [one.known for one in found] == [[True, True, False], [False, True, True], [False] * 3]
    assert [one.kept for one in found] == [True, True, False]
    assert found[2].confidence == pytest.approx((0.6 + 0.6 + 0.3) / 3, abs=1e-6)
    refusals = np.array([[0.6, 0.01, 0.01]])
    assert not task.guess(list(np.log(refusals / (1 - refusals))), 1.0, replace(ALL, threshold=0.9))[0].kept


def sentence(*words: tuple[str, float]) -> np.ndarray:
    """Logits of words whose answer has this probability, the other tags sharing the rest."""
    rows = np.array([[(1 - sure) / (len(TAGS) - 1)] * len(TAGS) for _, sure in words])
    for number, (tag, sure) in enumerate(words):
        rows[number, TAGS.index(tag)] = sure
    return np.log(rows)


def test_doubtful_words_are_left_out_and_entities_decide() -> None:
    rows = [
        sentence(("B-PER", 0.95), ("I-PER", 0.5), ("O", 0.99), ("O", 0.6)),
        sentence(("B-LOC", 0.7), ("O", 0.99)),  # its only entity is doubtful
        sentence(("O", 0.99), ("O", 0.8)),
        np.zeros((0, len(TAGS))),
    ]
    found = Ner(TAGS).guess(rows, 1.0, replace(ALL, threshold=0.9, select="top_share", share=1.0))
    assert [one.kept for one in found] == [True, False, True, False]
    assert [one.confidence for one in found] == pytest.approx([(0.95 + 0.5) / 2, 0.7, (0.99 + 0.8) / 2, 0.0], abs=1e-5)
    assert found[0].known == [True, False, True, False]
    assert [one.group for one in found] == ["PER", "LOC", "O", "O"]


def test_words_that_were_not_read_tell_nothing() -> None:
    task = Ner(TAGS)
    read = sentence(("B-PER", 0.95), ("O", 0.9))
    gap = np.insert(read, 1, task.unread_C, axis=0)
    rule = replace(ALL, threshold=0.05, select="top_share", share=1.0)
    (plain,), (found,) = task.guess([read], 1.0, rule), task.guess([gap], 1.0, rule)
    assert (found.confidence, found.known) == (plain.confidence, [True, False, True])
    (alone,) = task.guess([np.tile(task.unread_C, (2, 1))], 1.0, rule)
    assert (alone.confidence, alone.kept) == (0.0, False)
    tags, full = ["B-PER", "O"], ["B-PER", "B-PER", "O"]
    sure, right = task.confidences([full], task.answer([gap]), [gap])
    wanted, _ = task.confidences([tags], task.answer([read]), [read])
    assert sure == pytest.approx(wanted) and right.tolist() == [True, True]
    one, other = (
        task.temperature(Dataset.from_dict({"tags": [gold]}), [row]) for gold, row in ((tags, read), (full, gap))
    )
    assert one == pytest.approx(other)


def test_sentences_without_entities_do_not_take_over() -> None:
    rows = [sentence(("O", 0.99), ("O", 0.99))] * 40 + [sentence(("B-PER", 0.7), ("O", 0.9))] * 5
    rule = Rule("threshold", 0.6, class_balanced=True, class_cap=1.5)
    kept = [one.group for one in Ner(TAGS).guess(rows, 1.0, rule) if one.kept]
    assert (kept.count("PER"), kept.count("O")) == (5, math.ceil(1.5 * 45 / 2))
    assert Ner(TAGS).groups([["B-PER", "O"], ["B-PER", "B-LOC"], ["O"]]) == ["PER", "LOC", "O"]


# Losses


def batch_of(task: Any, texts: list[str], gold: Any, pseudo: list[PseudoLabel], weight: float) -> Any:
    """One source row a target row; targets are cut into windows of 12 tokens."""
    name = "labels" if isinstance(task, MultiLabel) else "label"
    source = task.encode(Dataset.from_dict({"text": ["good film"] * len(gold), name: gold}), wordpiece_tokenizer(),
                         Limits(12, 4), labelled=True)  # fmt: skip
    target = task.encode(Dataset.from_dict({"text": texts}), wordpiece_tokenizer(), Limits(12, 4), labelled=False)
    target = task.attach(target, pseudo, weight)
    rows = max(len(source.features), len(target.features))
    items = [{"source": source.features[n % len(source.features)], "target": target.features[n]} for n in range(rows)]
    return PairCollator(0)(items), [window.row for window in target.windows]


@pytest.mark.parametrize("soft", [False, True])
def test_loss_of_texts_with_pseudo_labels(soft: bool) -> None:
    """Gold counts 1, a pseudo-label its weight however many windows its text has, other target rows nothing."""
    task = Classification(LABELS)
    given = [0.2, 0.7, 0.1]
    pseudo = [label("b", probabilities=given if soft else None), label("c", kept=False), label("b")]
    batch, rows = batch_of(task, ["bad plot " * 15, "fine", "it broke"], ["a", "c", "a"], pseudo, 0.3)
    assert rows.count(0) > 1
    count = len(rows)
    assert ("soft" in batch) == soft
    logits = torch.randn(2 * count, 3, generator=torch.Generator().manual_seed(0))
    step = step_of(task, batch, logits)
    assert step.labelled_U.tolist() == [True] * count + [row != 1 for row in rows]
    logs = torch.log_softmax(logits, -1)
    total, weights = 0.0, 0.0
    for number in range(count):
        total -= float(logs[number, [0, 2, 0][number % 3]])
        weights += 1.0
        row, answer = rows[number], logs[count + number]
        if row == 1:
            continue
        share = 0.3 / rows.count(row)
        expected = float(answer @ torch.tensor(given)) if soft and row == 0 else float(answer[1])
        total -= share * expected
        weights += share
    assert float(task.count(batch)) == pytest.approx(weights)
    assert float(task.loss_sum(step)) == pytest.approx(total, rel=1e-5)


def test_unknown_labels_are_masked_out_one_by_one() -> None:
    task = MultiLabel(LABELS)
    pseudo = [label(["a"], known=[True, False, True]), label(["b"], kept=False)]
    batch, _ = batch_of(task, ["fine", "it broke"], [["a", "b"], []], pseudo, 0.5)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    gold = [[1, 1, 0], [0, 0, 0], [1, None, 0], [None] * 3]
    total, weights = 0.0, 0.0
    for row, weight in enumerate([1.0, 1.0, 0.5, 0.5]):
        for column, value in enumerate(gold[row]):
            if value is not None:
                total -= weight / 3 * math.log(1 / (1 + math.exp(-float(logits[row, column]) * (2 * value - 1))))
                weights += weight / 3
    step = step_of(task, batch, logits.requires_grad_())
    assert step.labelled_U.tolist() == [True, True, True, False]
    assert float(task.count(batch)) == pytest.approx(weights)
    for row, outcomes in enumerate(step.outcomes_UKD.tolist()):
        assert outcomes == [[0, 0] if value is None else [value, 1 - value] for value in gold[row]]
    loss = task.loss_sum(step)
    assert loss.item() == pytest.approx(total, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert ((logits.grad == 0) == torch.tensor([[value is None for value in row] for row in gold])).all()


@pytest.mark.parametrize("soft", [False, True])
def test_doubtful_words_have_no_loss_but_stay_in_the_sentence(soft: bool) -> None:
    task = Ner(TAGS)
    text = load_split(ner_rows(1, longest=20), name="target.unlabelled", kind="words").rows
    encoded = task.encode(text, wordpiece_tokenizer(), Limits(16, 4), labelled=False)
    assert len(encoded.windows) > 1
    words = len(text[0]["words"])
    tags, known = ["B-PER", "O", *["I-LOC"] * (words - 2)], [number % 3 != 1 for number in range(words)]
    soft_rows = np.random.default_rng(0).dirichlet(np.ones(len(TAGS)), words).tolist() if soft else None
    pseudo = task.attach(encoded, [label(tags, known=known, probabilities=soft_rows)], 0.5)
    seen: dict[int, int] = {}
    for window, before, after in zip(encoded.windows, encoded.features, pseudo.features, strict=True):
        assert after["input_ids"] == before["input_ids"]
        assert after["weight"] == 0.5
        seen |= dict(zip(window.words.tolist(), after["unit_labels"].tolist(), strict=True))
    assert seen == {word: task.index[tags[word]] if known[word] else UNKNOWN for word in range(words)}
    batch = PairCollator(0)([{"source": row} for row in pseudo.features])
    logits = torch.randn(*batch["input_ids"].shape, len(TAGS))
    logs = torch.log_softmax(logits, -1)
    total = 0.0
    for number, window in enumerate(encoded.windows):
        for position, word in zip(window.positions, window.words, strict=True):
            if known[word]:
                row = logs[number, position]
                hard = row[task.index[tags[word]]]
                total -= 0.5 * float(hard if soft_rows is None else row @ torch.tensor(soft_rows[word]))
    assert float(task.count(batch)) == 0.5 * sum(known)
    assert float(task.loss_sum(step_of(task, batch, logits))) == pytest.approx(total, rel=1e-5)


# Mean teacher


def test_teacher_is_the_running_average_and_draws_the_student() -> None:
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5))
    student[0].bias.requires_grad = False
    teacher = MeanTeacher(student, decay=0.6, ramp=0.5, weight=2.0)
    average = student[0].weight.detach().clone()
    for number, progress in enumerate((0.0, 0.1, 0.2, 0.3, 0.4)):
        decay = min(0.6, 1 - 1 / (number + 1))
        average = decay * average + (1 - decay) * student[0].weight.detach()
        for _ in range(2):  # two forward passes of one optimizer step
            with teacher.instead_of(student, progress), torch.no_grad():
                pass
        torch.testing.assert_close(teacher.average_0, average)
        with torch.no_grad():
            student[0].weight.add_(torch.randn(2, 3))
    inputs = torch.randn(4, 3)
    teacher.load_state_dict(teacher.state_dict())
    with teacher.instead_of(student, 0.4) as answer:
        found = answer(input=inputs)
    torch.testing.assert_close(found, inputs @ average.T + student[0].bias)
    assert student.training
    assert not found.requires_grad
    ours = torch.randn(6, 3)
    theirs = torch.randn(2, 3)
    step = Step(ours, ours, torch.zeros(6), torch.ones(6), torch.tensor([0, 0, 1, 0, 1, 0]), 0.2, student,
                average_UC=theirs)  # fmt: skip
    one, other = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (ours[[2, 4]].numpy(), theirs.numpy()))
    assert float(teacher.terms(step)["consistency"]) == pytest.approx(((one - other) ** 2).sum(1).mean(), rel=1e-5)
    none = Step(ours, ours, torch.zeros(6), torch.ones(6), torch.zeros(6), 0.2, student, average_UC=theirs[:0])
    assert float(teacher.terms(none)["consistency"]) == 0.0  # a window in which no word begins
    assert teacher.factor(0.25) == pytest.approx(2.0 * math.exp(-5 * 0.25))
    assert teacher.factor(0.5) == teacher.factor(1.0) == 2.0


def test_some_rows_lose_the_padding_of_the_others() -> None:
    rows = [{"input_ids": [2, 5, 6, 7, 3], "units": np.array([1, 3]), "unit_labels": np.array([0, 1]), "weight": 1.0},
            {"input_ids": [2, 9, 3], "units": np.array([1]), "unit_labels": np.array([1]), "weight": 1.0}]  # fmt: skip
    batch = PairCollator(0)([{"source": rows[0], "target": rows[1]}])
    alone = PairCollator(0)([{"source": rows[1]}])
    found = some_rows(batch, batch["domain"] == 1)
    assert all(torch.equal(found[key], alone[key]) for key in ("input_ids", "attention_mask", "units", "labels"))
