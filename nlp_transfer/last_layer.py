"""Text heads read one vector, the first token's: what the last layer does for the others need not be done.

The last layer's attention looks at all tokens; what comes after it (its output projection and the feed-forward block,
three quarters of a layer's weights; of DistilBERT and MPNet the block alone) goes token by token. Handing on the first
token alone changes no logit and no gradient, dropout aside, which draws fewer numbers. It saves about 3 / (4 L) of the
work of L layers in training, prediction and exported graphs: an eighth of MiniLM's six layers.
"""

from __future__ import annotations

from typing import Any

import torch

from .models import encoder_layers, encoder_of, without_peft

AFTER_ATTENTION = {
    "bert": "attention.output",
    "camembert": "attention.output",
    "deberta-v2": "attention.output",
    "distilbert": "sa_layer_norm",
    "electra": "attention.output",
    "mpnet": "attention.LayerNorm",
    "roberta": "attention.output",
    "xlm-roberta": "attention.output",
}
"""Where in a layer tokens part, by type of model: all that follows takes them one by one. ALBERT's layers are shared,
and ModernBERT adds what its attention was given after the feed-forward block."""


def read_first_token(model: Any) -> None:
    """Let the last layer of a text classifier end with the first token; others stay as they are.

    Its last hidden states are (N, 1, H) from then on. Nothing of it is saved with the model.

    Args:
        model: A ``transformers`` model, plain or under PEFT.
    """
    inner = without_peft(model)
    place = AFTER_ATTENTION.get(inner.config.model_type)
    if place is None or not type(inner).__name__.endswith("ForSequenceClassification"):
        return
    layers = encoder_layers(inner)
    convolved = getattr(getattr(encoder_of(inner), "encoder", None), "conv", None) is not None and len(layers) == 1
    if convolved or getattr(inner.config, "chunk_size_feed_forward", 0) > 1:
        return  # DeBERTa's convolution follows the first layer; and one token cannot be cut into chunks of several.
    layers[-1].get_submodule(place).register_forward_pre_hook(_first)


def _first(module: torch.nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(state_NTH[:, :1] for state_NTH in states)
