"""Padding rows into tensors, and stacking source and target rows into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..marks import TARGET, UNKNOWN
from .padding import padded


def pad_tokens(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad token ids on the right to the longest row.

    Args:
        rows: N rows of token ids.
        pad_id: Id of the padding token.

    Returns:
        ``input_ids`` and ``attention_mask``, both (N, T).
    """
    ids_NT, mask_NT = padded(rows, pad_id)
    return {"input_ids": torch.from_numpy(ids_NT), "attention_mask": torch.from_numpy(mask_NT)}


class PairCollator:
    """Stack source and target rows into one padded batch.

    Args:
        pad_id: Id of the padding token.
    """

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch: sources first, then targets, then source text, then masked copies.

        Args:
            items: Mappings with ``source`` and, where there are such, ``target``, ``text`` and ``masked``; each holds
                ``input_ids``, and ``label`` (text tasks) or ``units`` and ``unit_labels`` (token tasks, masked copies);
                tasks give a ``weight`` too, soft pseudo-labels ``soft``, (C,) a text or a row (C,) for each of the
                units, and a twin ``teacher``, its logits of the units. Of several domains, a ``source`` and a ``text``
                have their ``origin``, which is ``TARGET`` for a labelled target row.

        Returns:
            ``input_ids``, ``attention_mask`` (N + K, T), ``domain``, ``weight`` and ``origin`` (N,), and ``labels``
            (N,) or (N, C) for text tasks, ``labels`` and ``units`` (N, T) for token tasks. Labels of target rows are
            ``UNKNOWN`` but for pseudo-labels. ``soft``, (N, C) or (N, T, C), where a row has it; zeros elsewhere.
            ``teacher`` (U, C) in the order of the units. Of the K masked copies ``masked_units`` and
            ``masked_labels``, both (K, T); nothing else knows of them.
        """
        slots = {"source": [item["source"] for item in items]}
        slots |= {slot: [item[slot] for item in items if slot in item] for slot in ("target", "text")}
        rows = [row for of_slot in slots.values() for row in of_slot]
        masked = [item["masked"] for item in items if "masked" in item]
        batch = pad_tokens([row["input_ids"] for row in rows + masked], self.pad_id)
        tokens = batch["input_ids"].shape[1]
        origins = [
            row.get("origin", TARGET if slot == "target" else 0) for slot, of_slot in slots.items() for row in of_slot
        ]
        batch["domain"] = torch.tensor([int(origin == TARGET) for origin in origins])
        if "origin" in rows[0]:
            batch["origin"] = torch.tensor(origins)
        if "units" in rows[0]:
            batch.update(_token_labels(rows, tokens))
        elif "label" in rows[0]:
            batch["labels"] = torch.from_numpy(np.stack([row["label"] for row in rows]))
        if "weight" in rows[0]:
            batch["weight"] = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
        if any("soft" in row for row in rows):
            batch["soft"] = _soft_labels(rows, tokens)
        if "teacher" in rows[0]:
            teacher = [row["teacher"].reshape(-1, row["teacher"].shape[-1]) for row in rows]
            batch["teacher"] = torch.from_numpy(np.concatenate(teacher))
        if masked:
            batch.update({f"masked_{key}": value for key, value in _token_labels(masked, tokens).items()})
        return batch


def _token_labels(rows: Sequence[dict[str, Any]], tokens: int) -> dict[str, torch.Tensor]:
    shape = (len(rows), tokens)
    labels_NT = torch.full(shape, UNKNOWN, dtype=torch.int64)
    units_NT = torch.zeros(shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        positions = torch.as_tensor(row["units"])
        labels_NT[number, positions] = torch.as_tensor(row["unit_labels"])
        units_NT[number, positions] = True
    return {"labels": labels_NT, "units": units_NT}


def some_rows(batch: dict[str, torch.Tensor], which_N: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return some rows of a batch of :class:`PairCollator`, without the padding that only other rows needed.

    Args:
        batch: The batch.
        which_N: Booleans.
    """
    rows = {key: value[which_N] for key, value in batch.items()}
    longest = int(rows["attention_mask"].sum(-1).max())
    tokenwise = {"input_ids", "attention_mask"} | ({"units", "labels", "soft"} if "units" in batch else set())
    return {key: value[:, :longest] if key in tokenwise else value for key, value in rows.items()}


def _soft_labels(rows: Sequence[dict[str, Any]], tokens: int) -> torch.Tensor:
    count = next(row["soft"].shape[-1] for row in rows if "soft" in row)
    soft = torch.zeros((len(rows), tokens, count) if "units" in rows[0] else (len(rows), count))
    for number, row in enumerate(rows):
        if "soft" in row:
            place = (number, torch.as_tensor(row["units"])) if "units" in row else number
            soft[place] = torch.from_numpy(row["soft"])
    return soft
