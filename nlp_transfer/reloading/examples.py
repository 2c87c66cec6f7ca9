"""A few encoded texts with the logits that a model gave for them, kept beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel

from ..errors import RunError
from ..forward import predicting
from ..whole import write_text

EXAMPLES = "reload.json"
MOST = 4
"""Examples that are kept: a model that differs, differs on all of them."""

Example = dict[str, Any]
"""``input_ids`` (T numbers) and ``logits``: C numbers, of token tasks (T, C)."""


def examples_of(model: Any, texts: Sequence[Sequence[int]]) -> list[Example]:
    """Run a model over a few texts, each by itself and in fp32.

    Args:
        model: A model with a task head.
        texts: Token ids with special tokens; the first ones are taken.
    """
    found = []
    # Training in bf16 has wrapped the model's forward in autocast, which nothing around it switches off.
    model = extract_model_from_parallel(model, keep_fp32_wrapper=False)
    with torch.inference_mode(), predicting(model, autocast=False) as device:
        for ids in texts[:MOST]:
            batch_NT = torch.tensor([list(ids)], device=device)
            logits = model(input_ids=batch_NT, attention_mask=torch.ones_like(batch_NT)).logits[0]
            found.append({"input_ids": list(ids), "logits": logits.float().cpu().tolist()})
    return found


def write_examples(folder: Path, examples: list[Example]) -> None:
    """Write the examples into a folder."""
    write_text(folder / EXAMPLES, json.dumps(examples) + "\n")


def read_examples(folder: Path) -> list[Example]:
    """Read the examples of a folder.

    Raises:
        RunError: They are lost or damaged.
    """
    path = folder / EXAMPLES
    try:
        found: list[Example] = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise RunError(f"'{path}' cannot be read ({error}). Run the recipe again with --fresh.") from error
    return found
