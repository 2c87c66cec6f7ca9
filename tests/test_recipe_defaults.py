"""Resolved recipes, recipes as text, the JSON schema, and an import that loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import minimal, valid

from nlp_transfer.recipe import Recipe, dump, json_schema, load, resolve
from nlp_transfer.recipe.load import parse
from nlp_transfer.recipe.schema import TrainSpec


@pytest.mark.parametrize(
    ("tuning", "rate", "pretrain_rate", "epochs", "batch_size"),
    [
        ("full", 5e-5, 1e-4, 3, 16),
        ("lora", 5e-4, 5e-4, 3, 16),
        ("frozen", 5e-3, 1e-4, 20, 64),
        ("top_layers", 1e-4, 1e-4, 3, 16),
    ],
)
def test_resolve_fills_defaults(tuning: str, rate: float, pretrain_rate: float, epochs: float, batch_size: int) -> None:
    recipe = resolve(valid(minimal(tuning=tuning, stages=["pretrain", "finetune"])))
    pretrain, finetune = (TrainSpec(**stage.train) for stage in recipe.stages)
    assert recipe.output == "runs/small"
    assert (finetune.learning_rate, finetune.head_learning_rate) == (rate, rate)
    assert (finetune.epochs, finetune.batch_size) == (epochs, batch_size)
    assert (pretrain.learning_rate, pretrain.epochs, pretrain.batch_size) == (pretrain_rate, 3, 16)
    assert recipe.train == finetune


def test_resolve_puts_the_stage_over_the_recipe() -> None:
    data = minimal(
        train={"learning_rate": 2e-4, "weight_decay": 0.0, "max_steps": 9},
        stages=["pretrain", {"name": "finetune", "train": {"learning_rate": 1e-5, "max_steps": None}}],
    )
    pretrain, finetune = (stage.train for stage in resolve(valid(data)).stages)
    assert set(pretrain) == set(finetune) == set(TrainSpec.model_fields)
    assert (pretrain["learning_rate"], finetune["learning_rate"]) == (2e-4, 1e-5)
    assert (pretrain["weight_decay"], finetune["weight_decay"]) == (0.0, 0.0)
    assert (pretrain["max_steps"], finetune["max_steps"]) == (9, None)


def test_a_stage_that_says_how_long_it_trains_is_heard() -> None:
    """The recipe's max_steps would win over the stage's epochs."""
    data = minimal(
        train={"max_steps": 400, "epochs": 5},
        stages=[{"name": "pretrain", "train": {"epochs": 3}}, {"name": "finetune", "train": {"epochs": 2}}],
    )
    resolved = resolve(valid(data))
    pretrain, finetune = (stage.train for stage in resolved.stages)
    assert (pretrain["epochs"], pretrain["max_steps"]) == (3, None)
    assert (finetune["epochs"], finetune["max_steps"]) == (2, None)
    assert resolve(resolved) == resolved
    _, problems = parse(data, overrides=["train.max_steps=7"])
    assert ["no effect: every stage sets max_steps or epochs itself" in one.message for one in problems] == [True]


def test_resolve_keeps_zero_and_the_recipe_itself() -> None:
    recipe = valid(minimal(train={"warmup": 0, "dropout": 0, "early_stopping": 0}))
    before = recipe.model_copy(deep=True)
    resolved = resolve(recipe)
    assert (resolved.train.warmup, resolved.train.dropout, resolved.train.early_stopping) == (0, 0, 0)
    assert recipe == before


def test_resolve_block_length_follows_max_length() -> None:
    data = minimal(stages=["pretrain"])
    data["data"] = {"source": {"train": "a"}, "max_length": 64}
    assert resolve(valid(data)).stages[0].model_dump()["block_length"] == 64
    assert resolve(valid(minimal(stages=["pretrain"]))).stages[0].model_dump()["block_length"] is None


FULL = minimal(
    tuning={"name": "lora", "rank": 8, "targets": ["query", "value"]},
    methods=["dann", {"name": "mmd", "weight": 0.1, "kernels": [0.5, 1]}],
    stages=[{"name": "pretrain", "train": {"epochs": 1}}, "finetune"],
    train={"max_steps": 10, "learning_rate": 3e-4},
    task={"name": "classification", "labels": ["no", "null", "3e-4", "1", "", "#", "a: b", "ünï — ✓", "Yes"]},
    report_to=["tensorboard"],
)


@pytest.mark.parametrize("data", [minimal(), FULL])
def test_resolve_dump_load_is_stable(tmp_path: Path, data: dict[str, Any]) -> None:
    recipe = valid(data)
    resolved = resolve(recipe)
    assert resolve(resolved) == resolved
    for name, item in (("as_written", recipe), ("resolved", resolved)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump(item), encoding="utf-8")
        again, problems = load(path)
        assert problems == []
        assert again == item
        assert dump(again) == dump(item)


def test_dump_is_block_style_in_the_order_of_the_schema() -> None:
    text = dump(resolve(valid(FULL)))
    assert text.startswith("name: small\noutput: runs/small\nseed: 13\nmodel:\n  id: m\n")
    assert [line.split(":")[0] for line in text.splitlines() if line[0] not in " -"] == list(Recipe.model_fields)
    assert '    - "no"\n    - "null"\n    - "3e-4"\n    - "1"\n' in text
    assert "&" not in text
    assert "*" not in text


# Schema and import


def test_json_schema_knows_shorthands() -> None:
    schema = json_schema()
    assert schema["properties"]["model"]["anyOf"][0] == {"type": "string"}
    assert schema["properties"]["stages"]["items"]["anyOf"][0]["enum"] == ["finetune", "pretrain", "self_train", "soup"]
    assert schema["$defs"]["FinetuneStage"]["properties"]["train"]["$ref"].endswith("TrainSpec")
    assert "x-shorthand" not in json.dumps(schema)
    schema["properties"].clear()
    assert json_schema()["properties"]


def test_import_is_light() -> None:
    code = (
        "import sys, nlp_transfer.recipe, nlp_transfer.recipe.shipped;"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'pandas', 'sklearn', 'ruamel.yaml'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
