"""The answers that a run keeps in ``predictions/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .records import damaged, read_json_lines, rerun


def file_of(folder: Path, role: str, split: str) -> Path:
    """Return where a run keeps the answers of a model (``adapted``, ``source-only``) to a split."""
    return folder / "predictions" / f"{role}.{split}.jsonl"


def read_answers(folder: Path, role: str, split: str) -> list[dict[str, Any]]:
    """Return the scored rows of a split with gold and answer; see the README on ``predictions/``.

    Raises:
        RunError: The file is missing or damaged.
    """
    path = file_of(folder, role, split)
    rows = read_json_lines(path, rerun(folder), ["gold"])
    if any(not row.keys() & {"label", "labels", "words"} for row in rows):
        raise damaged(f"'{path}'", "a row has no answer (label, labels or words)", rerun(folder))
    return rows


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
    """Return what :func:`write_target` has kept: (D, U, C); None where there is nothing.

    Raises:
        RunError: The file is damaged.
    """
    path = _target_file(folder, role)
    if not path.is_file():
        return None
    try:
        return load_file(path)["probabilities"]
    except (OSError, KeyError, SafetensorError) as error:
        raise damaged(f"'{path}'", f"it is cut off or holds no probabilities ({error})", rerun(folder)) from error


def _target_file(folder: Path, role: str) -> Path:
    return folder / "predictions" / f"{role}.target.unlabelled.safetensors"
