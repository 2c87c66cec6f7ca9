"""Recipes: files, messages and overrides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import minimal, valid

from nlp_transfer.errors import RecipeError
from nlp_transfer.methods.base import Method
from nlp_transfer.methods.dann import Dann
from nlp_transfer.parts import recipe_from, settings_model
from nlp_transfer.recipe import Recipe, load, parse
from nlp_transfer.recipe.stages import FinetuneStage
from nlp_transfer.recipe.yaml import read_text
from nlp_transfer.units import Sizes

SMALL = """\
# A small recipe
name: small
model: some/encoder
task: sentiment
data:
  source:
    train: train.jsonl
"""


def messages(data: dict[str, Any], *overrides: str) -> list[str]:
    recipe, problems = parse(data, overrides=overrides)
    assert recipe is None
    return [str(problem) for problem in problems]


def only_message(data: dict[str, Any], *overrides: str) -> str:
    (message,) = messages(data, *overrides)
    for jargon in ("pydantic", "Input", "literal", "constrained", "extra_forbidden", "validation error"):
        assert jargon not in message
    return message


# Files


def test_load_names_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL + "train:\n  learning_rate: 3e-4\n  epochs: '2'\n", encoding="utf-8")
    recipe, problems = load(path)
    assert recipe is None
    assert [str(problem) for problem in problems] == [
        f"{path}:10: train.epochs: expected a number greater than 0, found the text '2'."
        " Write the number without quotes."
    ]


def test_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("seed: x\n" + SMALL + "  bogus: 1\nepoch: 1\n", encoding="utf-8")
    _, problems = load(path)
    assert [problem.where.split(":")[-2] for problem in problems] == ["1", "9", "10"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "holds a list"),
        (b"text", "holds a single value"),
        (b"a: 1\nb: \xff\n", "not UTF-8"),
        (SMALL.encode("utf-16"), "not UTF-8"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        load(path)


def test_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    recipe, _ = load(path)
    assert recipe is not None


def test_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "sentiment.yaml").write_text(SMALL, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"Did you mean 'sentiment\.yaml'"):
        load(tmp_path / "sentimant.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(RecipeError, match="no folder"):
        load(tmp_path / "absent" / "x.yaml")


# Messages


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"epochs": 3},
            "recipe: epochs: unknown key 'epochs'. It belongs under 'train'. Allowed here: name,",
        ),
        ({"trian": {}}, "recipe: trian: unknown key 'trian'. Did you mean 'train'? Allowed here: name,"),
        ({"train": {"epoch": 3}}, "recipe: train.epoch: unknown key 'epoch'. Did you mean 'epochs'?"),
        (
            {"train": {"schedule": "liner"}},
            "recipe: train.schedule: expected 'linear', 'cosine' or 'constant', found the text 'liner'."
            " Did you mean 'linear'?",
        ),
        (
            {"train": {"evaluate_every": "epoche"}},
            "recipe: train.evaluate_every: expected 'epoch' or a whole number at least 1,"
            " found the text 'epoche'. Did you mean 'epoch'?",
        ),
        (
            {"train": {"evaluate_every": 0}},
            "recipe: train.evaluate_every: expected 'epoch' or a whole number at least 1,",
        ),
        (
            {"train": {"learning_rate": 3}},
            "recipe: train.learning_rate: expected a number greater than 0 and at most 1,",
        ),
        ({"train": {"batch_size": 1.5}}, "recipe: train.batch_size: expected a whole number at least 1,"),
        ({"train": {"epochs": True}}, "recipe: train.epochs: expected a number greater than 0, found true."),
        ({"train": {"epochs": float("nan")}}, "recipe: train.epochs: expected a number greater than 0,"),
        ({"train": [1]}, "recipe: train: expected a section with the keys epochs, max_steps,"),
        ({"seed": None}, "recipe: seed: expected a whole number at least 0"),
        ({"output": 7}, "recipe: output: expected text, found the number 7. Put it in quotes: '7'."),
        (
            {"source_only": "no"},
            "recipe: source_only: expected true or false, found the text 'no'. Write false.",
        ),
        (
            {"source_only": "True"},
            "recipe: source_only: expected true or false, found the text 'True'. Write true without quotes.",
        ),
        ({"name": "my run"}, "recipe: name: expected a name of letters, digits,"),
        ({"model": None}, "recipe: model.id: missing; expected text that is not empty."),
        (
            {"model": {"id": "m", "trust_remote_code": True}},
            "recipe: model.trust_remote_code: expected false (",
        ),
        (
            {"task": "nre"},
            "recipe: task.name: expected 'classification', 'sentiment' or 'ner', found the text 'nre'",
        ),
        (
            {"task": {"name": "ner", "labels": [1, "x"]}},
            "recipe: task.labels.0: expected text, found the number 1. Put it in quotes: '1'.",
        ),
        (
            {"task": {"name": "sentiment", "polarity": {1: "negative"}}},
            "recipe: task.polarity.1: the key 1 must be text. Put it in quotes: '1'.",
        ),
        (
            {"task": {"name": "classification", "class_weights": {"a": 0}}},
            "recipe: task.class_weights.a: expected a number greater than 0, found the number 0.",
        ),
        (
            {"task": {"name": "classification", "class_weights": "balance"}},
            "recipe: task.class_weights: expected 'balanced' or names with a number greater than 0 for each,"
            " found the text 'balance'. Did you mean 'balanced'?",
        ),
        ({"task": {"name": "ner", "multi_label": True}}, "recipe: task: multi_label works with task"),
        (
            {"data": {"source": {}}},
            "recipe: data.source.train: missing; expected text (the path), or a section with the keys path,",
        ),
        (
            {"data": {"source": {"train": {"path": "a", "columns": {"words": 1.5}}}}},
            "recipe: data.source.train.columns.words: expected text or a whole number, found the number 1.5.",
        ),
        ({"tuning": {"rank": 4}}, "recipe: tuning.name: missing; expected text that is not empty."),
        ({"methods": "dann"}, "recipe: methods: expected a list, each text (the name), or a section"),
        ({"methods": [None]}, "recipe: methods.0: expected text (the name), or a section"),
        ({"compare": {"strategies": ["dann"], "seeds": 3}}, "recipe: compare.seeds: seeds is a list. Write [1, 2, 3]"),
        ({"stages": []}, "recipe: stages: expected a list of at least 1 items"),
        (
            {"stages": ["finetun"]},
            "recipe: stages.0.name: expected 'finetune', 'pretrain', 'self_train' or 'soup', found the text 'finetun'."
            " Did you mean 'finetune'?",
        ),
        (
            {"stages": [{"train": {}}]},
            "recipe: stages.0.name: missing; expected 'finetune', 'pretrain', 'self_train' or 'soup'.",
        ),
        (
            {"stages": [3]},
            "recipe: stages.0: expected 'finetune', 'pretrain', 'self_train' or 'soup', or a section with such a name,",
        ),
        (
            {"stages": [{"name": "finetune", "mask_rate": 0.1}]},
            "recipe: stages.0.mask_rate: unknown key 'mask_rate'. Allowed here: name, on, target_share, adapt, train.",
        ),
        (
            {"stages": [{"name": "pretrain", "train": {"epochs": -1}}]},
            "recipe: stages.0.train.epochs: expected a number greater than 0, found the number -1.",
        ),
        (
            {"stages": [{"name": "finetune", "train": {"learning_rat": 1e-4}}]},
            "recipe: stages.0.train.learning_rat: unknown key 'learning_rat'. Did you mean 'learning_rate'?",
        ),
        ({"report_to": ["wandv"]}, "recipe: report_to.0: expected 'tensorboard',"),
        (
            {"compare": {"strategies": [{"name": "dann", "title": 1e-4}]}},
            "recipe: compare.strategies.0.title: expected text of letters, digits, spaces and . _ + - (in quotes where "
            "it looks like a number), found the number 0.0001.",
        ),
        ({3: 1}, "recipe: 3: the key 3 must be text. Put it in quotes: '3'."),
    ],
)
def test_one_mistake_gives_one_plain_message(sections: dict[str, Any], message: str) -> None:
    assert only_message(minimal() | sections).startswith(message)


def test_all_problems_at_once() -> None:
    found = messages(
        minimal(seed=-1, bogus=1, train={"epochs": 0, "warmup": 1}, stages=[{"name": "x"}], name=3),
        "train.dropout=2",
        "nonsense",
    )
    assert len(found) == 8
    assert any(line.startswith("override: train.dropout: ") for line in found)


def test_not_a_mapping() -> None:
    recipe, problems = parse([1])
    assert recipe is None
    assert len(problems) == 1


@pytest.mark.parametrize("label", ["no", "yes", "on"])
def test_a_label_called_no_stays_text(label: str) -> None:
    data, _ = read_text(SMALL.replace("task: sentiment", f"task: {{name: ner, labels: [{label}, other]}}"), "x")
    assert valid(data).task.labels == [label, "other"]


def test_sections_with_nothing_under_them_are_empty() -> None:
    empty = dict.fromkeys(("train", "evaluate", "methods", "stages", "tuning", "report_to"))
    assert valid(minimal(**empty)) == valid(minimal())
    recipe = valid(minimal(stages=[{"name": "pretrain", "train": None}, "finetune"]))
    assert recipe.stages[0].train == {}


def test_parse_leaves_its_input_alone() -> None:
    data = minimal(stages=["finetune"], train=None)
    before = json.dumps(data)
    valid(data, "stages.0.train.epochs=2", "seed=3")
    assert json.dumps(data) == before


def test_a_recipe_made_in_python_is_checked_too() -> None:
    with pytest.raises(ValueError, match="epoch"):
        FinetuneStage(train={"epoch": 1})
    recipe = Recipe.model_validate(minimal(stages=["pretrain"]))
    assert recipe.model.id == "m"
    assert recipe.adapts


# Overrides


def test_overrides_reach_everything() -> None:
    recipe = valid(
        minimal(methods=[{"name": "dann", "weight": 1.0}], tuning="lora", stages=["pretrain", "finetune"]),
        "name=other",
        "model.revision=v2",
        "tuning.rank=4",
        "methods.0.weight=3e-1",
        "methods.1=mmd",
        "methods.1.kernels=[1, 2]",
        "stages.0.train.epochs=2",
        "stages.1.train={max_steps: 7}",
        "data.source.train.format=conll",
        "data.target.test=b.conll",
        "task.labels=[no, yes]",
        "train.learning_rate=3e-4",
        "output=",
    )
    assert (recipe.name, recipe.output, recipe.model.id, recipe.model.revision) == ("other", None, "m", "v2")
    assert recipe.tuning.settings == {"rank": 4}
    assert [(part.name, part.settings) for part in recipe.methods] == [
        ("dann", {"weight": 0.3}),
        ("mmd", {"kernels": [1, 2]}),
    ]
    assert [stage.train for stage in recipe.stages] == [{"epochs": 2.0}, {"max_steps": 7}]
    assert recipe.data.source.train.path == "a.conll"
    assert recipe.data.target.test is not None
    assert recipe.task.labels == ["no", "yes"]
    assert recipe.train.learning_rate == 3e-4


def test_overrides_make_missing_sections_and_lists() -> None:
    recipe = valid(minimal(), "stages.0.train.epochs=2", "methods.0=dann", "train.batch_size=9")
    assert recipe.stages == [FinetuneStage(train={"epochs": 2.0})]
    assert recipe.methods[0].name == "dann"
    assert recipe.train.batch_size == 9


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "override 'epochs': expected key.path=value"),
        ("=3", "override '=3': expected key.path=value"),
        ("train..epochs=3", "override 'train..epochs=3': expected key.path=value"),
        ("train.epochs=[1", "override 'train.epochs=[1': not valid YAML"),
        ("stages.x=1", "override 'stages.x=1': stages is a list: give the number of an item"),
        (
            "stages.4=finetune",
            "override 'stages.4=finetune': stages has 1 items, so the next one is stages.1",
        ),
        ("seed.x=1", "override 'seed.x=1': seed is a plain value (5) and has no keys to set"),
        ("train.epoch=3", "override: train.epoch: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("model.revision=3", "override: model.revision: expected text, found the number 3. Put it in quotes"),
        ("train.epochs=!!int 3", "override 'train.epochs=!!int 3': the tag"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    assert only_message(minimal(seed=5, stages=["finetune"]), override).startswith(message)


def test_an_override_without_effect_is_told() -> None:
    data = minimal(stages=[{"name": "finetune", "train": {"epochs": 2}}])
    assert "stages.0.train.epochs" in only_message(data, "train.epochs=5")


def test_settings_of_every_method_are_those_of_its_class_and_of_the_base() -> None:
    fields = settings_model(Dann).model_fields
    assert {"weight", "schedule", "begin", "max_lambda"} <= set(fields)
    assert next(iter(fields)) == "weight"
    assert "shared" not in fields


def test_a_base_class_that_is_not_handed_on_to_adds_no_settings() -> None:
    class Alone(Method):
        def __init__(self, sizes: Sizes, *, own: int = 1):
            super().__init__()

    assert list(settings_model(Alone).model_fields) == ["own"]


def test_settings_of_parts_that_stand_elsewhere_are_sent_home() -> None:
    values = {"name": "x", "model": "m/m", "task": "ner", "data": {"source": {"train": "a.conll"}}}
    with pytest.raises(RecipeError) as caught:
        recipe_from(values | {"rank": 8, "max_lambda": 0.3, "tuning": "lora", "train": {"alpha": 3, "dropout": 0.1}})
    told = [str(problem) for problem in caught.value.problems]
    assert "recipe: rank: 'rank' is a setting of tuning 'lora': write it there, beside name." in told
    assert any("max_lambda: 'max_lambda' is a setting of method 'dann', method 'cdan'" in line for line in told)
    assert any("train.alpha: 'alpha' is a setting of tuning 'lora'" in line for line in told)
    assert not any("'dropout' is a setting" in line for line in told), "that one train has, too"
