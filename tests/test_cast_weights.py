"""A model whose linear layers hold bf16 answers under autocast as the model itself, to the bit, and shares the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import tiny_config
from samples import random_texts

from nlp_transfer import load_predictor
from nlp_transfer.forward import cast_linear
from nlp_transfer.hardware import choose_precision
from nlp_transfer.predictor import with_cast_weights
from nlp_transfer.serving.server import prepare

KINDS = ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet"]
HEADS = ["AutoModelForSequenceClassification", "AutoModelForTokenClassification"]


def logits(model: Any) -> torch.Tensor:
    ids_NT = torch.arange(2, 42).reshape(4, 10)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found: torch.Tensor = model(input_ids=ids_NT, attention_mask=torch.ones_like(ids_NT)).logits
    return found


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_autocast(kind: str, head: str) -> None:
    torch.manual_seed(1)
    config = tiny_config(kind, 100)
    config.update({"initializer_range": 0.2, "num_labels": 3})
    model = getattr(transformers, head).from_config(config).eval()
    cast = cast_linear(model)
    assert torch.equal(logits(cast), logits(model))
    assert logits(model).std() > 1e-3
    own = {value.data_ptr() for value in model.parameters()}
    new = {name for name, value in cast.named_parameters() if value.data_ptr() not in own}
    assert new == {name for name, value in cast.named_parameters() if value.dtype == torch.bfloat16}
    assert new and not any("word_embeddings" in name or "tok_embeddings" in name for name in new)
    assert all(value.dtype == torch.float32 for value in model.parameters())


def test_a_predictor_in_fp32_is_left_as_it_is(tiny_bert: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(tiny_bert, num_labels=2)
    folder = tiny_bert.parent / "answers"
    transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert, config=config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    exact, rounded = (load_predictor(folder, precision=precision) for precision in ("fp32", "bf16"))
    assert with_cast_weights(exact) is exact
    texts = random_texts(40, 3)
    assert with_cast_weights(rounded)(texts) == rounded(texts)
    cast = [prepare(folder).predict.model] if choose_precision("auto").bf16 else []  # type: ignore[attr-defined]
    for model in (with_cast_weights(rounded).model, *cast):
        assert torch.bfloat16 in {value.dtype for value in model.parameters()}
