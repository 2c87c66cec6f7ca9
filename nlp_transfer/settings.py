"""What prediction needs beside a model, and plain Hugging Face files do not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .data.label_map import LabelMap
from .data.windows import Limits
from .errors import ModelError
from .model_files import read_object
from .tasks.base import Task
from .tasks.classification import Classification, MultiLabel
from .tasks.ner import Ner

SETTINGS = "nlp_transfer.json"
SHORTEST = 8
"""Fewest tokens in a window, as in recipes: with fewer there is hardly room beside the special tokens."""


def write_settings(
    folder: Path, task: Task, limits: Limits, polarity: LabelMap | None = None, label_map: LabelMap | None = None
) -> None:
    """Write them beside a model."""
    values = {
        "task": task.name,
        "multi_label": isinstance(task, MultiLabel),
        "limits": {"max_length": limits.max_length, "stride": limits.stride, "truncate": limits.truncate},
        **({} if polarity is None else {"polarity": polarity}),
        **({} if label_map is None else {"label_map": label_map}),
        **task.settings(),
    }
    (folder / SETTINGS).write_text(json.dumps(values, indent=2) + "\n", encoding="utf8")


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`write_settings` wrote, or None where there is nothing.

    Raises:
        ModelError: It is damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    values = read_object(path)
    if not isinstance(values.get("task"), str):
        raise ModelError(f"'{path}' is damaged: it names no task. Restore the folder that it lies in.")
    return values


def task_of(settings: dict[str, Any], labels: list[str], model_id: str) -> Task:
    """Return the task of a model.

    Args:
        settings: As :func:`write_settings` writes them.
        labels: Label names in the order of the logits.
        model_id: What a message calls the model.

    Raises:
        ModelError: The labels of a token classifier are no IOB2 tags.
    """
    if settings["task"] == "ner":
        _check_tags(model_id, labels)
        return Ner(labels)
    if settings.get("multi_label"):
        thresholds = settings.get("thresholds", {})
        return MultiLabel(labels, [thresholds.get(label, 0.5) for label in labels])
    return Classification(labels)


def limits_of(settings: dict[str, Any], longest: int, wanted: int | None, model_id: str) -> Limits:
    """Return how texts are cut for a model.

    Args:
        settings: As :func:`write_settings` writes them.
        longest: Tokens that the model can read at once.
        wanted: Tokens in a window; by default as in training, else what the model can read (at most 512).
        model_id: What a message calls the model.

    Raises:
        ModelError: The model cannot read as many tokens as are wanted, or they are too few to read with.
    """
    limits = Limits(**settings["limits"]) if "limits" in settings else Limits(min(512, longest))
    if wanted is None:
        return limits
    if wanted < SHORTEST:
        raise ModelError(f"max_length {wanted} is too small for '{model_id}': take {SHORTEST} to {longest} tokens.")
    if wanted > longest:
        raise ModelError(f"max_length {wanted} is more than the {longest} tokens that '{model_id}' can read.")
    return Limits(wanted, limits.stride, limits.truncate)


def _check_tags(model_id: str, labels: list[str]) -> None:
    """Refuse label names that are no IOB2 tags: decoding them as such would answer ``O`` everywhere."""
    kinds = {label[2:] for label in labels if label != "O"}
    if set(labels) != {"O", *(f"{side}-{kind}" for kind in kinds for side in "BI")}:
        raise ModelError(
            f"model '{model_id}' is a token classifier whose labels {labels[:6]} are no IOB2 tags ('O', and 'B-…' "
            "with 'I-…' of each entity type), so its entities cannot be read off."
        )
