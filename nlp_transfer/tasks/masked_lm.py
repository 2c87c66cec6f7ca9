"""Masked language modelling with the vocabulary head at masked positions only.

The stock models run their H × V head on every position; for a small encoder that is half of all arithmetic, and the
logits are the largest tensor of the step. A forward hook behind the encoder keeps masked positions only, so that the
head sees one "sentence" of M masked tokens. It works for every architecture, through DDP and PEFT, because the model
is left as it is.
"""

from __future__ import annotations

from typing import Any

import torch


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
