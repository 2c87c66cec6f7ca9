"""A decoder whose memory is one vector a text, built from the encoder that it trains."""

from __future__ import annotations

from typing import Any

import torch

TIED = {"bert", "roberta", "xlm-roberta", "camembert"}
"""Architectures whose layers can be read as those of a decoder, too: self-attention, then feed-forward."""

DROPOUTS = ("hidden_dropout_prob", "dropout", "mlp_dropout")


class Memory(torch.nn.Module):
    """Cross-attention to a memory of one vector: LN(x + dropout(W_o W_v m)).

    The softmax over one key is 1 whatever the query, so queries and keys drop out of the formula.

    Args:
        hidden: Size H.
        dropout: Dropout of what is added.
        spread: Standard deviation of the initial weights.
    """

    def __init__(self, hidden: int, dropout: float, spread: float):
        super().__init__()
        self.value = torch.nn.Linear(hidden, hidden)
        self.output = torch.nn.Linear(hidden, hidden)
        self.dropout = torch.nn.Dropout(dropout)
        self.norm = torch.nn.LayerNorm(hidden, eps=1e-12)
        for layer in (self.value, self.output):
            torch.nn.init.normal_(layer.weight, std=spread)
            torch.nn.init.zeros_(layer.bias)

    def forward(self, hidden_NTH: torch.Tensor, memory_NH: torch.Tensor) -> torch.Tensor:
        """Return (N, T, H)."""
        seen_N1H = self.output(self.value(memory_NH)).unsqueeze(1)
        normed_NTH: torch.Tensor = self.norm(hidden_NTH + self.dropout(seen_N1H.expand_as(hidden_NTH)))
        return normed_NTH


class Decoder(torch.nn.Module):
    """Predicts each token of a text from those before it and the text's vector.

    In architectures of :data:`TIED` it is the encoder itself, read from left to right (as in the paper): its embeddings
    and layers, with a :class:`Memory` of its own between self-attention and feed-forward of each. Elsewhere it is one
    fresh transformer layer (as many heads as the encoder, feed-forward 4 H) behind a memory, over the encoder's word
    embeddings and fresh positions. In both, a dense layer H → E, GELU and a norm come last, and the encoder's word
    embeddings (V × E) with a fresh bias give the logits.

    The encoder is handed over in each call and is no submodule: its weights are trained and saved once, as its own.

    Args:
        encoder: The encoder.
        longest: Tokens in the longest text.
    """

    def __init__(self, encoder: Any, longest: int):
        super().__init__()
        config = encoder.config
        hidden = config.hidden_size
        vocabulary, width = encoder.get_input_embeddings().weight.shape
        dropout = next((getattr(config, key) for key in DROPOUTS if hasattr(config, key)), 0.1)
        spread = getattr(config, "initializer_range", 0.02)
        self.tied = config.model_type in TIED
        depth = len(encoder.encoder.layer) if self.tied else 1
        self.memories = torch.nn.ModuleList([Memory(hidden, dropout, spread) for _ in range(depth)])
        if not self.tied:
            self.widen = torch.nn.Linear(width, hidden)
            self.positions = torch.nn.Embedding(longest, hidden)
            self.layer = torch.nn.TransformerEncoderLayer(
                hidden, config.num_attention_heads, 4 * hidden, dropout, "gelu", batch_first=True
            )
        self.transform = torch.nn.Sequential(torch.nn.Linear(hidden, width), torch.nn.GELU(), torch.nn.LayerNorm(width))
        self.bias = torch.nn.Parameter(torch.zeros(vocabulary))

    def learning_rate(self, base: float) -> float:
        """Return the learning rate of the decoder's own layers: the encoder's."""
        return base

    def forward(self, encoder: Any, memory_NH: torch.Tensor, ids_NT: torch.Tensor) -> torch.Tensor:
        """Return the states over the tokens, (N, T, E); each sees the tokens up to its own."""
        states_NTH = (self._tied if self.tied else self._fresh)(encoder, memory_NH, ids_NT)
        states_NTE: torch.Tensor = self.transform(states_NTH)
        return states_NTE

    def logits(self, encoder: Any, states_ME: torch.Tensor) -> torch.Tensor:
        """Return the scores of the next token, (M, V)."""
        return torch.nn.functional.linear(states_ME, encoder.get_input_embeddings().weight, self.bias)

    def _tied(self, encoder: Any, memory_NH: torch.Tensor, ids_NT: torch.Tensor) -> torch.Tensor:
        # Padding is on the right: no real token sees it.
        seen_TT = torch.ones(ids_NT.shape[1], ids_NT.shape[1], dtype=torch.bool, device=ids_NT.device).tril()
        mask_11TT = seen_TT[None, None]
        if encoder.config._attn_implementation == "eager":
            lowest = torch.finfo(memory_NH.dtype).min
            mask_11TT = torch.zeros_like(mask_11TT, dtype=memory_NH.dtype).masked_fill(~mask_11TT, lowest)
        states_NTH: torch.Tensor = encoder.embeddings(input_ids=ids_NT)
        for layer, memory in zip(encoder.encoder.layer, self.memories, strict=True):
            attended_NTH = layer.attention(states_NTH, attention_mask=mask_11TT)[0]
            remembered_NTH = memory(attended_NTH, memory_NH)
            states_NTH = layer.output(layer.intermediate(remembered_NTH), remembered_NTH)
        return states_NTH

    def _fresh(self, encoder: Any, memory_NH: torch.Tensor, ids_NT: torch.Tensor) -> torch.Tensor:
        tokens = ids_NT.shape[1]
        hidden_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=ids_NT.device).triu(1)
        places_T = torch.arange(tokens, device=ids_NT.device)
        states_NTH = self.widen(encoder.get_input_embeddings()(ids_NT)) + self.positions(places_T)
        states_NTH = self.layer(self.memories[0](states_NTH, memory_NH), src_mask=hidden_TT)
        return states_NTH
