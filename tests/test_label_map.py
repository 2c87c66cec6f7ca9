"""Label maps: labels of every kind of row get other names, in every labelled split of the side that has the map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from helpers import Listener
from samples import recipe_values, sentiment_rows, write_data, write_rows

from nlp_transfer import check, evaluate, recipe_from, run
from nlp_transfer.data.label_map import map_labels, unseen_names
from nlp_transfer.data.load import Split, load_split
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve


def split_of(kind: Any, **columns: list[Any]) -> Split:
    return load_split(Dataset.from_dict(columns), name="source.train", kind=kind)


def test_a_label_a_text() -> None:
    split = split_of("classification", text=list("abcde"), label=["1", "3", "2", "x", "3"])
    mapped = map_labels(split, {"1": "low", "2": "low", "3": None})
    assert mapped.split.rows["text"][:] == ["a", "c", "d"]
    assert mapped.split.rows["label"][:] == ["low", "low", "x"]
    assert (mapped.dropped, mapped.told) == (2, "2 rows")
    assert mapped.split.fingerprint != split.fingerprint


def test_several_labels_a_text_drop_the_label_and_keep_the_row() -> None:
    split = split_of("multi_label", text=list("abc"), labels=[["x", "y", "z"], ["z"], []])
    mapped = map_labels(split, {"x": "w", "y": "w", "z": None})
    assert mapped.split.rows["labels"][:] == [["w"], [], []]
    assert mapped.told == "2 labels"


def test_entities_go_by_type_and_neighbours_that_come_to_have_one_type_stay_two() -> None:
    words = [["Ann", "Lee", "Green", "Party", "of", "Oslo"], ["Ann", "Lee", "Bo", "x-y", "here", "now"]]
    tags = [
        ["B-politician", "I-politician", "B-party", "I-party", "O", "B-place"],
        ["B-politician", "I-politician", "B-person", "B-x-y", "O", "B-place"],
    ]
    split = split_of("ner", words=words, tags=tags)
    mapped = map_labels(split, {"politician": "PER", "person": "PER", "party": "ORG", "place": None})
    assert mapped.split.rows["tags"][:] == [
        ["B-PER", "I-PER", "B-ORG", "I-ORG", "O", "O"],
        ["B-PER", "I-PER", "B-PER", "B-x-y", "O", "O"],
    ]
    assert mapped.told == "2 entities"
    everything = map_labels(split, dict.fromkeys(["politician", "person", "party", "place", "x-y"]))
    assert everything.split.rows["tags"][:] == [["O"] * 6] * 2
    assert everything.dropped == 7


def test_bioes_files_keep_their_borders() -> None:
    split = split_of("ner", words=[["A", "B", "C"]], tags=[["S-a", "B-b", "E-b"]])
    assert map_labels(split, {"a": "c", "b": "c"}).split.rows["tags"][:] == [["B-c", "B-c", "I-c"]]


def test_names_that_no_row_has() -> None:
    split = split_of("ner", words=[["A", "B"]], tags=[["B-politician", "O"]])
    (problem,) = unseen_names({"politican": "PER", "politician": "PER"}, [split], "data.source.label_map")
    assert "'politican'" in str(problem)
    assert "Did you mean 'politician'?" in str(problem)
    assert problem.where == "data.source.label_map"
    assert unseen_names({"anything": None}, [], "data.target.label_map") == []


# --- in recipes --------------------------------------------------------------------------------------------------


@pytest.fixture
def values(tmp_path: Path, tiny_bert: Path) -> dict[str, Any]:
    """A source with the labels positive and negative, a target whose test split has five stars."""
    values = recipe_values(write_data(tmp_path), tiny_bert)
    stars = {"positive": ["5", "4"], "negative": ["1", "2"]}
    rows = sentiment_rows(12, 2)
    told = [row | {"label": (stars[row["label"]] + ["3"])[number % 3]} for number, row in enumerate(rows)]
    write_rows(tmp_path / "test.jsonl", told)
    return values


STARS = {"1": "negative", "2": "negative", "3": None, "4": "positive", "5": "positive"}


def mapped(values: dict[str, Any], side: str, names: dict[str, str | None]) -> dict[str, Any]:
    values["data"][side]["label_map"] = names
    return values


def test_the_map_of_a_side_is_for_all_its_labelled_splits(values: dict[str, Any], tmp_path: Path) -> None:
    values["data"]["target"]["dev"] = "target_dev.jsonl"
    renamed = {"positive": "good", "negative": "bad"}
    target = STARS | renamed | {"1": "bad", "2": "bad", "4": "good", "5": "good"}
    splits = load_splits(resolve(recipe_from(mapped(mapped(values, "source", renamed), "target", target))))
    assert splits.labels == ["bad", "good"]
    for split in (splits.train, splits.dev, *splits.scored.values()):
        assert set(split.rows["label"][:]) == {"bad", "good"}
    assert any("target.test: 4 rows dropped, as data.target.label_map" in note for note in splits.notes)


def test_a_run_scores_and_evaluate_reads_mapped_rows(values: dict[str, Any], tmp_path: Path) -> None:
    listener = Listener()
    result = run(recipe_from(mapped(values, "target", STARS)), reporter=listener)  # type: ignore[arg-type]
    assert any("4 rows dropped" in line for line in listener.said)
    score = evaluate(result.folder, tmp_path / "test.jsonl", resamples=100)
    assert score.metrics["dropped"] == {"label_map": "4 rows"}
    assert score.metrics["accuracy"] == result.metrics["scores"]["source-only"]["target.test"]["accuracy"]
    gold = [json.loads(line)["gold"] for line in
            (result.folder / "predictions/source-only.target.test.jsonl").read_text().splitlines()]  # fmt: skip
    assert len(gold) == 8
    assert set(gold) == {"negative", "positive"}


def test_check_shows_labels_after_the_map(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="does not occur in the training data"):
        check(recipe_from(values), data=True)
    found = check(recipe_from(mapped(values, "target", STARS)), data=True)["data"]
    assert set(found["splits"]["target.test"]["labels"]) == {"negative", "positive"}
    assert found["label_gaps"] == []


def test_polarity_comes_after_the_map(values: dict[str, Any]) -> None:
    values["task"] = {"name": "sentiment", "polarity": {"positive": "yes", "negative": "no", "mixed": None}}
    splits = load_splits(resolve(recipe_from(mapped(values, "target", STARS | {"3": "mixed"}))))
    assert splits.labels == ["no", "yes"]
    assert len(splits.scored["target.test"]) == 8
    assert any("4 rows dropped, as task.polarity" in note for note in splits.notes)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_misspelt_label_is_refused(values: dict[str, Any], side: str) -> None:
    names = STARS | {"6": "positive"} if side == "target" else {"postive": "good", "positive": "good"}
    with pytest.raises(DataError) as caught:
        run(recipe_from(mapped(values, side, names)))
    assert f"data.{side}.label_map" in str(caught.value)
    assert ("'6'" if side == "target" else "Did you mean 'positive'") in str(caught.value)


def test_without_a_target_test_a_label_that_no_row_has_is_told(values: dict[str, Any]) -> None:
    values["data"]["target"] |= {"test": None, "dev": "target_dev.jsonl"}
    splits = load_splits(resolve(recipe_from(mapped(values, "target", {"5": "positive"}))))
    assert any("data.target.label_map: no row of target.dev has the label '5'" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ({"positive": "one", "negative": "one"}, ("every row has the label 'one'", "two labels")),
        ({"positive": None, "negative": None}, ("data.source.label_map maps the labels of all rows", "null")),
    ],
)
def test_a_map_that_leaves_too_little(
    values: dict[str, Any], names: dict[str, str | None], parts: tuple[str, ...]
) -> None:
    values["data"]["target"] = {}
    with pytest.raises(DataError) as caught:
        run(recipe_from(mapped(values, "source", names)))
    assert all(part in str(caught.value) for part in parts)


def test_what_a_map_may_not_say(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="Put it in quotes: '5'"):
        recipe_from(mapped(values, "target", {5: "positive"}))  # type: ignore[dict-item]
    with pytest.raises(RecipeError, match=r"data\.target\.label_map\.5.*text that is not empty"):
        recipe_from(mapped(values, "target", {"5": ""}))
