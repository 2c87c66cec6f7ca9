"""Masked language modelling with the vocabulary head at masked positions only.

The stock models run their H × V head on every position; for a small encoder that is half of all arithmetic, and the
logits are the largest tensor of the step. A forward hook behind the encoder keeps masked positions only, so that the
head sees one "sentence" of M masked tokens. It works for every architecture, through DDP and PEFT, because the model
is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from transformers.modeling_outputs import BaseModelOutput

from ..models import has_tied_decoder


class MaskedPositions:
    """Forward hook that gathers the hidden states of chosen tokens: (N, T, H) becomes (1, M, H).

    Attributes:
        units_NT: Which tokens, as booleans; None leaves the output alone.
    """

    def __init__(self) -> None:
        self.units_NT: torch.Tensor | None = None

    def __call__(self, module: Any, inputs: Any, output: Any) -> Any:
        """Narrow ``last_hidden_state`` of the encoder's output."""
        if self.units_NT is None:
            return output
        hidden_1MH = output[0][self.units_NT].unsqueeze(0)
        if isinstance(output, tuple):
            return (hidden_1MH, *output[1:])
        output["last_hidden_state"] = hidden_1MH
        return output


def freeze_unread(parameters: Iterable[torch.nn.Parameter], output: torch.Tensor) -> None:
    """Freeze the parameters that an output does not depend on: untied heads keep a bias that nothing reads.

    Where several processes train, every trained parameter must take part in each step.

    Args:
        parameters: Parameters; those that are frozen stay so.
        output: What was computed with them.
    """
    read = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter, gradient in zip(read, torch.autograd.grad(output.sum(), read, allow_unused=True), strict=True):
        parameter.requires_grad = gradient is not None


class _GivenStates(torch.nn.Module):
    """Stands in for an encoder: hands on hidden states that were computed elsewhere."""

    def __init__(self, encoder: Any):
        super().__init__()
        # Some heads read the input embeddings through their encoder; unregistered, as they belong to that one.
        object.__setattr__(self, "embeddings", encoder.embeddings)
        self.hidden_1MH: torch.Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return BaseModelOutput(last_hidden_state=self.hidden_1MH)


class MaskedLMHead(torch.nn.Module):
    """The head of a masked-LM model on its own, over the hidden states of another model with the same encoder.

    A decoder that is tied to the input embeddings is tied to those of the other model: the matrix is trained, averaged
    over processes and saved there, once, and is no parameter of this module.

    Args:
        model: A masked-LM model of any architecture. It loses its encoder.
        encoder: The encoder whose hidden states are read; it must equal the model's.
        bf16: Compute in bf16 where that is safe, as the model beside it does.

    Raises:
        ValueError: The architecture's head cannot be run apart from its encoder.
    """

    _model: Any

    def __init__(self, model: Any, encoder: Any, bf16: bool = False):
        super().__init__()
        self.bf16 = bf16
        # Training in bf16 has wrapped its forward in autocast, but a head that needed no fitting has not been trained.
        model = extract_model_from_parallel(model, keep_fp32_wrapper=False)
        prefix = model.base_model_prefix
        with torch.no_grad():
            probe = model.cpu().eval()(input_ids=torch.arange(5).unsqueeze(0), output_hidden_states=True)
        decoder = model.get_output_embeddings()
        # In a tuple, as torch would register modules.
        self._tied: tuple[Any, Any] | None = None
        if has_tied_decoder(model):
            del decoder.weight
            self._tied = decoder, encoder.get_input_embeddings()
        setattr(model, prefix, _GivenStates(encoder))
        self.layers = torch.nn.ModuleDict({name: part for name, part in model.named_children() if name != prefix})
        object.__setattr__(self, "_model", model)
        self._verify(probe.hidden_states[-1][0], probe.logits[0])
        self.train()

    def _verify(self, hidden_MH: torch.Tensor, expected_MV: torch.Tensor) -> None:
        found_MV = self(hidden_MH)
        same = found_MV.shape == expected_MV.shape
        # The model's own forward pass may be in bf16, which keeps three digits.
        if not same or (found_MV - expected_MV).abs().max() > 0.05 * expected_MV.abs().max():
            raise ValueError(f"the head of {type(self._model).__name__} does not read the encoder's last hidden states")
        freeze_unread(self.parameters(), found_MV)

    def forward(self, hidden_MH: torch.Tensor) -> torch.Tensor:
        """Return logits over the vocabulary: (M, H) in, (M, V) out."""
        given = getattr(self._model, self._model.base_model_prefix)
        given.hidden_1MH = hidden_MH.unsqueeze(0)
        if self._tied is not None:
            decoder, embeddings = self._tied
            # Each time: rows of new tokens, where only these are trained, are put into the matrix when it is read.
            object.__setattr__(decoder, "weight", embeddings.weight)
        with torch.autocast(hidden_MH.device.type, torch.bfloat16, enabled=self.bf16):
            logits_MV: torch.Tensor = self._model(input_ids=None).logits[0]
        given.hidden_1MH = None
        return logits_MV
