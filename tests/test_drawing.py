"""Target texts to label by hand: which are drawn, and that they come back as labelled rows once they are filled in."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from helpers import data_of, recipe_data
from typer.testing import CliRunner

from nlp_transfer import cli, draw, recipe_from
from nlp_transfer.errors import DataError, UserError
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve

BASE = Path("some/encoder")
ODD = ['He said "no", twice.', "two\nlines", "a\ttab", "?", " spaces around ", "ünïcode 🙂", "a|b", "'single'", "a\rb"]


def recipe_of(kind: str, folder: Path, **target: str) -> Any:
    values = recipe_data(folder / "run", BASE, kind)
    values["data"]["target"] |= target
    return recipe_from(values)


def with_texts(kind: str, texts: list[str]) -> dict[str, Any]:
    data = data_of(kind)
    return data | {"target.unlabelled": Dataset.from_dict({"text": texts})}


def test_texts_are_drawn_once_and_not_if_they_have_a_label(tmp_path: Path) -> None:
    data = data_of("classification")
    labelled = data["target.test"]["text"][0]
    fresh = [f"fresh text {number}" for number in range(50)]
    given = with_texts("classification", [*fresh, *fresh, labelled])
    recipe = recipe_of("classification", tmp_path)
    found = draw(recipe, tmp_path / "all.jsonl", 50, data=given)
    assert (found.rows, found.among) == (50, 50)
    rows = [json.loads(line) for line in found.path.read_text().splitlines()]
    assert sorted(row["text"] for row in rows) == sorted(fresh)
    assert [row["text"] for row in rows] != fresh, "in random order"
    parts = [draw(recipe, tmp_path / f"{n}.csv", 5, seed=seed, data=given).path for n, seed in enumerate((1, 1, 2))]
    assert parts[0].read_text() == parts[1].read_text() != parts[2].read_text()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("kind", ["classification", "multi_label"])
def test_filled_in_they_are_the_target_test(kind: str, suffix: str, tmp_path: Path) -> None:
    given = with_texts(kind, ODD)
    recipe = recipe_of(kind, tmp_path, test=str(tmp_path / f"rows{suffix}"))
    path = draw(recipe, tmp_path / f"rows{suffix}", len(ODD), data=given).path
    given.pop("target.test")
    with pytest.raises(DataError, match=rf"rows{suffix}:2|rows{suffix}:1") as caught:
        load_splits(resolve(recipe), given)
    assert "'?'" in str(caught.value)
    label = load_splits(resolve(recipe_of(kind, tmp_path)), data_of(kind)).labels[0]
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        filled = [row | ({"labels": [label]} if kind == "multi_label" else {"label": label}) for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in filled))
    else:
        delimiter = "," if suffix == ".csv" else "\t"
        with path.open(newline="") as file:
            head, *lines = csv.reader(file, delimiter=delimiter)
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([head, *([text, label] for text, _ in lines)])
    read = load_splits(resolve(recipe), given).scored["target.test"].rows
    assert sorted(read["text"]) == sorted(ODD)


def test_words_wait_for_their_tags(tmp_path: Path) -> None:
    given = data_of("ner")
    recipe = recipe_of("ner", tmp_path, test=str(tmp_path / "rows.conll"))
    found = draw(recipe, tmp_path / "rows.conll", 3, data=given)
    blocks = found.path.read_text().strip().split("\n\n")
    assert len(blocks) == 3 and all(block.count("?") == block.partition("\n")[0].count("?") for block in blocks)
    assert "B- at their first word" in found.fill_in and "PER" in found.fill_in
    given.pop("target.test")
    with pytest.raises(DataError, match=r"rows\.conll:1: word 1: '\?' is not a tag"):
        load_splits(resolve(recipe), given)
    found.path.write_text(found.path.read_text().replace(" ?\n", " O\n"))
    words = load_splits(resolve(recipe), given).scored["target.test"].rows["words"]
    assert words == [[line.split(" ")[0] for line in block.split("\n")] for block in blocks]


@pytest.mark.parametrize(("kind", "name"), [("classification", "rows.csv"), ("ner", "rows.conll")])
def test_columns_are_those_of_the_recipe(kind: str, name: str, tmp_path: Path) -> None:
    """So that the file can be named as it is."""
    values = recipe_data(tmp_path / "run", BASE, kind)
    values["data"]["columns"] = {"text": "review", "label": "stars"} if kind != "ner" else {"words": 1, "tags": 3}
    values["data"]["target"]["test"] = str(tmp_path / name)
    renamed = {"text": "review", "label": "stars"}
    data = data_of(kind)
    if kind != "ner":
        data = {
            role: rows.rename_columns({old: new for old, new in renamed.items() if old in rows.column_names})
            for role, rows in data.items()
        }
    path = draw(recipe_from(values), tmp_path / name, 2, data=data).path
    label = load_splits(resolve(recipe_from(values)), data).labels[0]
    path.write_text(path.read_text().replace('"?"', f'"{label}"').replace("?", "O"))
    assert "_ " in path.read_text() or kind != "ner"
    data.pop("target.test")
    assert len(load_splits(resolve(recipe_from(values)), data).scored["target.test"]) == 2


def test_what_is_to_be_written(tmp_path: Path) -> None:
    stars = {"1": "negative", "2": "negative", "5": "positive"}
    values = recipe_data(tmp_path / "run", BASE, "sentiment")
    values["task"] = {"name": "sentiment", "polarity": stars}
    data = data_of("sentiment")
    for role in ("source.train", "source.dev", "target.test"):
        labels = [("1", "2", "5")[number % 3] for number in range(len(data[role]))]
        data[role] = data[role].remove_columns("label").add_column("label", labels)
    found = draw(recipe_from(values), tmp_path / "rows.csv", 1, data=data)
    assert found.fill_in == "one of 1, 2, 5"
    assert (
        "joined by |"
        in draw(recipe_of("multi_label", tmp_path), tmp_path / "b.csv", 1, data=data_of("multi_label")).fill_in
    )


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    recipe, data = recipe_of("classification", tmp_path), data_of("classification")
    place = tmp_path / "rows.csv"
    with pytest.raises(DataError, match="only 2 distinct texts have no label yet"):
        draw(recipe, place, 3, data=with_texts("classification", ["one of them", "another"]))
    with pytest.raises(UserError, match=r"ends in \.csv, \.tsv, \.jsonl"):
        draw(recipe, tmp_path / "rows.txt", data=data)
    with pytest.raises(UserError, match=r"ends in \.conll"):
        draw(recipe_of("ner", tmp_path), place, data=data)
    with pytest.raises(UserError, match="there is no folder"):
        draw(recipe, tmp_path / "no" / "rows.csv", data=data)
    without = recipe_data(tmp_path / "run", BASE)
    without["data"]["target"].pop("unlabelled")
    with pytest.raises(DataError, match=r"Set data\.target\.unlabelled"):
        draw(recipe_from(without), place, data={role: one for role, one in data.items() if role != "target.unlabelled"})
    place.write_text("text,label\nmine,positive\n")
    with pytest.raises(UserError, match="exists already; it may hold labels"):
        draw(recipe, place, data=data)
    assert place.read_text() == "text,label\nmine,positive\n"


def test_the_command_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "to_label.csv"
    done = CliRunner().invoke(cli.app, ["draw", "recipes/quickstart.yaml", "--rows", "40", "--output", str(file)])
    assert done.exit_code == 0, done.output
    assert "40 of 300 distinct target texts" in done.output and "±12 points" in done.output
    assert f"--set data.target.test={file}" in done.output
    assert len(file.read_text().splitlines()) == 41
