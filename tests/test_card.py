"""The model card claims what the run did, and no more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import recipe_data

from nlp_transfer.card import card_text
from nlp_transfer.models import ResolvedModel
from nlp_transfer.parts import METHODS, recipe_from
from nlp_transfer.recipe import resolve
from nlp_transfer.selecting import told
from nlp_transfer.stages.base import StageResult

ADAPTED, FAR = "adapted to a target domain", "trained without any text of a target domain"
INTERVAL = {"interval": {"value": 0.5, "low": 0.4, "high": 0.6}}


def card(kept: str = "adapted", splits: tuple[str, ...] = ("source.dev", "target.test"), **changes: Any) -> str:
    """The card of a run that was never made, on one line."""
    model, base = changes.pop("model", "some/model"), changes.pop("base", "some/model")
    values = recipe_data(Path("run"), Path("x"), source_only=True, **changes) | {"model": model}
    values["data"]["target"]["train"] = "memory"
    recipe = resolve(recipe_from(values))
    task = SimpleNamespace(labels=["bad", "good"], auto_class="AutoModelForSequenceClassification")
    data = SimpleNamespace(sources=[None])
    place = ResolvedModel(base, None, Path(base))
    space: Any = SimpleNamespace(recipe=recipe, methods=METHODS, task=task, base=place, splits=data)
    metrics = {
        "headline": "accuracy",
        "confidence": 0.95,
        "selection": told(recipe.selection.name),
        "kept": kept,
        "scores": {role: dict.fromkeys(splits, INTERVAL) for role in ("adapted", "source-only")},
    }
    record = {"data": {}, "versions": {}}
    return " ".join(card_text(space, metrics, record, {"finetune": StageResult(Path("x"))}).split())


def pretrain(**settings: Any) -> list[Any]:
    return [{"name": "pretrain", **settings}, "finetune"]


CORPUS = {"path": "more.txt"}
MODEL = {"id": "some/model", "extend_vocabulary": {"tokens": 5}}


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        (FAR, {"methods": ("l2sp",)}),
        (FAR, {"stages": pretrain(text="source")}),
        (FAR, {"stages": pretrain(corpus=CORPUS)}),
        (FAR, {"stages": pretrain(corpus=CORPUS | {"choose": {"share": 0.5, "like": "source"}})}),
        (ADAPTED, {"stages": pretrain(corpus=CORPUS | {"choose": {"share": 0.5}})}),
        (ADAPTED, {"stages": pretrain()}),
        (ADAPTED, {"stages": pretrain(text="both")}),
        (ADAPTED, {"stages": pretrain(text="source"), "model": MODEL}),
        (ADAPTED, {"stages": ["finetune", "self_train"]}),
        (ADAPTED, {"methods": ("l2sp", "anchor")}),
        (ADAPTED, {"methods": ("l2sp",), "selection": "bnm"}),
        (ADAPTED, {"methods": ("l2sp",), "stages": [{"name": "finetune", "on": "both"}]}),
    ],
)
def test_only_what_read_target_text_is_called_adapted(claim: str, changes: dict[str, Any]) -> None:
    text = card(**changes)
    assert claim in text
    assert ({ADAPTED, FAR} - {claim}).pop() not in text


def test_a_twin_that_was_kept_is_not_given_the_making_of_the_other_model() -> None:
    text = card("source-only", methods=("dann",))
    assert "trained on the source domain only; the adapted model was not kept" in text
    assert "`model/` was fine-tuned on labelled rows alone." in text
    assert "fine-tuned on labelled rows alone" not in card(methods=("dann",))


def test_checkpoints_are_told_apart_where_different_scores_chose_them() -> None:
    assert "The checkpoint was selected on source dev; target labels were used for the final" in card(methods=("dann",))
    assert (
        "The adapted model's checkpoint was selected on bnm of unlabelled target text, the source-only model's on "
        "source dev; target labels"
    ) in card(methods=("dann",), selection="bnm")


def test_target_labels_are_mentioned_only_where_there_were_any() -> None:
    text = card(splits=("source.dev",), methods=("dann",))
    assert "selected on source dev; no target labels were used." in text


def test_an_adapter_of_a_local_model_says_what_it_needs() -> None:
    assert "num_labels=2)`." in card(tuning="lora")
    local = card(tuning="lora", base=str(Path(__file__).parent))
    assert "num_labels=2)`, with its base model at the path that `adapter_config.json` names." in local
    assert "base model at" not in card(base=str(Path(__file__).parent))


def test_self_training_without_class_balance_is_not_called_class_balanced() -> None:
    plain = {"name": "self_train", "class_balanced": False}
    assert "self-training: without class balance; after Zou et al." in card(stages=["finetune", plain])
    assert "self-training: Zou et al." in card(stages=["finetune", "self_train"])
