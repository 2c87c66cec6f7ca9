"""Fingerprints: what a stage's result follows from, so that nothing made from something else is taken for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .finding import ResolvedModel
from .hashing import file_sha256
from .recipe.schema import Recipe

_MODEL_FILES = {".safetensors", ".onnx", ".data", ".json", ".txt", ".model"}
"""Suffixes; the weights of an ONNX graph lie in ``model.onnx.data`` where they are large."""


def identity(source: ResolvedModel) -> str:
    """Return what tells one model from another under the same name: a commit, or a hash of the files."""
    return source.commit if source.commit is not None and source.adapter is None else contents(source)


def contents(source: ResolvedModel) -> str:
    """Hash all files of a model that its answers follow from: weights, configuration, tokenizer, labels, limits.

    Unlike :func:`identity` it reads the files of a hub model, too.
    """
    return _hash_of([source.folder, *([] if source.adapter is None else [source.adapter])])


def answering(found: Path | ResolvedModel) -> str:
    """Hash all files of what :func:`~nlp_transfer.inference.find` has found: exports, too, which are no base model."""
    return _hash_of([found]) if isinstance(found, Path) else contents(found)


def _hash_of(folders: Sequence[Path]) -> str:
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES]
    return hashlib.sha256(" ".join(f"{path.name} {file_sha256(path)}" for path in files).encode()).hexdigest()


def stage_fingerprint(recipe: Recipe, base: str, settings: Any, fingerprints: dict[str, str], before: str) -> str:
    """Hash everything that determines a stage's result: weights, settings, data, seed, tuning, the stages before it."""
    values = {
        "model": [recipe.model.model_dump(), base],
        "task": recipe.task.model_dump(),
        "tuning": recipe.tuning.model_dump(),
        "limits": [recipe.data.max_length, recipe.data.stride, recipe.data.long_texts],
        "seed": recipe.seed,
        "settings": settings,
        "data": fingerprints,
        "before": before,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
