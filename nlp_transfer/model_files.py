"""The small JSON files that lie beside a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
"""What PEFT says of an adapter."""


def has_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_object(path: Path) -> dict[str, Any]:
    """Return what a file holds that is one JSON object.

    Raises:
        ModelError: It is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"'{path}' is damaged: {error}. Restore the folder that it lies in.") from error
    if not isinstance(values, dict):
        raise ModelError(f"'{path}' is damaged: it holds no JSON object. Restore the folder that it lies in.")
    return values


def labels_in(config: Mapping[str, Any]) -> list[str]:
    """Return the labels of a head in the order of its logits, by the content of its ``config.json``."""
    # Two labels with the library's own names are left out of config.json.
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return [names[key] for key in sorted(names, key=int)]


def label_config(labels: Sequence[str]) -> dict[str, Any]:
    """Return what a configuration says of a head for some labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
