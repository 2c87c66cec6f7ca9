"""Steps of a few units with labels, logits and features, to try a method on without a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from nlp_transfer.methods.base import Method
from nlp_transfer.parts import METHODS
from nlp_transfer.units import UNKNOWN, Sizes, Step

ALIGNING = ["dann", "cdan", "mmd", "coral", "mcc"]
"""Methods that need nothing of a step but its units."""

SIZES = {False: Sizes(hidden=6, labels=3), True: Sizes(hidden=6, labels=3, multi_label=True)}


def make_step(source: int = 7, target: int = 9, multi_label: bool = False, seed: int = 0, shift: float = 1.0) -> Step:
    draw = torch.Generator().manual_seed(seed)
    units = source + target
    domain = torch.tensor([0] * source + [1] * target)
    features = torch.randn(units, 6, generator=draw) + shift * domain[:, None]
    if multi_label:
        labels = torch.randint(0, 2, (units, 3), generator=draw).float()
    else:
        labels = torch.randint(0, 3, (units,), generator=draw)
    labels[domain == 1] = UNKNOWN
    logits = torch.randn(units, 3, generator=draw) * 2
    ones = torch.ones(units)
    return Step(features.requires_grad_(), logits.requires_grad_(), labels, ones, domain, 0.5, torch.nn.Identity())


def term(method: Method, step: Step) -> torch.Tensor:
    (value,) = method.terms(step).values()
    return value


def built(name: str, multi_label: bool = False, **settings: Any) -> Method:
    torch.manual_seed(1)
    return METHODS[name](SIZES[multi_label], **settings)  # type: ignore[call-arg, arg-type]


def numpy_of(step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = [value.detach().double().numpy() for value in (step.features_UH, step.logits_UC, step.labels_U)]
    return values[0], values[1], values[2]


def softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def assert_differentiable_zero(method: Method, step: Step) -> None:
    value = term(method, step)
    assert value.item() == 0.0
    value.backward()
    for tensor in (step.features_UH, step.logits_UC, *method.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()
    assert all(math.isfinite(number) for number in method.watch(step).values())
