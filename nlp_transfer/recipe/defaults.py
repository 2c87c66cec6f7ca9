"""Defaults that depend on other settings, filled in: a resolved recipe shows every number it trains with."""

from __future__ import annotations

from typing import Any

from .pretraining import OBJECTIVE_DEFAULTS
from .schema import Recipe, TrainSpec
from .trust import GuardSpec

# Adapters and heads start from nothing and bear (and need) higher rates than pretrained weights.
LEARNING_RATES = {"full": 5e-5, "lora": 5e-4, "frozen": 5e-3, "top_layers": 1e-4}
PRETRAIN_RATES = {"mlm": 1e-4, "tsdae": 3e-5, "simcse": 3e-5}
PRETRAIN_ADAPTER_RATES = {"mlm": 5e-4, "tsdae": 3e-4, "simcse": 3e-4}
EPOCHS = 3.0
BATCH_SIZE = 16
# Only the head learns under a frozen encoder: many cheap passes, larger batches.
FROZEN_EPOCHS = 20.0
FROZEN_BATCH_SIZE = 64
# The rest of the batch are the negatives.
CONTRAST_BATCH_SIZE = 64
PACKED_BLOCK = 128
# A round of self-training starts from a trained model: a short pass that does not throw it off.
ROUND_EPOCHS = 1.0
FROZEN_ROUND_EPOCHS = 5.0
ROUND_RATE = 0.5
ROUND_KEYS = ("epochs", "max_steps", "learning_rate", "head_learning_rate")


def resolve(recipe: Recipe) -> Recipe:
    """Fill in every default that follows from the recipe alone.

    A stage's ``train`` becomes its complete settings: the recipe's ``train`` with the stage's own over it,
    and the defaults of the stage and tuning for what neither says. Resolving twice changes nothing. What
    depends on data or model (``max_length``, ``head_steps``) stays open.

    Args:
        recipe: A valid recipe; it is left as it is.

    Returns:
        The resolved recipe; dumped and loaded again, it is the same.
    """
    data = recipe.model_dump()
    if data["output"] is None:
        data["output"] = f"runs/{recipe.name}"
    tuning = recipe.tuning.name
    for stage in data["stages"]:
        if stage["name"] == "soup":
            continue
        if stage["name"] == "self_train":
            stage["train"] = _filled({**data["train"], **_round_defaults(data["stages"], stage, tuning)}, tuning)
            if stage["class_balanced"] is None:
                stage["class_balanced"] = stage["select"] == "top_share" or recipe.task.name == "ner"
            continue
        own = _own_length(stage["train"]) | stage["train"]
        stage["train"] = _filled(data["train"] | own, tuning, stage.get("objective"))
        if stage["name"] == "pretrain":
            _fill_pretraining(stage, data["data"]["max_length"])
    data["train"] = _filled(data["train"], tuning)
    compares = recipe.adapts and recipe.source_only and recipe.data.target.has_text
    if data["guard"] is None:
        data["guard"] = compares
    if data["guard"] is True:
        data["guard"] = GuardSpec().model_dump()
    return Recipe.model_validate(data)


def _round_defaults(stages: list[dict[str, Any]], stage: dict[str, Any], tuning: str) -> dict[str, Any]:
    """Return what a round of self-training does not take from the recipe's ``train``: its length and its rates."""
    before: dict[str, Any] = next((other["train"] for other in reversed(stages) if other["name"] == "finetune"), {})
    own = {key: value for key, value in stage["train"].items() if value is not None or key not in ROUND_KEYS}
    if stage["restart"]:
        filled = {key: before.get(key) for key in ROUND_KEYS}
    else:
        filled = {key: before[key] * ROUND_RATE for key in ROUND_KEYS[2:] if before.get(key) is not None}
        filled |= {"epochs": FROZEN_ROUND_EPOCHS if tuning == "frozen" else ROUND_EPOCHS, "max_steps": None}
    # What the stage says itself wins over what would go with it.
    filled |= {"head_learning_rate": None} if "learning_rate" in own else {}
    return filled | _own_length(own) | own


def _own_length(own: dict[str, Any]) -> dict[str, Any]:
    """Return what makes way for a stage's own epochs: the recipe's ``max_steps`` would win over them."""
    return {"max_steps": None} if own.get("epochs") is not None else {}


def _fill_pretraining(stage: dict[str, Any], longest: int | None) -> None:
    if stage["text"] is None and stage["corpus"] is None:
        stage["text"] = "target"
    if stage["block_length"] is None and longest is not None:
        stage["block_length"] = max(16, min(longest, PACKED_BLOCK))
    for key, value in OBJECTIVE_DEFAULTS[stage["objective"]].items():
        stage[key] = value if stage[key] is None else stage[key]


def _filled(train: dict[str, Any], tuning: str, objective: str | None = None) -> dict[str, Any]:
    """Return complete training settings of a stage; a pretrain stage has an objective."""
    frozen = objective is None and tuning == "frozen"
    batch_size = CONTRAST_BATCH_SIZE if objective == "simcse" else BATCH_SIZE
    defaults = {
        "epochs": FROZEN_EPOCHS if frozen else EPOCHS,
        "batch_size": FROZEN_BATCH_SIZE if frozen else batch_size,
        "learning_rate": _learning_rate(tuning, objective),
    }
    filled = {key: defaults.get(key) if value is None else value for key, value in train.items()}
    if filled["head_learning_rate"] is None:
        filled["head_learning_rate"] = filled["learning_rate"]
    return TrainSpec.model_validate(filled).model_dump()


def _learning_rate(tuning: str, objective: str | None) -> float:
    if objective is None:
        return LEARNING_RATES.get(tuning, LEARNING_RATES["full"])
    return (PRETRAIN_ADAPTER_RATES if tuning == "lora" else PRETRAIN_RATES)[objective]
