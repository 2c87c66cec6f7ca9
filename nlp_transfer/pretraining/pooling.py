"""One vector for each text, taken behind the encoder of a masked-LM model."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch

from ..models import encoder_of, pools_by_mean
from ..objectives import Batch, Objective
from ..units import Step, first_token, mean_of_tokens

Pooling = Literal["mean", "cls"]


def default_pooling(folder: Path, config: Any) -> Pooling:
    """Return how the encoder's texts are pooled: as it was trained, where its folder says so, else the first token.

    Args:
        folder: Folder of the base model; sentence encoders describe their pooling in ``1_Pooling/config.json``.
        config: Its configuration.
    """
    path = folder / "1_Pooling" / "config.json"
    noted = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    mean = noted.get("pooling_mode_mean_tokens") or noted.get("pooling_mode") == "mean"
    return "mean" if mean or pools_by_mean(config) else "cls"


class PooledObjective(Objective):
    """Base class of objectives on text vectors; a context manager that hooks the encoder.

    The forward pass goes through the whole model, as DDP needs it. The hook hands the vocabulary head one pooled vector
    a text in place of its tokens, which costs next to nothing; the head is frozen and its output not used.

    Args:
        model: The masked-LM model, plain or under PEFT.
        pooling: ``mean`` over tokens, or ``cls``, the first token.
    """

    def __init__(self, model: Any, pooling: Pooling):
        self.methods = {}
        self.pooling = pooling
        self.encoder = encoder_of(model)
        self._mask_NT: torch.Tensor | None = None
        self._vectors_NH = torch.empty(0)
        inside = {id(parameter) for parameter in self.encoder.parameters()}
        for parameter in model.parameters():
            parameter.requires_grad &= id(parameter) in inside

    def __enter__(self) -> PooledObjective:
        self.handle = self.encoder.register_forward_hook(self._pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.handle.remove()

    def vectors(self, model: Any, ids_NT: torch.Tensor, mask_NT: torch.Tensor) -> torch.Tensor:
        """Return the pooled vectors of texts in fp32, (N, H); padding that no text needs is cut off."""
        longest = int(mask_NT.sum(1).max())
        self._mask_NT = mask_NT[:, :longest]
        model(input_ids=ids_NT[:, :longest], attention_mask=self._mask_NT)
        self._mask_NT = None
        return self._vectors_NH

    def _pool(self, module: Any, inputs: Any, output: Any) -> Any:
        if self._mask_NT is None:
            return output
        hidden_NTH = output[0]
        mean = self.pooling == "mean"
        vectors_NH = mean_of_tokens(hidden_NTH, self._mask_NT) if mean else first_token(hidden_NTH)
        self._vectors_NH = vectors_NH.float()
        if isinstance(output, tuple):
            return (vectors_NH.unsqueeze(0), *output[1:])
        output["last_hidden_state"] = vectors_NH.unsqueeze(0)
        return output

    @abstractmethod
    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, Step | None]:
        """Return the loss summed over what :meth:`count` counts, and None: methods see no pretraining."""
