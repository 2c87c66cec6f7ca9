"""What reports tell is true: facts against independent computations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from nlp_transfer.calibration import Reliability, reliability
from nlp_transfer.metrics import entity_metrics
from nlp_transfer.predictions import answer_of
from nlp_transfer.report import findings, slices
from nlp_transfer.report.confusion import confusion
from nlp_transfer.report.curves import MOST_POINTS, trainings
from nlp_transfer.report.domains import Domains, compare_domains
from nlp_transfer.report.examples import LONGEST, changes
from nlp_transfer.report.facts import Calibration
from nlp_transfer.report.projection import project
from nlp_transfer.report.slices import Level, by_class, by_length
from nlp_transfer.tasks.classification import Classification, MultiLabel
from nlp_transfer.tasks.ner import Ner, tag_set

QUICK = Level(0.9, 200)
LABELS = ["bad", "good", "poor"]


def text_rows(seed: int, count: int = 90) -> list[dict[str, Any]]:
    """Scored rows whose gold labels and lengths are the same for every seed."""
    fixed, draw = np.random.default_rng(99), np.random.default_rng(seed)
    rows = []
    for number in range(count):
        gold = str(fixed.choice(LABELS, p=[0.5, 0.3, 0.2]))
        text = " ".join(["word"] * int(fixed.integers(1, 30)))
        label = gold if draw.random() < 0.7 else str(draw.choice(LABELS))
        rows.append({"row": number, "gold": gold, "text": text, "label": label, "score": 0.6})
    return rows


def tagged(*rows: tuple[str, str]) -> list[dict[str, Any]]:
    """Scored sentences; gold and answer with a letter a word: ``P`` begins a PER, ``p`` goes on, ``L`` a LOC."""
    names = {"P": "B-PER", "p": "I-PER", "L": "B-LOC", "l": "I-LOC", ".": "O"}
    made = []
    for number, (gold, answer) in enumerate(rows):
        words = [f"w{at}" for at in range(len(gold))]
        starts = np.cumsum([0, *[len(word) + 1 for word in words]])[:-1].tolist()
        tags = [names[letter] for letter in answer]
        cells = zip(words, starts, tags, strict=True)
        told = [{"word": w, "start": s, "end": s + len(w), "tag": t, "score": 0.5} for w, s, t in cells]
        made.append({"row": number, "gold": [names[g] for g in gold], "text": " ".join(words), "words": told})
    return made


# By class and by length


def test_class_scores_are_those_of_scikit_learn() -> None:
    answers = {"source-only": text_rows(1), "adapted": text_rows(2)}
    found = by_class(answers, "classification", QUICK)
    gold = [row["gold"] for row in answers["adapted"]]
    assert [one.name for one in found] == sorted(LABELS, key=lambda name: -gold.count(name))
    for role, rows in answers.items():
        expected = f1_score(gold, [row["label"] for row in rows], labels=LABELS, average=None)
        assert {one.name: one.scores[role].value for one in found} == pytest.approx(
            dict(zip(LABELS, expected, strict=True))
        )
    for one in found:
        assert one.gain is not None
        assert one.gain.value == pytest.approx(one.scores["adapted"].value - one.scores["source-only"].value)
        assert one.count == gold.count(one.name)


def test_label_scores_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    given = draw.random((2, 60, 3)) < 0.4
    sets = [[[LABELS[at] for at in np.flatnonzero(row)] for row in side] for side in given]
    rows = [{"gold": gold, "labels": labels, "text": "x"} for gold, labels in zip(*sets, strict=True)]
    found = by_class({"source-only": rows}, "multi_label", QUICK)
    expected = f1_score(given[0], given[1], average=None)
    assert {one.name: one.scores["source-only"].value for one in found} == pytest.approx(
        dict(zip(LABELS, expected, strict=True))
    )
    assert all(one.gain is None for one in found)


def test_entity_scores_are_strict() -> None:
    rows = tagged(("Pp.L", "P..L"), ("L.Pp", "LlPp"), ("..P.", "..L."), ("Pp..", "Pp.."), ("PLl.", "PLl."))
    found = by_class({"adapted": rows}, "ner", QUICK)
    expected = entity_metrics([row["gold"] for row in rows], [answer_of(row) for row in rows])["per_type"]
    assert {one.name: (one.scores["adapted"].value, one.count) for one in found} == {
        name: (pytest.approx(values["f1"]), values["support"]) for name, values in expected.items()
    }


def test_class_scores_take_one_pass_over_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(slices, "labels_of", lambda answer, kind: read.append(answer) or [answer])
    rows = [row | {"gold": f"class {number}"} for number, row in enumerate(text_rows(1))]
    assert len(by_class({"adapted": rows}, "classification", QUICK)) > len(rows)
    assert len(read) <= 4 * len(rows), "gold and answers, for the names and for the counts"


def test_a_split_without_entities_has_no_classes() -> None:
    assert by_class({"adapted": tagged(("...", "..."))}, "ner", QUICK) == []


def test_length_scores_are_those_of_the_texts_of_that_length() -> None:
    rows = text_rows(3)
    found = by_length({"adapted": rows}, "classification", QUICK)
    assert len(found) == 4 and sum(one.count or 0 for one in found) == len(rows)
    for one in found:
        words = one.name.split()
        low, high = int(words[0]), int(words[2] if "to" in words else words[0])
        inside = [row for row in rows if low <= len(row["text"].split()) <= high]
        assert one.count == len(inside)
        expected = accuracy_score([row["gold"] for row in inside], [row["label"] for row in inside])
        assert one.scores["adapted"].value == pytest.approx(expected)


@pytest.mark.parametrize("rows", [text_rows(1, 30), [{**row, "text": "always the same"} for row in text_rows(1)]])
def test_too_few_texts_or_one_length_are_not_divided(rows: list[dict[str, Any]]) -> None:
    assert by_length({"adapted": rows}, "classification", QUICK) == []


# Confusion


def test_confusion_is_that_of_scikit_learn() -> None:
    rows = text_rows(5)
    found = confusion(rows, "classification")
    assert found is not None and found.labels == LABELS
    gold, given = [row["gold"] for row in rows], [row["label"] for row in rows]
    assert found.counts == confusion_matrix(gold, given, labels=LABELS).tolist()
    assert sum(found.share(0, column) for column in range(3)) == pytest.approx(1)
    assert [times for _, _, times in found.largest] == sorted((times for *_, times in found.largest), reverse=True)


def test_words_are_confused_by_type() -> None:
    found = confusion(tagged(("Pp.L", "P..L"), ("L.Pp", "LlPp")), "ner")
    assert found is not None and found.labels == ["LOC", "PER", "O"]
    assert found.counts == [[2, 0, 0], [0, 3, 1], [1, 0, 1]]
    assert confusion([], "multi_label") is None


def test_many_classes_are_told_by_their_confusions() -> None:
    rows = [{"gold": f"c{number:02}", "label": f"c{(number // 2):02}"} for number in range(40)]
    found = confusion(rows, "classification")
    assert found is not None and not found.fits
    assert len(found.largest) == 15 and ("c00", "c00", 1) not in found.largest


# Changes


def test_changes_are_counted_and_the_largest_come_first() -> None:
    before = tagged(("Pp.L", "...."), ("L.Pp", "L.Pp"), ("P...", "L..."), ("P...", "L..."))
    after = tagged(("Pp.L", "Pp.L"), ("L.Pp", "L..."), ("P...", "P..."), ("P...", "L..."))
    found = changes(before, after, "ner", ["source-only", "adapted"])
    assert found.counts == {"fixed": 2, "broken": 1, "right": 0, "wrong": 1}
    assert [one.row for one in found.fixed] == [0, 2] and [one.row for one in found.broken] == [1]
    gold, first, second = found.fixed[0].readings
    assert (gold.by, first.by, second.by) == ("gold", "source-only", "adapted")
    assert [(piece.text, piece.label) for piece in second.pieces] == [("w0 w1", "PER"), (" w2 ", ""), ("w3", "LOC")]
    assert [piece.label for piece in first.pieces] == [""]


def test_changes_of_labels() -> None:
    before = [{"gold": ["a", "b"], "labels": [], "text": "x"}, {"gold": [], "labels": [], "text": "x"}]
    after = [{"gold": ["a", "b"], "labels": ["a"], "text": "x"}, {"gold": [], "labels": ["a"], "text": "x"}]
    found = changes(before, after, "multi_label", ["source-only", "adapted"])
    assert found.counts == {"fixed": 1, "broken": 1, "right": 0, "wrong": 0}
    assert [reading.label for reading in found.fixed[0].readings] == ["a, b", "no label", "a"]


def test_the_shown_part_of_a_long_text_holds_what_changed() -> None:
    gold = "." * 300 + "P" + "." * 300
    found = changes(tagged((gold, "." * 601)), tagged((gold, gold)), "ner", ["source-only", "adapted"])
    shown = found.fixed[0].readings[2].pieces
    assert [piece.label for piece in shown if piece.label] == ["PER"]
    text = "".join(piece.text for piece in shown)
    assert text.startswith("… ") and text.endswith(" …") and len(text) == LONGEST + 4
    long = [{"gold": "a", "label": label, "text": "x" * 500} for label in "ba"]
    assert changes(long[:1], long[1:], "classification", ["a", "b"]).fixed[0].text == "x" * LONGEST + " …"


# Curves


def line(stage: str, step: int, **values: float) -> dict[str, Any]:
    return {"stage": stage, "step": step, "time": 0.0, "learning_rate": 1.0, **values}


def test_every_named_loss_has_its_curve() -> None:
    log = [
        line("source-only", 1, loss=0.7, loss_task=0.7),
        line("source-only", 2, eval_accuracy=0.5, eval_macro_f1=0.4),
        line("finetune", 1, loss=1.5, loss_task=0.7, loss_dann_domain=0.8, dann_lambda=0.1),
        line("finetune", 2, eval_accuracy=0.6, eval_target_bnm=0.9, train_runtime=3.0),
    ]
    plain, adapted = trainings(log, "accuracy", ["finetune"])
    assert [curve.name for curve in plain.losses] == ["task"]
    assert [curve.name for curve in adapted.losses] == ["total", "dann_domain", "task"]
    assert [(curve.name, curve.values) for curve in adapted.scores] == [("accuracy", [0.6]), ("target_bnm", [0.9])]


def test_what_a_resumed_stage_does_again_replaces_what_was_there() -> None:
    steps = [(1, 0.9), (2, 0.8), (3, 0.7), (2, 0.6), (3, 0.5), (4, 0.4)]
    (found,) = trainings([line("finetune", step, loss=v, loss_task=v) for step, v in steps], "f1", ["finetune"])
    assert (found.losses[0].steps, found.losses[0].values) == ([1, 2, 3, 4], [0.9, 0.6, 0.5, 0.4])


def test_rounds_and_stages_of_one_name_follow_each_other() -> None:
    def training(stage: str, *values: float) -> list[dict[str, Any]]:
        lines = [line(stage, step, loss=value, loss_task=value) for step, value in enumerate(values, start=1)]
        return [*lines, line(stage, len(values), train_runtime=1.0)]

    log = [*training("self_train 1", 3.0, 2.0), *training("self_train 2", 1.0)]
    (found,) = trainings(log, "f1", ["finetune", "self_train"])
    assert (found.stage, found.bounds, found.losses[0].values) == ("self_train", [2], [3.0, 2.0, 1.0])
    twice = [*training("pretrain", 3.0, 2.0), *training("pretrain", 1.0)]
    assert trainings(twice, "f1", ["pretrain", "pretrain", "finetune"])[0].losses[0].values == [3.0, 2.0, 1.0]
    assert trainings(twice, "f1", ["pretrain", "finetune"])[0].losses[0].values == [1.0]  # begun anew


def test_long_curves_are_thinned_but_for_their_ends() -> None:
    lines = [line("finetune", step, loss_task=float(step)) for step in range(1, 5001)]
    (curve,) = trainings(lines, "f1", ["finetune"])[0].losses
    assert len(curve.steps) == MOST_POINTS and (curve.steps[0], curve.steps[-1]) == (1, 5000)
    assert curve.values == [float(step) for step in curve.steps]


# Domains


def test_projection_is_a_principal_component_analysis_of_all_models() -> None:
    draw = np.random.default_rng(0)
    vectors = {"before": draw.normal(5, 3, (40, 6)), "after": draw.normal(0, 1, (40, 6)) @ draw.normal(0, 1, (6, 6))}
    points, shown = project(vectors)
    scaled = {}
    for name, values in vectors.items():
        centred = values - values.mean(0)
        scaled[name] = centred / np.sqrt((centred**2).sum() / len(values))
    expected = PCA(2).fit(np.concatenate(list(scaled.values())))
    for name in vectors:
        assert np.abs(points[name]) == pytest.approx(np.abs(expected.transform(scaled[name])), abs=1e-9)
        assert shown[name] == pytest.approx((points[name] ** 2).sum() / (scaled[name] ** 2).sum())
    moved = {name: 7 * values + 100 for name, values in vectors.items()}
    assert project(moved)[0]["after"] == pytest.approx(points["after"])


def views(gap_before: float, gap_after: float, count: int = 60) -> Domains:
    draw = np.random.default_rng(1)
    vectors = {
        name: {"source": draw.normal(0, 1, (count, 8)), "target": draw.normal(gap, 1, (count, 8))}
        for name, gap in (("source-only", gap_before), ("adapted", gap_after))
    }
    texts = {side: [f"{side} {number}" for number in range(count)] for side in ("source", "target")}
    return compare_domains(vectors, texts, {"source": "source.dev", "target": "target.test"}, seed=3)


def test_domains_that_come_closer_are_seen_to() -> None:
    found = views(3.0, 0.0)
    before, after = found.views
    assert before.distance is not None and before.distance.value > 1.9 and before.accuracy == pytest.approx(1, abs=0.03)
    assert after.distance is not None and after.distance.value < 0.6
    assert "They have come closer." in findings.of_domains(found)
    assert "They have moved apart." in findings.of_domains(views(0.0, 3.0))
    assert "There is no clear change." in findings.of_domains(views(3.0, 3.0))
    assert Domains.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert {side: len(points) for side, points in after.points.items()} == {"source": 60, "target": 60}


def test_few_texts_are_drawn_but_not_measured() -> None:
    found = views(3.0, 0.0, count=5)
    assert all(view.distance is None and len(view.points["target"]) == 5 for view in found.views)
    assert "too few different texts" in findings.of_domains(found)


# Calibration


def test_calibration_error_is_that_of_the_definition() -> None:
    draw = np.random.default_rng(0)
    sure = draw.random(500)
    right = draw.random(500) < sure**2
    found = reliability(sure, right)
    error = 0.0
    for number in range(10):
        inside = (sure > number / 10) & (sure <= (number + 1) / 10)
        error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert found.error == pytest.approx(error)
    assert found.count == 500 and found.bins[0].count == (sure <= 0.1).sum()
    assert Reliability.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert reliability(np.array([0.3, 0.7]), np.array([True, True])).bins[0].confidence == 0.3


def test_a_model_that_is_too_sure_is_called_so() -> None:
    def told(sure: float, right: float) -> str:
        one = reliability(np.full(100, sure), np.arange(100) < 100 * right)
        return findings.of_calibration(Calibration(1.5, one, one), "adapted", "target.test")

    assert "is too sure" in told(0.95, 0.7)
    assert "is not sure enough" in told(0.6, 0.9)
    assert "about as sure as it is right" in told(0.8, 0.8)
    assert "0.250" in told(0.95, 0.7) and "temperature 1.50" in told(0.95, 0.7)


def test_confidence_is_the_probability_of_the_answer() -> None:
    logits = [np.array([2.0, 0.0, 1.0]), np.array([0.0, 0.5, 0.0])]
    task = Classification(LABELS)
    sure, right = task.confidences(["bad", "poor"], task.answer(logits), logits, temperature=2.0)
    assert sure == pytest.approx([np.exp(1) / (np.exp(1) + 1 + np.exp(0.5)), np.exp(0.25) / (np.exp(0.25) + 2)])
    assert right.tolist() == [True, False]
    several = MultiLabel(LABELS, [0.9, 0.5, 0.5])
    answers = several.answer(logits)  # the first label has 0.88, below its threshold
    sure, right = several.confidences([["bad"], ["good"]], answers, logits)
    sigmoid = 1 / (1 + np.exp(-np.array(logits)))
    assert sure[:3] == pytest.approx([1 - sigmoid[0, 0], 1 - sigmoid[0, 1], sigmoid[0, 2]])
    assert right.tolist() == [False, True, False, True, True, True]
    tagger = Ner(tag_set(["LOC"]))
    words = [np.array([[3.0, 0, 0], [0, 2.0, 0]]), np.zeros((0, 3))]
    sure, right = tagger.confidences([["O", "O", "B-LOC"], ["O"]], tagger.answer(words), words)
    assert sure == pytest.approx([np.exp(3) / (np.exp(3) + 2), np.exp(2) / (np.exp(2) + 2)])
    assert right.tolist() == [True, False]  # the third word was not read
