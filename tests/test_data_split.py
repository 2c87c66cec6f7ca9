"""The held-out dev rows and the checks of labels across splits."""

from __future__ import annotations

from collections import Counter

import datasets
import pytest

from nlp_transfer.data.load import load_split
from nlp_transfer.data.split import (
    distinct_labels,
    label_problems,
    one_class_problem,
    row_labels,
    stratified_split,
)
from nlp_transfer.errors import DataError


def classification(pairs):
    rows = {"text": [text for text, _ in pairs], "label": [label for _, label in pairs]}
    return load_split(datasets.Dataset.from_dict(rows), name="data.source.train", kind="classification")


def ner(rows):
    """Make one-word-a-type sentences from sets of entity types."""
    words = [[f"w{i}", *(f"{kind}{i}" for kind in kinds)] for i, kinds in enumerate(rows)]
    tags = [["O", *(f"B-{kind}" for kind in kinds)] for kinds in rows]
    data = datasets.Dataset.from_dict({"words": words, "tags": tags})
    return load_split(data, name="data.source.train", kind="ner")


def texts(split):
    return set(split.rows["text"][:])


@pytest.fixture
def uneven():
    labels = ["a"] * 80 + ["b"] * 15 + ["c"] * 4 + ["d"]
    return classification([(f"text {i}", label) for i, label in enumerate(labels)])


def test_each_label_gives_its_share(uneven):
    train, dev = stratified_split(uneven, 0.2, seed=1, kind="classification")
    assert Counter(dev.rows["label"][:]) == {"a": 16, "b": 3, "c": 1}
    assert len(train) == 80
    assert texts(train) | texts(dev) == texts(uneven)
    assert not texts(train) & texts(dev)
    assert train.name == "data.source.train"
    assert dev.name == "data.source.train [held out]"


def test_the_split_depends_on_seed_and_text_only(uneven):
    _, dev = stratified_split(uneven, 0.2, 1, "classification")
    _, again = stratified_split(uneven.select(list(reversed(range(100)))), 0.2, 1, "classification")
    _, other = stratified_split(uneven, 0.2, 2, "classification")
    assert texts(dev) == texts(again) != texts(other)
    assert stratified_split(uneven, 0.2, 1, "classification")[1].fingerprint == dev.fingerprint


def test_the_split_is_pinned():
    """A change here changes everybody's dev rows."""
    split = classification([(f"text {i}", "ab"[i % 2]) for i in range(20)])
    assert stratified_split(split, 0.2, 13, "classification")[1].rows["text"][:] == [
        "text 4",
        "text 5",
        "text 14",
        "text 19",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_label_stays_in_training(seed):
    split = classification([(f"t{i}", f"label {i // 2}") for i in range(40)])
    train, dev = stratified_split(split, 0.3, seed, "classification")
    assert distinct_labels(train) == distinct_labels(split)
    assert len(dev) == 12
    split = ner([["X", "Y"], ["X"], ["Y", "Z"], *([["X"]] * 20), ["Q"], []])
    train, dev = stratified_split(split, 0.4, seed, "ner")
    assert distinct_labels(train) == ["Q", "X", "Y", "Z"]
    assert len(dev) > 5


@pytest.mark.parametrize("seed", range(5))
def test_the_same_text_never_lies_on_both_sides(seed):
    pairs = [(f"Text {i % 10}" if i % 2 else f" text  {i % 10}".upper(), "ab"[i % 2]) for i in range(60)]
    train, dev = stratified_split(classification(pairs), 0.3, seed, "classification")
    assert not {t.lower().split()[1] for t in texts(train)} & {t.lower().split()[1] for t in texts(dev)}


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match=r"too few rows .* \(2 rows with 2 distinct texts;"):
        stratified_split(classification([("x", "a"), ("y", "b")]), 0.5, 0, "classification")
    with pytest.raises(DataError, match=r"\(9 rows with 1 distinct text;"):
        stratified_split(classification([("x", "a")] * 9), 0.5, 0, "classification")
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_split(classification([("x", "a")]), 1.0, 0, "classification")


def test_multi_label_sets():
    rows = {"text": [f"t{i}" for i in range(40)], "labels": [["x"], ["x", "y"], [], ["z"]] * 10}
    split = load_split(datasets.Dataset.from_dict(rows), name="x", kind="multi_label")
    _, dev = stratified_split(split, 0.2, 0, "multi_label")
    assert Counter(row_labels(dev)) == {("x",): 2, ("x", "y"): 2, (): 2, ("z",): 2}


def test_labels_unseen_in_training(uneven):
    other = classification([("x", "a"), ("y", "bb"), ("z", "bb")])
    [problem] = label_problems(distinct_labels(uneven), other)
    assert problem.where.endswith("row 2")
    assert "the label 'bb' (2 rows" in problem.message
    assert label_problems(["a", "bb", "c"], other) == []
    [problem] = label_problems(["X"], ner([["X"], ["Y"]]))
    assert "entity type 'Y' (1 row " in problem.message


def test_one_class():
    assert "every row has the label 'a'" in str(one_class_problem(classification([("x", "a"), ("y", "a")])))
    assert one_class_problem(classification([("x", "a"), ("y", "b")])) is None
    assert "every tag is O" in str(one_class_problem(ner([[], []])))
    assert one_class_problem(ner([["X"]])) is None
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [["x"], ["x"]]})
    assert one_class_problem(load_split(rows, name="x", kind="multi_label")) is not None
