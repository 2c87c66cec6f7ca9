"""How surprising a masked language model finds texts: pseudo-perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..data.batching import pad_tokens
from ..data.padding import token_batches
from ..data.windows import Window
from ..intervals import Interval, bootstrap_interval
from ..models import encoder_of
from ..tasks.masked_lm import MaskedPositions

TEXTS = 80
POSITIONS = 4
LONGEST = 64


def hidden_one_by_one(
    windows: Sequence[Window], mask_id: int, special: frozenset[int], seed: int
) -> tuple[list[list[int]], np.ndarray, np.ndarray, np.ndarray]:
    """Draw tokens of some texts and make a copy of the text for each, in which that token alone is masked.

    Args:
        windows: One window a text; its first :data:`LONGEST` tokens are used of the first :data:`TEXTS` that have any
            ordinary token.
        mask_id: Id of the mask token.
        special: Ids of tokens that are never masked.
        seed: Seed of the draw of :data:`POSITIONS` tokens a text.

    Returns:
        M copies, the position (M,) and the id (M,) of each masked token, and the text (M,) that it comes from.
    """
    generator = np.random.default_rng((seed, 1910))
    copies: list[list[int]] = []
    places: list[tuple[int, int, int]] = []
    texts = 0
    for window in windows:
        ids = window.input_ids[:LONGEST]
        ordinary = [at for at, token in enumerate(ids) if token not in special]
        if not ordinary or texts == TEXTS:
            continue
        for at in sorted(generator.permutation(ordinary)[:POSITIONS].tolist()):
            copies.append([*ids[:at], mask_id, *ids[at + 1 :]])
            places.append((at, ids[at], texts))
        texts += 1
    found_M3 = np.array(places, dtype=np.int64).reshape(-1, 3)
    return copies, found_M3[:, 0], found_M3[:, 1], found_M3[:, 2]


@torch.inference_mode()
def masked_log_probabilities(
    model: Any,
    copies: Sequence[Sequence[int]],
    positions_M: np.ndarray,
    tokens_M: np.ndarray,
    pad_id: int,
    batch_tokens: int = 2048,
    autocast: bool = False,
) -> np.ndarray:
    """Return log P(token | the rest of the text) for each masked token, (M,).

    Args:
        model: A masked-LM model; its head runs at the masked positions only.
        copies: Token ids, each with one masked token.
        positions_M: Where it is.
        tokens_M: What stood there.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        autocast: Compute in bf16.
    """
    model.eval()
    device = next(model.parameters()).device
    chosen = MaskedPositions()
    handle = encoder_of(model).register_forward_hook(chosen)
    found_M = np.zeros(len(copies))
    try:
        for indices in token_batches([len(ids) for ids in copies], batch_tokens):
            batch = {key: value.to(device) for key, value in pad_tokens([copies[i] for i in indices], pad_id).items()}
            units_NT = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
            units_NT[torch.arange(len(indices)), torch.from_numpy(positions_M[indices])] = True
            chosen.units_NT = units_NT
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
                logits_MV = model(**batch).logits[0]
            logs_MV = logits_MV.float().log_softmax(-1).cpu()
            found_M[indices] = logs_MV[torch.arange(len(indices)), torch.from_numpy(tokens_M[indices])].numpy()
    finally:
        handle.remove()
    return found_M


def pseudo_perplexity(logs_M: np.ndarray, texts_M: np.ndarray, seed: int = 0) -> Interval:
    """Return exp(−mean log P(token | rest)) over the masked tokens, with its bootstrap interval over texts.

    Salazar et al. (2020), arXiv 1910.14659, equations 1 and 4, on a sample of the tokens. Pieces of one word give each
    other away (Kauf and Ivanova 2023, arXiv 2305.10588), which flatters a domain whose words are cut into many pieces.

    Args:
        logs_M: From :func:`masked_log_probabilities`.
        texts_M: The text of each.
        seed: Seed of the resampling.
    """
    sums_N2 = np.stack([np.bincount(texts_M, logs_M), np.bincount(texts_M)], axis=1)
    return bootstrap_interval(sums_N2, lambda sums: np.exp(-sums[..., 0] / sums[..., 1]), resamples=1000, seed=seed)
