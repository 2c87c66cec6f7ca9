"""A student that begins as some of its teacher's layers (Sanh et al. 2019, DistilBERT, arXiv 1910.01108)."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import finding, models
from ..errors import ModelError
from ..predictor import Predictor


def spread(total: int, count: int) -> list[int]:
    """Return the layers that are kept: the first, the last, and others at even distances (of 12, 6: 0 2 4 7 9 11).

    Args:
        total: Number of layers.
        count: How many are kept, at least 1.
    """
    return [int(number) for number in np.round(np.linspace(0, total - 1, count))]


def write_student(teacher: Predictor, count: int | None, parent: Path) -> Path:
    """Write a model of some of the teacher's layers, with its embeddings and head; one that is there is kept.

    Args:
        teacher: The teacher, adapters merged.
        count: Number of layers; by default half of them.
        parent: Folder that it gets a folder in.

    Returns:
        The model's folder.

    Raises:
        ModelError: The teacher has no more than so many layers, or its layers cannot be taken apart.
    """
    model = copy.deepcopy(teacher.model).cpu()
    layers = models.encoder_layers(model)
    total = model.config.num_hidden_layers
    count = max(1, total // 2) if count is None else count
    if not 1 <= count < total:
        raise ModelError(f"the student must have from 1 to {total - 1} layers: the teacher has {total}.")
    if len(layers) != total:
        raise ModelError(f"a '{model.config.model_type}' shares its layers, so none can be left out. Name a model.")
    kept = spread(total, count)
    folder = parent / f"layers-{'-'.join(map(str, kept))}"
    if folder.is_dir():
        return folder
    holder = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and list(part) == layers)
    for number in reversed(range(total)):
        if number not in kept:
            del holder[number]
    model.config.num_hidden_layers = count
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with models.quiet():
        model.save_pretrained(part)
        models.save_tokenizer(teacher.tokenizer, part)
    _check(model, teacher, part)
    part.rename(folder)
    return folder


@torch.inference_mode()
def _check(model: Any, teacher: Predictor, folder: Path) -> None:
    """Refuse architectures whose layers do their work by their number, such as ModernBERT's local attention."""
    source = finding.ResolvedModel(str(folder), None, folder)
    again = models.load_model(teacher.task.auto_class, source, models.read_config(source)).model.eval()
    batch = {"input_ids": torch.arange(8).unsqueeze(0), "attention_mask": torch.ones((1, 8), dtype=torch.int64)}
    if not torch.allclose(model.eval()(**batch).logits, again(**batch).logits, atol=1e-4):
        shutil.rmtree(folder)
        raise ModelError(f"a '{model.config.model_type}' cannot go without some of its layers. Name a model instead.")
