"""Task heads by label: rows of the output layer are kept where labels are shared, and fresh where they are new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .errors import listing
from .models import Loaded, encoder_prefix


@dataclass(frozen=True)
class HeadChange:
    """What becomes of a head when its labels change.

    Args:
        kept: Labels whose rows stay, in their new order.
        new: Labels whose rows are fresh.
        gone: Labels whose rows are left out.
    """

    kept: list[str]
    new: list[str]
    gone: list[str]

    def __str__(self) -> str:
        if not self.kept:
            return "the model's head is for other labels; it starts anew."
        told = [f"the model's head keeps its rows of {listing(self.kept)}"]
        told += [f"those of {listing(self.new)} are fresh"] if self.new else []
        told += [f"those of {listing(self.gone)} are left out"] if self.gone else []
        return f"{'; '.join(told)}."


def head_change(old: Sequence[str], new: Sequence[str]) -> HeadChange:
    """Compare the labels of a head with those it is to have (tags, for words)."""
    return HeadChange(
        [label for label in new if label in old],
        [label for label in new if label not in old],
        [label for label in old if label not in new],
    )


def with_labels(loaded: Loaded, old: Sequence[str], new: Sequence[str]) -> Loaded:
    """Give a trained head other labels: rows are found again by name, those of new labels are fresh.

    Args:
        loaded: A model whose output layer has a row for each of ``old``.
        old: Its labels.
        new: The labels it is to have, some of ``old`` among them.
    """
    model = loaded.model
    name, layer = _output_layer(model, len(old))
    rows = torch.nn.Linear(layer.in_features, len(new), bias=layer.bias is not None)
    _start(rows, model.config)
    with torch.no_grad():
        for number, label in enumerate(new):
            if label in old:
                rows.weight[number] = layer.weight[old.index(label)]
                if layer.bias is not None:
                    rows.bias[number] = layer.bias[old.index(label)]
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, rows)
    model.config.id2label = dict(enumerate(new))
    model.config.label2id = {label: number for number, label in enumerate(new)}
    model.num_labels = len(new)
    return loaded


def renew_head(loaded: Loaded) -> Loaded:
    """Give a model a random head: linear layers outside the encoder start anew, as in a fresh model."""
    fresh = set(loaded.fresh)
    for name, module in _linear_layers(loaded.model):
        _start(module, loaded.model.config)
        fresh |= {f"{name}.{key}" for key, _ in module.named_parameters()}
    return replace(loaded, fresh=frozenset(fresh))


def _start(layer: torch.nn.Linear, config: Any) -> None:
    """Draw a layer's weights as a fresh model draws them."""
    torch.nn.init.normal_(layer.weight, std=getattr(config, "initializer_range", 0.02))
    if layer.bias is not None:
        torch.nn.init.zeros_(layer.bias)


def _linear_layers(model: Any) -> list[tuple[str, torch.nn.Linear]]:
    """Return the linear layers outside the encoder, by name."""
    inside = encoder_prefix(model)
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(inside)
    ]


def _output_layer(model: Any, labels: int) -> tuple[str, torch.nn.Linear]:
    """Return the layer that gives the logits: the last of them."""
    return [(name, layer) for name, layer in _linear_layers(model) if layer.out_features == labels][-1]
