"""Several source domains: the recipe, the data, whole runs, and what is said of each domain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Listener, make_recipe, recipe_data, rows_of, same_weights

from nlp_transfer.checking import check
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.parts import load_recipe, recipe_from
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.running import run

TWO = [{"name": "books", "train": "memory", "dev": "memory"}, {"train": "memory"}]


def values(folder: Path, model: Path | str, kind: str = "classification", source: Any = None, **changes: Any) -> Any:
    """A recipe of two sources, as plain data; only the first has dev rows."""
    data = recipe_data(folder, Path(model), kind, **changes)
    data["data"] |= {"source": TWO if source is None else source, "dev_share": 0.25}
    return data


def given(kind: str = "classification", first: int = 24, second: int = 12) -> dict[str, Any]:
    """Rows for the roles of such a recipe."""
    return {
        "source.0.train": rows_of(kind, first, 1),
        "source.0.dev": rows_of(kind, 12, 2),
        "source.1.train": rows_of(kind, second, 5),
        "target.unlabelled": rows_of(kind, 19, 3),
        "target.test": rows_of(kind, 12, 4),
    }


def problems(source: Any, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_from(values(Path("x"), "x", source=source), overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            [],
            "data.source: expected a section with the keys name, train, dev, label_map, share or a list of at least 1",
        ),
        ([{"train": "a", "name": "x"}, {"train": "b", "name": "x"}], "data.source: two sources are called 'x'"),
        ([{"train": "a"}, {"train": "b", "name": "0"}], "data.source: two sources are called '0'"),
        ([{"train": "a"}, {"dev": "b"}], "data.source.1.train: missing; expected text (the path)"),
        ([{"train": "a"}, {"trian": "b", "train": "c"}], "data.source.1.trian: unknown key 'trian'. Did you mean"),
        (
            [{"train": "a"}, {"train": "b", "name": "two words"}],
            "data.source.1.name: expected a name of",
        ),
        (
            [{"train": "a"}, "b"],
            "data.source.1: expected a section with the keys name, train, dev, label_map, share, found",
        ),
    ],
)
def test_bad_lists_are_refused_with_their_key_path(source: Any, told: str) -> None:
    assert told in problems(source)


def test_overrides_reach_every_source(tmp_path: Path) -> None:
    recipe = recipe_from(values(tmp_path, "x"), ["data.source.1.train=b.csv", "data.source.2.train=c.csv"])
    assert [(role, one.name, one.train.path) for role, one in recipe.data.sources.items()] == [
        ("source.0", "books", "memory"),
        ("source.1", "1", "b.csv"),
        ("source.2", "2", "c.csv"),
    ]
    assert "data.source is a list: give the number of an item" in problems(TWO, "data.source.train=x")
    bare = {"name": "n", "model": "m", "task": "ner"}
    one = recipe_from(bare, ["data.source.train=a"]).data.sources
    assert list(one) == list(recipe_from(bare, ["data.source={train: a}"]).data.sources) == ["source"]
    assert list(recipe_from(bare, ["data.source.0.train=a", "data.source.1.train=b"]).data.sources) == [
        "source.0",
        "source.1",
    ]


def test_rows_of_all_sources_come_together_and_say_where_they_are_from(tmp_path: Path) -> None:
    splits = load_splits(resolve(recipe_from(values(tmp_path, "x"))), given())
    first, second = splits.sources
    assert (first.role, first.name, second.role, second.name) == ("source.0", "books", "source.1", "1")
    assert (len(first.train), len(first.dev), len(second.train), len(second.dev)) == (24, 12, 9, 3)
    assert splits.notes[1:] == ["source.1.dev: 3 rows held out of source.1.train (data.dev_share)."]
    assert list(splits.train.rows["origin"]) == [0] * 24 + [1] * 9
    assert list(splits.dev.rows["origin"]) == [0] * 12 + [1] * 3
    assert splits.train.rows["text"][:] == [*first.train.rows["text"][:], *second.train.rows["text"][:]]
    assert sorted(splits.fingerprints()) == [
        *("source.0.dev", "source.0.train", "source.1.dev", "source.1.train"),
        *("target.test", "target.unlabelled"),
    ]
    assert len(set(splits.fingerprints().values())) == 6


def test_a_list_of_one_is_the_one(tmp_path: Path, tiny_bert: Path) -> None:
    data = given()
    listed = recipe_from(values(tmp_path / "listed", tiny_bert, source=TWO[:1], methods=("dann",)))
    plain = make_recipe(tmp_path / "plain", tiny_bert, methods=("dann",))
    left = run(listed, data={role: rows for role, rows in data.items() if role != "source.1.train"})
    named = {role.replace(".0.", "."): rows for role, rows in data.items() if role != "source.1.train"}
    right = run(plain, data=named)
    assert same_weights(left.model, right.model)
    assert left.metrics["scores"] == right.metrics["scores"]


def test_messages_name_the_source_that_is_wrong(tmp_path: Path) -> None:
    recipe = resolve(recipe_from(values(tmp_path, "x")))
    with pytest.raises(DataError, match=r"no role 'source.train'. Allowed: source.0.train, source.0.dev, source.1.t"):
        load_splits(recipe, given() | {"source.train": rows_of("classification", 4)})
    with pytest.raises(DataError, match=r"data\.source\.1\.train|source\.1\.train"):
        load_splits(recipe, {role: rows for role, rows in given().items() if role != "source.1.train"})
    broken = rows_of("classification", 12, 5).map(lambda row: {"text": ""})
    with pytest.raises(DataError, match=r"source\.1\.train"):
        load_splits(recipe, given() | {"source.1.train": broken})
    unseen = rows_of("classification", 4).map(lambda row: {"label": "grand"})
    with pytest.raises(DataError, match=r"'grand' \(4 rows of source\.0\.dev\) does not occur in the training data"):
        load_splits(recipe, given() | {"source.0.dev": unseen})
    named = recipe_from(values(tmp_path, "x"), ["task.labels=[bad, good]"])
    with pytest.raises(DataError) as caught:
        load_splits(resolve(named), given())
    assert all(f"source.{number}.train (in memory): label 'poor' is not one of" in str(caught.value) for number in "01")


def test_a_label_that_one_source_lacks_is_told_and_no_error(tmp_path: Path, tiny_bert: Path) -> None:
    only = rows_of("classification", 30, 5).filter(lambda row: row["label"] == "good")
    recipe = resolve(recipe_from(values(tmp_path / "run", tiny_bert)))
    splits = load_splits(recipe, given() | {"source.1.train": only})
    assert splits.labels == ["bad", "good", "poor"]
    assert "source.1.train: no row has the labels ['bad', 'poor'], which other sources have." in splits.notes
    found = check(recipe, data=True, given=given() | {"source.1.train": only})["data"]
    gaps = {gap["split"]: gap for gap in found["label_gaps"]}
    assert gaps["source.1.train"] == {"split": "source.1.train", "not_in_training": [], "missing": ["bad", "poor"]}
    assert "source.books.train" not in gaps
    metrics = run(recipe, data=given() | {"source.1.train": only}).metrics
    assert set(metrics["scores"]["source-only"]) == {"source.dev", "source.books.dev", "source.1.dev", "target.test"}


def test_check_describes_each_source_and_what_they_share(tmp_path: Path, tiny_bert: Path) -> None:
    rows = given()
    shared = {"source.1.train": rows["source.0.train"].select(range(12))}
    recipe = recipe_from(values(tmp_path, tiny_bert))
    found = check(recipe, data=True, given=rows | shared)["data"]
    assert list(found["splits"])[:4] == ["source.books.train", "source.books.dev", "source.1.train", "source.1.dev"]
    pairs = [pair["splits"] for pair in found["shared_texts"]]
    assert ["source.books.train", "source.1.train"] in pairs
    assert set(found["vocabulary"][0]["by_source"]) == {"books", "1"}
    assert max(found["vocabulary"][0]["by_source"].values()) <= found["vocabulary"][0]["words_seen_in_source"]


def test_each_source_has_a_score_of_its_own(tmp_path: Path, tiny_bert: Path) -> None:
    recipe = recipe_from(values(tmp_path / "run", tiny_bert, methods=("dann",), source_only=True))
    result = run(recipe, data=given())
    for role, scores in result.metrics["scores"].items():
        lines = (result.folder / f"predictions/{role}.source.dev.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["source"] for row in rows] == ["books"] * 12 + ["1"] * 3
        for name in ("books", "1"):
            right = [row["label"] == row["gold"] for row in rows if row["source"] == name]
            assert scores[f"source.{name}.dev"]["interval"]["value"] == pytest.approx(np.mean(right))
        right = [row["label"] == row["gold"] for row in rows]
        assert scores["source.dev"]["interval"]["value"] == pytest.approx(np.mean(right))
    assert set(result.metrics["gain"]) == set(scores)
    card = (result.folder / "README.md").read_text()
    assert "- source domains, each with the same share of every batch: books (24 rows), 1 (9 rows)" in card
    assert "| source.books.dev |" in card
    again = Listener()
    assert run(recipe, data=given(), reporter=again).metrics == result.metrics
    changed = given() | {"source.1.train": rows_of("classification", 12, 6)}
    run(recipe, data=changed, reporter=again)
    assert any("source.1.train" in text and "has changed" in text for text in again.warned)


def test_the_twin_takes_as_many_steps_as_an_epoch_of_the_mixture_has(tmp_path: Path, tiny_bert: Path) -> None:
    """24 rows twice, 8 a step, and rounds of the same length."""
    stages = ["finetune", {"name": "self_train", "rounds": 1, "train": {"epochs": 1}}]
    recipe = recipe_from(
        values(tmp_path / "run", tiny_bert, stages=stages, source_only=True, max_steps=None, epochs=1, batch_size=8)
    )
    result = run(recipe, data=given())
    facts = [json.loads(line) for line in (result.folder / "stages.jsonl").read_text().splitlines()]
    steps = {one["stage"]: one["steps"] for one in facts}
    assert steps["finetune"] == 6
    assert steps["source-only"] == 12


def test_a_recipe_file_with_a_list_is_read_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: two\nmodel: m\ntask: sentiment\ndata:\n  source:\n    - {name: a, train: a.csv}\n    - train: b.csv\n"
    )
    from nlp_transfer.recipe.load import dump

    recipe = resolve(load_recipe(path))
    (tmp_path / "again.yaml").write_text(dump(recipe))
    assert resolve(load_recipe(tmp_path / "again.yaml")) == recipe
