"""Frozen features from the cache are the frozen encoder's, and train the same head."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import tiny_config, wordpiece_tokenizer
from helpers import Listener, data_of, ner_rows, recipe_data, saved_weights, text_rows

from nlp_transfer import caching
from nlp_transfer.caching import as_cached_rows, cached_encoder, hidden_states
from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.load import load_split
from nlp_transfer.data.windows import Limits, Window
from nlp_transfer.forward import window_logits
from nlp_transfer.models import Loaded
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run
from nlp_transfer.stages import finetune
from nlp_transfer.tasks.base import Encoded
from nlp_transfer.tasks.classification import Classification
from nlp_transfer.tasks.ner import Ner, tag_set
from nlp_transfer.tuning import Frozen

KINDS = ["bert", "distilbert", "roberta", "deberta-v2", "electra", "albert", "mpnet", "modernbert", "modernbert-mean"]
TASKS = ["classification", "ner"]


def frozen(kind: str, task: str, folder: Path) -> tuple[Any, Encoded]:
    """A model of an architecture with a frozen encoder (and dropout off in the head), and encoded rows."""
    tokenizer = wordpiece_tokenizer()
    config = tiny_config(kind.removesuffix("-mean"), len(tokenizer))
    if kind == "modernbert":
        config.classifier_pooling = "cls"
    elif kind == "modernbert-mean":
        config.classifier_pooling = "mean"
    config.num_labels = 3 if task == "classification" else 7
    torch.manual_seed(4)
    made: Any = Classification(["bad", "good", "poor"]) if task == "classification" else Ner(tag_set(["A", "B", "C"]))
    model = getattr(transformers, made.auto_class).from_config(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model = Frozen().apply(Loaded(model, frozenset()), None)
    rows = ner_rows(10) if task == "ner" else text_rows(10)
    split = load_split(rows, name="source.train", kind="words" if task == "ner" else "classification")
    encoded = made.encode(split.rows, tokenizer, Limits(12, 4), labelled=task != "ner")
    return model, encoded


def as_cached_windows(windows: list[Window], states: list[np.ndarray]) -> list[Window]:
    return [
        Window(window.row, [number] * len(states[number]), window.weight, window.positions, window.words)
        for number, window in enumerate(windows)
    ]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_the_encoder(kind: str, task: str, tmp_path: Path) -> None:
    model, encoded = frozen(kind, task, tmp_path)
    assert len(encoded.windows) > encoded.rows or task == "ner"
    pad = 1 if kind == "roberta" else 0
    plain = window_logits(model, encoded.windows, pad)
    states = hidden_states(model, encoded.windows, pad)
    batch = PairCollator(pad)([{"source": row} for row in encoded.features])
    quick_rows = as_cached_rows(encoded.features)
    quick_batch = PairCollator(pad)([{"source": row} for row in quick_rows])
    full = gradients(model, batch, task)
    with cached_encoder(model, states):
        quick = window_logits(model, as_cached_windows(encoded.windows, states), pad)
        ours = gradients(model, quick_batch, task)
    for one, other in zip(plain, quick, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert {name for name, value in full.items() if value.abs().max() > 0}
    for name, value in full.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=1e-5)
    assert type(getattr(model, model.base_model_prefix)) is not caching.CachedEncoder


def gradients(model: Any, batch: dict[str, torch.Tensor], task: str) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.train()
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True).logits
    logits = logits[batch["units"]] if task == "ner" else logits
    torch.logsumexp(logits, -1).sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def test_cache_of_a_text_is_one_vector_and_of_a_sentence_one_a_token(tmp_path: Path) -> None:
    for task, tokens in (("classification", False), ("ner", True)):
        model, encoded = frozen("bert", task, tmp_path)
        states = hidden_states(model, encoded.windows, 0, batch_tokens=40)
        assert [len(state) for state in states] == (encoded.lengths if tokens else [1] * len(encoded.windows))
        assert all(state.dtype == np.float32 for state in states)


def test_encoder_comes_back_after_an_error(tmp_path: Path) -> None:
    model, encoded = frozen("bert", "classification", tmp_path)
    encoder = model.bert
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), cached_encoder(model, hidden_states(model, encoded.windows, 0)):
        assert model.bert is not encoder
        raise KeyboardInterrupt
    assert model.bert is encoder
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("methods", [(), ("mcc",), ("anchor",)], ids=lambda names: "".join(names) or "plain")
@pytest.mark.parametrize("kind", TASKS)
def test_run_with_the_cache_trains_as_one_without(
    kind: str, methods: tuple[str, ...], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout is off in both: the cached features never have any, as they are computed once."""
    # The cached text rows are all of length 1, so that grouping by length would order them in another way.
    settings = {"max_steps": 5, "dropout": 0.0, "evaluate_every": 2, "group_by_length": False}
    settings |= {"methods": methods, "source_only": bool(methods)}
    values = [recipe_data(tmp_path / name, tiny_bert, kind, "frozen", **settings) for name in ("quick", "slow")]
    quick, slow = (recipe_from(one | {"guard": False}) for one in values)
    listener = Listener()
    run(quick, data=data_of(kind), reporter=listener)  # type: ignore[arg-type]
    assert "frozen features" in listener.bars

    monkeypatch.setattr(finetune, "read_once", lambda space, model, rows: (None, rows))
    monkeypatch.setattr(finetune, "cached_encoder", lambda model, states: nullcontext())
    run(slow, data=data_of(kind))
    one, other = (saved_weights(tmp_path / name / "model") for name in ("quick", "slow"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=2e-5, rtol=1e-4)
    scores = [json.loads((tmp_path / name / "metrics.json").read_text())["scores"] for name in ("quick", "slow")]
    assert scores[0] == scores[1]
    if methods:
        twin = saved_weights(tmp_path / "slow/stages/source-only/model")
        assert any(not torch.equal(value, twin[name]) for name, value in other.items()), "the method moves the head"
