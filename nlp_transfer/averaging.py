"""Averages of the weights over training steps: steadier than the last weights, and often flatter minima.

The running average θ̄ moves towards the weights θ after each optimizer step, θ̄ ← θ̄ + r · (θ − θ̄). With a rate r that
follows from the step alone, nothing but θ̄ has to be kept in a checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .recipe.schema import AverageSpec

AVERAGE_FILE = "_average.safetensors"


def ema_rate(step: int, decay: float) -> float:
    """Return the rate of an exponential moving average without the pull of its beginning.

    ``(1 − d) / (1 − d^t)`` gives θ̄_t = Σ_k d^(t−k) θ_k / Σ_k d^(t−k), the bias correction of Adam (Kingma and Ba 2015,
    arXiv 1412.6980, section 3): the first average is the weights themselves.

    Args:
        step: t, from 1.
        decay: d, from 0 to 1.
    """
    return float((1.0 - decay) / (1.0 - decay**step))


def swa_rate(step: int, steps: int, begin: float) -> float:
    """Return the rate of a plain mean over the last steps (Izmailov et al. 2018, arXiv 1803.05407): 1 / n for the n-th.

    Args:
        step: Optimizer steps that are done.
        steps: Optimizer steps of the whole training.
        begin: Share of the steps that is left out.

    Returns:
        0 before the first step that counts.
    """
    number = step - int(begin * steps)
    return 1.0 / number if number > 0 else 0.0


class WeightAverage:
    """The running average of a model's trained weights; method layers are left out, as they are not kept.

    Args:
        spec: Which average.

    Attributes:
        values: Averages by parameter name; empty until the first step that counts.
    """

    def __init__(self, spec: AverageSpec):
        self.spec = spec
        self.values: dict[str, torch.Tensor] = {}

    def update(self, model: Any, step: int, steps: int) -> None:
        """Take in the weights after an optimizer step.

        Args:
            model: The model that is trained.
            step: Optimizer steps that are done, this one included.
            steps: Optimizer steps of the whole training.
        """
        spec = self.spec
        if spec.name == "ema":
            assert spec.decay is not None
            rate = ema_rate(step, spec.decay)
        else:
            assert spec.begin is not None
            rate = swa_rate(step, steps, spec.begin)
        if rate == 0.0:
            return
        for name, parameter in _trained(model):
            if name in self.values:
                self.values[name].lerp_(parameter.detach(), rate)
            else:
                self.values[name] = parameter.detach().clone()

    @contextlib.contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """Let the model have the averaged weights inside the block; its own come back bit for bit."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def _swap(self, model: Any) -> None:
        for name, parameter in _trained(model):
            if name in self.values:
                parameter.data, self.values[name] = self.values[name], parameter.data

    def take(self, model: Any) -> None:
        """Give the model the averaged weights for good."""
        with torch.no_grad():
            for name, parameter in _trained(model):
                if name in self.values:
                    parameter.copy_(self.values[name])

    def save(self, folder: Path) -> None:
        """Write the averages beside a checkpoint, once there are any."""
        if self.values:
            save_file({name: value.contiguous() for name, value in self.values.items()}, folder / AVERAGE_FILE)

    def load(self, folder: Path, device: torch.device) -> None:
        """Read the averages of a checkpoint; one from before the first step that counts has none."""
        path = folder / AVERAGE_FILE
        # Under several processes a CPU is called cpu:0, which safetensors does not know.
        self.values = {name: value.to(device) for name, value in load_file(path).items()} if path.is_file() else {}


def _trained(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith("adaptation."):
            yield name, parameter
