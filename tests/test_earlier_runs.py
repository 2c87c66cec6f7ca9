"""An earlier run as the `model:` of a new one, and settings that must not be ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Listener, read_json
from samples import recipe_values, write_data

from nlp_transfer.errors import DataError, ModelError, RecipeError
from nlp_transfer.inference import evaluate, load_predictor
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run

TEXTS = ["it was really love", "the film was hate", "fine plot and slow app"]


@pytest.fixture
def values(tmp_path: Path, tiny_bert: Path) -> dict[str, Any]:
    return recipe_values(write_data(tmp_path / "data"), tiny_bert) | {"output": str(tmp_path / "first")}


def second(values: dict[str, Any], model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    return values | {"model": str(model), "output": str(folder), "seed": 5} | changes


@pytest.mark.parametrize("tunings", [("lora", "lora"), ("full", "lora"), ("lora", "full")], ids="-".join)
def test_a_run_on_top_of_a_run_keeps_what_the_first_learnt(
    values: dict[str, Any], tmp_path: Path, tunings: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(recipe_from(values | {"tuning": tunings[0], "train": {"max_steps": 4, "learning_rate": 0.05}}))
    # A rate of almost nothing: the second model must answer as the first one does.
    still = {"train": {"max_steps": 2, "learning_rate": 1e-9}}
    result = run(recipe_from(second(values, first.folder, tmp_path / "second", tuning=tunings[1], **still)))
    monkeypatch.chdir("/")
    before, after = (load_predictor(folder)(TEXTS) for folder in (first.folder, result.folder))
    for old, new in zip(before, after, strict=True):
        assert old["probabilities"] == pytest.approx(new["probabilities"], abs=1e-4)
    scored = evaluate(result.folder, tmp_path / "data" / "test.jsonl")
    assert scored.metrics["accuracy"] == result.metrics["scores"]["source-only"]["target.test"]["accuracy"]


def test_an_adapter_on_an_earlier_run_loads_with_plain_peft(values: dict[str, Any], tmp_path: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    first = run(recipe_from(values | {"tuning": "lora"}))
    result = run(recipe_from(second(values, first.folder, tmp_path / "second", tuning="lora")))
    predictor = load_predictor(result.folder)
    plain = AutoPeftModelForSequenceClassification.from_pretrained(result.model, num_labels=2).eval()
    batch = predictor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        assert torch.allclose(plain(**batch).logits, predictor.model(**batch).logits, atol=1e-5)


def test_an_adapter_that_was_trained_anew_is_merged_anew(values: dict[str, Any], tmp_path: Path) -> None:
    """The second run stopped before it was finished; it must not go on from the weights of the old adapter."""
    first = run(recipe_from(values | {"tuning": "lora"}))
    recipe = recipe_from(second(values, first.folder, tmp_path / "second"))
    result = run(recipe)
    (result.folder / "metrics.json").unlink()
    run(recipe_from(values | {"tuning": "lora", "train": {"max_steps": 4, "learning_rate": 0.05}}), fresh=True)
    run(recipe)
    assert len(list(result.folder.glob("stages/base-*/config.json"))) == 2


def test_a_head_for_other_labels_starts_anew(values: dict[str, Any], tmp_path: Path) -> None:
    first = run(recipe_from(values))
    listener = Listener()
    renamed = {"positive": "good", "negative": "bad"}
    changes = second(values, first.folder, tmp_path / "second", task={"name": "sentiment", "polarity": renamed})
    run(recipe_from(changes), reporter=listener)
    assert any("other labels" in line for line in listener.said)
    data = write_data(tmp_path / "ner", "ner")
    tags = recipe_values(data, first.folder, "ner") | {"output": str(tmp_path / "third")}
    config = read_json(run(recipe_from(tags)).model / "config.json")
    assert config["architectures"] == ["BertForTokenClassification"]
    names = [f"{side}-{name}" for name in ("LOC", "ORG", "PER") for side in "BI"]
    assert list(config["id2label"].values()) == ["O", *names]


def test_dora_goes_from_pretraining_to_finetuning(values: dict[str, Any]) -> None:
    changes = {"tuning": {"name": "lora", "rank": 2, "variant": "dora"}, "source_only": False}
    stages = [{"name": "pretrain", "head_steps": 1, "block_length": 32}, "finetune"]
    target = values["data"]["target"] | {"unlabelled": "unlabelled.jsonl"}
    result = run(recipe_from(values | changes | {"stages": stages, "data": values["data"] | {"target": target}}))
    assert (result.model / "adapter_config.json").is_file()


def test_misspelt_class_weights_are_refused(values: dict[str, Any]) -> None:
    task = {"name": "sentiment", "class_weights": {"postive": 3.0}}
    with pytest.raises(DataError, match="Did you mean 'positive'"):
        run(recipe_from(values | {"task": task}))


def test_a_target_that_names_no_layer_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="nosuch"):
        run(recipe_from(values | {"tuning": {"name": "lora", "targets": ["query", "nosuch"]}}))


def test_blocks_longer_than_the_model_are_refused(values: dict[str, Any]) -> None:
    target = values["data"]["target"] | {"unlabelled": "unlabelled.jsonl"}
    stages = [{"name": "pretrain", "block_length": 4096}, "finetune"]
    with pytest.raises(RecipeError, match="block_length"):
        run(recipe_from(values | {"stages": stages, "data": values["data"] | {"target": target}}))


def test_fresh_keeps_the_old_run_when_the_new_one_cannot_start(values: dict[str, Any]) -> None:
    first = run(recipe_from(values))
    broken = values | {"data": values["data"] | {"folder": "no/such/folder"}}
    with pytest.raises(DataError):
        run(recipe_from(broken), fresh=True)
    assert (first.folder / "metrics.json").is_file()
    again = run(recipe_from(values), fresh=True)
    assert again.metrics["scores"] == first.metrics["scores"]


def test_a_constant_rate_warms_up(tmp_path: Path) -> None:
    from nlp_transfer.arguments import training_arguments
    from nlp_transfer.hardware import Precision
    from nlp_transfer.recipe.schema import TrainSpec

    recipe = recipe_from(recipe_values(tmp_path, "x"))
    train = TrainSpec(schedule="constant", batch_size=4, learning_rate=1e-3)
    args = training_arguments(train, tmp_path, recipe, Precision(False, ""), None)
    assert str(args.lr_scheduler_type.value) == "constant_with_warmup"
    assert args.warmup_steps == 0.1


def test_one_entity_type_is_a_task() -> None:
    from nlp_transfer.recipe.schema import TaskSpec

    assert TaskSpec(name="ner", labels=["PER"]).labels == ["PER"]
    with pytest.raises(ValueError, match="at least two labels"):
        TaskSpec(name="classification", labels=["only"])


def test_evaluate_maps_raw_labels_as_training_did(values: dict[str, Any], tmp_path: Path) -> None:
    renamed = {"positive": "good", "negative": "bad"}
    result = run(recipe_from(values | {"task": {"name": "sentiment", "polarity": renamed}}))
    score = evaluate(result.folder, tmp_path / "data" / "test.jsonl")
    assert score.metrics["accuracy"] == result.metrics["scores"]["source-only"]["target.test"]["accuracy"]


def test_methods_see_the_vector_that_a_mean_pooling_head_reads() -> None:
    from nlp_transfer.tasks.classification import Classification

    task = Classification(["a", "b"])
    hidden = torch.arange(12.0).reshape(1, 3, 4)
    batch = {
        "attention_mask": torch.tensor([[1, 1, 0]]),
        "labels": torch.tensor([0]),
        "weight": torch.ones(1),
        "domain": torch.zeros(1),
    }
    assert task.units(hidden, torch.zeros(1, 2), batch)["features_UH"].tolist() == [[0.0, 1.0, 2.0, 3.0]]
    task.mean_pooling = True
    assert task.units(hidden, torch.zeros(1, 2), batch)["features_UH"].tolist() == [[2.0, 3.0, 4.0, 5.0]]


def test_a_check_of_a_recipe_on_an_adapter_writes_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    from nlp_transfer.checking import check

    first = run(recipe_from(values | {"tuning": "lora"}))
    recipe = recipe_from(second(values, first.folder, tmp_path / "second", tuning="lora"))
    check(recipe, data=True)
    assert not (tmp_path / "second").exists()
