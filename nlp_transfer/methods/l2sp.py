"""Weight decay towards the starting point (Li, Grandvalet and Davoine 2018, arXiv 1802.01483).

Their penalty L²-SP is Ω(w) = α/2 · ‖w_S − w_S⁰‖² + β/2 · ‖w_S̄‖², where w_S are the weights that go on from the
pretrained model, w_S⁰ their values when training begins, and w_S̄ the weights of the new head.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from ..models import encoder_of
from ..units import Sizes, Step
from .base import Method


class L2sp(Method):
    """Hold the encoder near the weights it starts from, so that fine-tuning forgets less.

    The norms are sums over weights, as in the paper: the pull on one weight is α times its distance from the start,
    whatever the size of the encoder, so one α serves encoders of any size. Only weights that are trained count. Under
    LoRA the encoder's weights are its adapters, held at the values they begin with, be it after a pretrain stage. The
    pooler counts as a part of the head. ``train.weight_decay`` pulls all of them towards 0 besides; set it to 0 to
    have the paper's penalty alone.

    Args:
        sizes: Feature sizes; not needed.
        alpha: α, the pull of the encoder towards its start; 0.01 to 1 are worth a try.
        beta: β, the pull of the head towards 0.
        shared: ``weight``, ``schedule`` and ``begin`` of every method.
    """

    needs_target = False
    compares_domains = False
    citation = "Li et al. 2018, Explicit Inductive Bias for Transfer Learning, arXiv 1802.01483"

    def __init__(
        self,
        sizes: Sizes,
        *,
        alpha: Annotated[float, Field(ge=0)] = 0.1,
        beta: Annotated[float, Field(ge=0)] = 0.01,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.alpha = alpha
        self.beta = beta
        # Plain lists: registered, they would be saved, optimized and synchronised as weights of the method.
        self._encoder: list[torch.nn.Parameter] = []
        self._start: list[torch.Tensor] = []
        self._head: list[torch.nn.Parameter] = []

    def attach(self, model: Any) -> None:
        """Remember the starting weights.

        They are in no checkpoint: a resumed run builds the very same starting model before it reads its weights.
        """
        named = encoder_of(model).named_parameters()
        inside = {id(parameter) for name, parameter in named if "pooler" not in name.split(".")}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._encoder = [parameter for parameter in trained if id(parameter) in inside]
        self._head = [parameter for parameter in trained if id(parameter) not in inside]
        self._start = [parameter.detach().clone() for parameter in self._encoder]

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"start": α/2 · ‖w_S − w_S⁰‖², "head": β/2 · ‖w_S̄‖²}``."""
        # A no-op but for the first step on a GPU: the trainer moves the model after it was attached.
        self._start = [start.to(own.device) for start, own in zip(self._start, self._encoder, strict=True)]
        nothing = step.logits_UC.new_zeros(())
        # mse_loss keeps no tensor of differences for the backward pass.
        distances = [
            torch.nn.functional.mse_loss(own, start, reduction="sum")
            for own, start in zip(self._encoder, self._start, strict=True)
        ]
        norms = [own.square().sum() for own in self._head]
        return {
            "start": self.alpha / 2 * sum(distances, nothing),
            "head": self.beta / 2 * sum(norms, nothing),
        }
