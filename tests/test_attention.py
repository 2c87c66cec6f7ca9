"""Attention in pieces equals attention in one, forwards and backwards, and leaves no trace in what is saved."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import build_model

from nlp_transfer import attention, finding, models

FAST = ["bert", "distilbert", "roberta", "electra", "albert", "modernbert"]
"""Architectures that let their attention be chosen."""


def inputs(rows: int, tokens: int, masked: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    torch.manual_seed(3)
    qkv = [torch.randn(rows, 2, tokens, 8).bfloat16().requires_grad_() for _ in range(3)]
    if not masked:
        return qkv, None
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, 1))
    return qkv, mask[:, None, None, :].expand(rows, 1, tokens, tokens)


def by_the_formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Written out over rows, heads and tokens, in fp64."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    for row in range(q.shape[0]):
        for head in range(q.shape[1]):
            for token in range(q.shape[2]):
                scores = k[row, head].double() @ q[row, head, token].double() / math.sqrt(q.shape[3])
                if mask is not None:
                    scores = scores.masked_fill(~mask[row, 0, token], -math.inf)
                out[row, head, token] = scores.exp() / scores.exp().sum() @ v[row, head].double()
    return out.transpose(1, 2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cache_bytes", [1, 3 * 2 * 6 * 6 * 2, 2**22])
def test_pieces_give_the_formula(monkeypatch: pytest.MonkeyPatch, cache_bytes: int, masked: bool) -> None:
    monkeypatch.setattr(attention, "CACHE_BYTES", cache_bytes)
    qkv, mask = inputs(7, 6, masked)
    got, weights = attention.attend(torch.nn.Identity(), *qkv, mask)
    assert weights is None
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), by_the_formula(*qkv, mask), atol=0.03, rtol=0.03)


def test_gradients_are_those_of_full_precision() -> None:
    qkv, mask = inputs(5, 6, masked=True)
    weight = torch.randn(5, 6, 2, 8)
    (attention.attend(torch.nn.Identity(), *qkv, mask)[0] * weight).sum().backward()
    exact = [part.detach().double().requires_grad_() for part in qkv]
    (by_the_formula(*exact, mask) * weight.double()).sum().backward()
    for part, other in zip(qkv, exact, strict=True):
        assert part.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(part.grad.double(), other.grad, atol=0.05, rtol=0.05)


def test_a_row_without_any_token_stays_finite() -> None:
    qkv, _ = inputs(2, 4, masked=False)
    nothing = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    assert attention.attend(torch.nn.Identity(), *qkv, nothing)[0].isfinite().all()


def test_dropout_drops_weights_and_keeps_their_mean() -> None:
    q, k = torch.zeros(64, 2, 16, 8).bfloat16(), torch.zeros(64, 2, 16, 8).bfloat16()
    torch.manual_seed(0)
    got, _ = attention.attend(torch.nn.Identity(), q, k, torch.ones_like(q), None, dropout=0.5)
    assert got.float().std() > 0.1
    assert got.float().mean() == pytest.approx(1, abs=0.03)


def test_other_precisions_are_left_to_the_library() -> None:
    qkv, mask = inputs(3, 5, masked=True)
    single = [part.float() for part in qkv]
    got, _ = attention.attend(torch.nn.Identity(), *single, mask)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), by_the_formula(*single, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [*FAST, "deberta-v2", "mpnet"])
def test_every_architecture_computes_the_same_and_saves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = build_model(tmp_path / "tiny", kind)
    source = finding.resolve(str(folder))
    config = models.read_config(source, num_labels=3)
    found = {}
    for native in (False, True):
        monkeypatch.setattr(attention, "native_bf16", lambda native=native: native)
        torch.manual_seed(0)
        model = models.load_model("AutoModelForTokenClassification", source, config).model.eval()
        ids = torch.arange(5, 17).reshape(2, 6)
        mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
        with torch.inference_mode():
            found[native, False] = model(input_ids=ids, attention_mask=mask).logits
            with torch.autocast("cpu", torch.bfloat16):
                found[native, True] = model(input_ids=ids, attention_mask=mask).logits.float()
    fast = model.config._attn_implementation == attention.NAME
    assert fast == (kind in FAST)
    torch.testing.assert_close(found[True, False], found[False, False], atol=0, rtol=0)
    real = mask.bool()
    torch.testing.assert_close(found[True, True][real], found[False, False][real], atol=0.05, rtol=0.05)
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/config.json").read_text(encoding="utf8"))
    assert attention.NAME not in json.dumps(saved)
