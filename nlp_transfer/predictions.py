"""The answers that a run keeps in ``predictions/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def file_of(folder: Path, role: str, split: str) -> Path:
    """Return where a run keeps the answers of a model (``adapted``, ``source-only``) to a split."""
    return folder / "predictions" / f"{role}.{split}.jsonl"


def read_answers(folder: Path, role: str, split: str) -> list[dict[str, Any]]:
    """Return the scored rows of a split with gold and answer; see the README on ``predictions/``."""
    with file_of(folder, role, split).open(encoding="utf8") as lines:
        return [json.loads(line) for line in lines]


def answer_of(row: dict[str, Any]) -> Any:
    """Return the answer of a row in the form of its gold labels: a label, a list of labels, or a tag for each word."""
    if "words" in row:
        return [word["tag"] for word in row["words"]]
    return row["labels"] if "labels" in row else row["label"]


def write_target(folder: Path, role: str, probabilities_DUC: np.ndarray) -> None:
    """Keep the probabilities of units of unlabelled target text, for comparisons with other models."""
    path = _target_file(folder, role)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"probabilities": np.ascontiguousarray(probabilities_DUC, dtype=np.float32)}, path)


def read_target(folder: Path, role: str) -> np.ndarray | None:
    """Return what :func:`write_target` has kept: (D, U, C); None where there is nothing."""
    path = _target_file(folder, role)
    return load_file(path)["probabilities"] if path.is_file() else None


def _target_file(folder: Path, role: str) -> Path:
    return folder / "predictions" / f"{role}.target.unlabelled.safetensors"
