"""What a method is: a module that turns a step into named loss terms."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..units import Step


class Method(torch.nn.Module):
    """Base class of adaptation methods.

    A subclass takes the feature sizes as its only positional argument; its keyword-only arguments are its settings
    in a recipe, documented and typed there and nowhere else. ``weight`` is one of them: the trainer multiplies the
    method's terms with it.

    Attributes:
        moves_features: The method works by changing features, so frozen features refuse it.
        needs_target: The method needs unlabelled target text.
        citation: Paper, as the model card shows it.
    """

    moves_features: ClassVar[bool] = True
    needs_target: ClassVar[bool] = True
    citation: ClassVar[str] = ""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return the raw (unweighted) loss terms of a step by name; their sum joins the loss.

        Args:
            step: Units of the joint batch of source and target.

        Returns:
            Scalars. Every trainable parameter of the method must take part in each step, or training over several
            processes stops with an error.
        """
        raise TypeError(f"{type(self).__name__} does not define terms()")

    def watch(self, step: Step) -> dict[str, float]:
        """Return numbers to log that are not losses, such as the accuracy of a discriminator."""
        return {}

    def learning_rate(self, base: float) -> float:
        """Return the learning rate of the method's own layers, given that of the encoder."""
        return base

    def advice(self, averages: dict[str, float]) -> str | None:
        """Look at the logged averages of the terms and the watched numbers; return a warning with advice, or None."""
        return None
