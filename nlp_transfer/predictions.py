"""The answers that a run has written to ``predictions/``, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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
