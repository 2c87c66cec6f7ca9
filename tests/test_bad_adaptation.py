"""What is wrong with an adaptation rather than with a recipe or a file: a clear message, and nothing lost.

Elsewhere: a collapsed discriminator and its advice (``test_dann.py``), a collapsed model (``test_guarded_runs.py``), a
loss that is no number (``test_trainer.py``), interrupted comparisons and those of another recipe
(``test_comparison.py``), bad rows (``test_data_errors.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from helpers import Listener, data_of, recipe_data, rows_of

from nlp_transfer.comparison.compare import compare
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.parts import METHODS, TUNINGS, recipe_from
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.recipe.pretraining import OBJECTIVE_DEFAULTS
from nlp_transfer.running import run
from nlp_transfer.selection import SCORES

NEEDY = [name for name, method in METHODS.items() if method.reads_target({})]


def refused(*parts: str, data: Any = None, **changes: Any) -> None:
    """Check that a recipe is refused when it is read, before there is data or a model."""
    values = recipe_data(Path("run"), Path("model"), **changes)
    with pytest.raises(RecipeError) as error:
        recipe_from(values if data is None else values | {"data": data})
    for part in parts:
        assert part in str(error.value), str(error.value)


# A target without text


@pytest.mark.parametrize(
    "changes",
    [
        *({"methods": (name,), "source_only": True} for name in NEEDY),
        *({"stages": [{"name": "pretrain", "objective": name}, "finetune"]} for name in OBJECTIVE_DEFAULTS),
        {"stages": ["finetune", "self_train"]},
        *({"selection": name} for name in SCORES),
    ],
    ids=str,
)
def test_a_target_without_text(changes: dict[str, Any]) -> None:
    data = {"source": {"train": "memory"}, "target": {"test": "memory"}}
    refused("data.target.unlabelled", data=data, **changes)


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_a_target_whose_texts_are_empty(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of(kind)
    key = "words" if kind == "ner" else "text"
    blank = data["target.unlabelled"].map(lambda row: {key: [] if kind == "ner" else "  "})
    recipe = recipe_from(recipe_data(tmp_path / "run", tiny_bert, kind, methods=("dann",)))
    with pytest.raises(DataError, match=r"target\.unlabelled"):
        run(recipe, data=data | {"target.unlabelled": blank})
    assert not (tmp_path / "run/stages").exists()


# Domains that are alike, or hardly there


def test_a_target_that_is_the_source(tiny_bert: Path, tmp_path: Path) -> None:
    source = rows_of("classification", 24, 1)
    data = data_of("classification") | {"target.unlabelled": source, "target.test": source.select(range(8))}
    listener = Listener()
    recipe = recipe_from(recipe_data(tmp_path, tiny_bert, methods=("dann", "mmd"), source_only=True))
    assert run(recipe, data=data, reporter=listener).metrics["verdict"]["verdict"] == "no evidence"
    told = "\n".join(listener.said)
    assert "target.unlabelled: all texts are those of source rows; there is no other domain to adapt to." in told
    assert "target.test: 8 of 8 texts are those of source rows, too; they are scored as if unseen." in told


def test_labels_that_look_alike_and_dev_rows_that_are_trained_on_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": ["good", "Good", "bad"][number % 3]} for number in range(30)]
    few = datasets.Dataset.from_list(rows[:6])
    data = data_of("classification") | {"source.train": datasets.Dataset.from_list(rows), "source.dev": few}
    data["target.test"] = few
    notes = load_splits(resolve(recipe_from(recipe_data(tmp_path, Path("x")))), data).notes
    assert "the labels 'Good', 'good' differ only in case or space; label_map can make them one." in notes
    assert "source.dev: 6 of 6 texts are trained on, too: its score says less of unseen text." in notes


def test_domains_that_share_some_texts_are_nothing_to_speak_of(tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of("classification")
    mixed = data["target.unlabelled"].select(range(4)).to_list() + data["source.train"].select(range(4)).to_list()
    listener = Listener()
    given = data | {"target.unlabelled": data["source.train"].from_list(mixed)}
    run(recipe_from(recipe_data(tmp_path, tiny_bert, methods=("coral",))), data=given, reporter=listener)
    assert "those of source rows" not in "\n".join(listener.said)


def test_texts_that_are_both_adapted_to_and_scored_are_told(tiny_bert: Path, tmp_path: Path) -> None:
    data, listener = data_of("classification"), Listener()
    texts = data["target.test"].select(range(3)).to_list() + data["target.unlabelled"].to_list()
    given = data | {"target.unlabelled": data["target.unlabelled"].from_list(texts)}
    run(recipe_from(recipe_data(tmp_path, tiny_bert, methods=("coral",))), data=given, reporter=listener, checked=False)
    assert any("3 of" in line and "texts are in target.unlabelled, too" in line for line in listener.said)


@pytest.mark.parametrize("kind", ["classification", "ner", "multi_label"])
def test_a_class_that_the_target_does_not_have(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    """Neither in its text, as far as anybody knows, nor in its labelled rows: scored on the classes that are there."""
    data = data_of(kind)
    labels: dict[str, Any] = {
        "classification": lambda row: row["label"] != "poor",
        "ner": lambda row: "B-ORG" not in row["tags"],
        "multi_label": lambda row: "poor" not in row["labels"],
    }
    fewer = {role: data[role].filter(labels[kind]) for role in ("target.unlabelled", "target.test")}
    methods = ({"name": "mmd", "class_conditional": True}, "mcc", "cdan")
    recipe = recipe_from(recipe_data(tmp_path, tiny_bert, kind, methods=methods, source_only=True))
    listener = Listener()
    metrics = run(recipe, data=data | fewer, reporter=listener).metrics  # type: ignore[arg-type]
    missing = "entity types ['ORG']" if kind == "ner" else "labels ['poor']"
    assert any(f"target.test: no row has the {missing}" in line for line in listener.said)
    interval = metrics["scores"]["adapted"]["target.test"]["interval"]
    assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    assert metrics["guard"]["kept"] == metrics["kept"]


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ("dann", "cdan", "coral", "mcc")},
        {
            "methods": (
                {"name": "mmd", "class_conditional": True},
                {"name": "joint_mlm", "head_steps": 1},
                "anchor",
                "l2sp",
            )
        },
        {"stages": [{"name": "pretrain", "objective": "tsdae"}, "finetune", "self_train"]},
        {"stages": [{"name": "pretrain", "objective": "simcse"}, "finetune"], "selection": "dev"},
    ],
    ids=["adversaries", "others", "tsdae", "simcse"],
)
@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_two_row_domains(kind: str, changes: dict[str, Any], tiny_bert: Path, tmp_path: Path) -> None:
    """They train, but nothing is concluded from them."""
    two = rows_of(kind, 2, 1)
    data = dict.fromkeys(("source.train", "source.dev", "target.unlabelled", "target.test"), two)
    listener = Listener()
    values = recipe_data(tmp_path, tiny_bert, kind, source_only=True, max_steps=1, **changes)
    metrics = run(recipe_from(values), data=data, reporter=listener).metrics
    assert metrics["verdict"]["verdict"] == "no evidence"
    if kind == "classification":
        assert metrics["kept"] == "source-only" and "Only 2 units" in metrics["guard"]["reasons"][0]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["two rows", "the same domain", "a class missing"])
def test_a_comparison_of_what_cannot_be_compared(case: str, tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of("classification")
    if case == "two rows":
        data = dict.fromkeys(
            ("source.train", "source.dev", "target.unlabelled", "target.test"), rows_of("sentiment", 2, 1)
        )
    elif case == "the same domain":
        data |= {"target.unlabelled": data["source.train"], "target.test": data["source.dev"]}
    else:
        data["target.test"] = data["target.test"].filter(lambda row: row["label"] != "poor")
    kind = "sentiment" if case == "two rows" else "classification"
    recipe = recipe_from(recipe_data(tmp_path, tiny_bert, kind, max_steps=1))
    found = compare(recipe, ["source_only", "dann", "mcc", "soup"], [1, 2], data=data, folder=tmp_path / "c")
    table = found.summary["strategies"]
    assert {table[name]["gain"]["verdict"] for name in ("dann", "mcc", "soup")} <= {"no evidence"}
    assert found.summary["picked"] in table and found.picked.is_dir() and found.report.is_file()


# Settings out of range


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("dann", "max_lambda", (-0.1, 11, float("inf"), float("nan"))),
        ("cdan", "max_lambda", (-0.1, 11)),
        ("dann", "rate_factor", (0, float("inf"))),
        ("mcc", "temperature", (0, -1, float("inf"), float("nan"))),
        ("anchor", "temperature", (0, 101, "warm")),
        ("joint_mlm", "mask_rate", (0, 1)),
        ("l2sp", "alpha", (-1, float("inf"))),
        ("mmd", "weight", (-1, float("inf"))),
        ("coral", "begin", (-0.1, 1)),
    ],
)
def test_settings_of_methods_out_of_range(name: str, key: str, values: tuple[Any, ...]) -> None:
    for value in values:
        refused(f"methods.0.{key}: expected a number", methods=({"name": name, key: value},), source_only=True)


@pytest.mark.parametrize(
    ("stage", "key", "values"),
    [
        ({"name": "pretrain", "objective": "simcse"}, "temperature", (0, 1.5)),
        ({"name": "pretrain", "objective": "tsdae"}, "delete_rate", (0, 1)),
        ({"name": "pretrain"}, "mask_rate", (0, 1)),
    ],
)
def test_settings_of_objectives_out_of_range(stage: dict[str, Any], key: str, values: tuple[Any, ...]) -> None:
    for value in values:
        refused(f"stages.0.{key}: expected a number", stages=[stage | {key: value}, "finetune"])


def test_settings_of_self_training_out_of_range() -> None:
    for key, value in (("threshold", 1), ("share", 0), ("share", 1.1), ("target_weight", 0), ("rounds", 0)):
        refused(f"stages.1.{key}: expected", stages=["finetune", {"name": "self_train", key: value}])


# Methods that a tuning cannot serve


@pytest.mark.parametrize("tuning", [name for name, one in TUNINGS.items() if not one.moves_features])
def test_methods_that_a_tuning_cannot_serve(tuning: str) -> None:
    for name in [name for name, method in METHODS.items() if method.moves_features]:
        refused(
            f"methods.0: '{name}' works by changing features, but tuning '{tuning}' never changes them.",
            "Use tuning full, lora or top_layers",
            tuning=tuning,
            methods=(name,),
            source_only=True,
        )
