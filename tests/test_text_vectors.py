"""TSDAE and SimCSE: their maths against independent formulas, every architecture, whole runs, resumed ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import build_model, tiny_config, wordpiece_tokenizer
from helpers import Listener, data_of, make_recipe, recipe_data, same_weights, saved_weights, text_rows

from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.blocks import Block, pack
from nlp_transfer.data.pairs import NO_TARGET, Pick
from nlp_transfer.errors import ModelError, RecipeError
from nlp_transfer.finding import resolve
from nlp_transfer.models import encoder_of, load_model, read_config
from nlp_transfer.parts import PRETRAININGS, TUNINGS, recipe_from
from nlp_transfer.pretraining.decoder import TIED, Decoder
from nlp_transfer.pretraining.pooling import default_pooling
from nlp_transfer.pretraining.simcse import SimCse, fingerprints_of, info_nce
from nlp_transfer.pretraining.tsdae import DeletedWords, Tsdae
from nlp_transfer.recipe.pretraining import OBJECTIVE_DEFAULTS, OWNERS, WORK
from nlp_transfer.running import run

KINDS = ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet"]
TEXTS = [*text_rows(12)["text"], "unbelievableness crashes"]


def blocks(longest: int = 24) -> list[Block]:
    return list(pack(wordpiece_tokenizer(), TEXTS, longest, joined=False))


def masked_lm(kind: str = "bert", **changes: Any) -> Any:
    torch.manual_seed(2)
    config = tiny_config(kind, len(wordpiece_tokenizer()))
    for key, value in changes.items():
        setattr(config, key, value)
    return transformers.AutoModelForMaskedLM.from_config(config)


def pretraining_of(name: str, pooling: Any = "mean") -> Any:
    return Tsdae(3, pooling, 0.6, 24) if name == "tsdae" else SimCse(pooling, 0.05)


def batch_of(pretraining: Any, numbers: Any = range(6)) -> dict[str, torch.Tensor]:
    items = pretraining.items(blocks())
    return PairCollator(0)([items[Pick(number, NO_TARGET, 0)] for number in numbers])


# Texts as blocks


def test_a_block_is_one_text_and_long_texts_lose_nothing() -> None:
    tokenizer = wordpiece_tokenizer()
    for longest in (64, 8):
        made = list(pack(tokenizer, TEXTS, longest, joined=False))
        assert (len(made) == len(TEXTS)) is (longest == 64)
        assert max(len(block.input_ids) for block in made) <= longest
        packed = [token for block in made for token in block.input_ids[1:-1]]
        assert packed == [token for text in TEXTS for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
        assert all((block.groups[[0, -1]] == -1).all() and (block.groups[1:-1] >= 0).all() for block in made)


@pytest.mark.parametrize("rate", [0.6, 0.99])
def test_deleted_words(rate: float) -> None:
    """The right share of whole words is deleted, one word is always left, and the order stays."""
    made = blocks()
    items = DeletedWords(made, rate, 3)
    for number, block in enumerate(made):
        item = items[Pick(number, NO_TARGET, 0)]
        left, whole = item["source"]["input_ids"].tolist(), item["target"]["input_ids"].tolist()
        assert whole == block.input_ids.tolist()
        words = [tuple(block.input_ids[block.groups == group]) for group in range(max(block.groups) + 1)]
        count = max(1, len(words) - round(rate * len(words)))
        assert left in [
            [whole[0], *(token for at in chosen for token in words[at]), whole[-1]]
            for chosen in subsets(len(words), count)
        ]
    draws = [tuple(items[Pick(0, NO_TARGET, epoch)]["source"]["input_ids"]) for epoch in range(8)]
    again = [tuple(DeletedWords(made, rate, 3)[Pick(0, NO_TARGET, e)]["source"]["input_ids"]) for e in range(8)]
    assert draws == again
    assert len(set(draws)) > 1


def subsets(size: int, count: int) -> Any:
    import itertools

    return itertools.combinations(range(size), count)


# Vectors


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_vectors_are_those_of_the_plain_encoder(kind: str, pooling: str) -> None:
    model = masked_lm(kind).eval()
    pretraining = pretraining_of("tsdae", pooling)
    batch = batch_of(pretraining)
    inputs = {key: batch[key][:6] for key in ("input_ids", "attention_mask")}
    longest = inputs["attention_mask"].sum(1).max()
    assert longest < inputs["input_ids"].shape[1]  # padding of the whole texts, which deleted ones do not need
    with pretraining.objective(model) as objective:
        vectors = objective.vectors(model, inputs["input_ids"], inputs["attention_mask"])
        hidden = model.base_model(**inputs)[0]  # outside of `vectors` nothing is pooled
    for row, (states, mask) in enumerate(zip(hidden, inputs["attention_mask"], strict=True)):
        expected = states[: mask.sum()].mean(0) if pooling == "mean" else states[0]
        torch.testing.assert_close(vectors[row], expected, atol=1e-5, rtol=1e-4)
    assert not model.base_model._forward_hooks


def test_default_pooling_is_that_of_the_training(tmp_path: Path) -> None:
    config = tiny_config("bert", 50)
    assert default_pooling(tmp_path, config) == "cls"
    (tmp_path / "1_Pooling").mkdir()
    for noted, expected in [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ]:
        (tmp_path / "1_Pooling/config.json").write_text(json.dumps(noted))
        assert default_pooling(tmp_path, config) == expected
    modern = tiny_config("modernbert", 50)
    modern.classifier_pooling = "mean"
    assert default_pooling(tmp_path / "none", modern) == "mean"


@pytest.mark.parametrize("tuning", ["full", "lora", "top_layers"])
@pytest.mark.parametrize("name", ["tsdae", "simcse"])
def test_every_trained_weight_takes_part_in_the_loss(name: str, tuning: str, tmp_path: Path) -> None:
    """As training over several processes needs it, and whatever head the checkpoint lacks."""
    source = resolve(str(build_model(tmp_path / "base")))
    loaded = load_model("AutoModelForMaskedLM", source, read_config(source))
    model = TUNINGS[tuning](**({"n": 1} if tuning == "top_layers" else {})).apply(loaded, None)
    weights_take_part(name, model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tsdae", "simcse"])
def test_every_architecture_trains(name: str, kind: str) -> None:
    key = {"modernbert": "mlp_dropout", "distilbert": "dropout"}.get(kind, "hidden_dropout_prob")
    weights_take_part(name, masked_lm(kind, **{key: 0.1}))


def weights_take_part(name: str, model: Any) -> None:
    pretraining = pretraining_of(name)
    with pretraining.objective(model.train()) as objective:
        loss, step = objective.loss_sum(model, batch_of(pretraining), 0.0)
        assert step is None
        (loss / objective.count(batch_of(pretraining))).backward()
        trained = [*model.named_parameters(), *torch.nn.ModuleDict(dict(objective.modules)).named_parameters()]
    without = [key for key, value in trained if value.requires_grad and value.grad is None]
    assert not without
    assert any(value.requires_grad for _, value in trained)


# SimCSE


@pytest.mark.parametrize("offset", [0, 2])
def test_info_nce_is_that_of_the_paper(offset: int) -> None:
    draw = np.random.default_rng(0)
    queries, keys, temperature = draw.normal(size=(3, 5)), draw.normal(size=(5, 5)), 0.05
    expected = 0.0
    for row, query in enumerate(queries):
        cosines = [query @ key / math.sqrt(query @ query) / math.sqrt(key @ key) for key in keys]
        total = sum(math.exp(value / temperature) for value in cosines)
        expected -= math.log(math.exp(cosines[row + offset] / temperature) / total)
    ours = info_nce(torch.from_numpy(queries), torch.from_numpy(keys), temperature, offset)
    assert ours.item() == pytest.approx(expected, rel=1e-9)


def test_positives_differ_by_dropout_only() -> None:
    model, pretraining = masked_lm(), pretraining_of("simcse")
    batch = batch_of(pretraining)
    assert torch.equal(*batch["input_ids"].chunk(2))
    with pretraining.objective(model) as objective:
        assert objective.count(batch) == 6
        for training in (True, False):
            model.train(training)
            pair = objective.vectors(model, batch["input_ids"], batch["attention_mask"]).chunk(2)
            assert torch.allclose(*pair) is not training


def test_model_without_dropout_is_refused() -> None:
    model = masked_lm(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with pytest.raises(ModelError, match=r"has none\. Set train\.dropout: 0\.1"):
        pretraining_of("simcse").objective(model)


# TSDAE


def test_tied_decoder_is_the_library_decoder_with_the_encoder_weights() -> None:
    """The library's decoder attends to a memory of one vector, with queries and keys that cannot matter."""
    encoder = masked_lm().bert.eval()
    torch.manual_seed(4)
    ours = Decoder(encoder, 24).eval()
    for memory in ours.memories:
        torch.nn.init.normal_(memory.norm.weight)
    config = tiny_config("bert", len(wordpiece_tokenizer()))
    config.is_decoder = config.add_cross_attention = True
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    theirs.load_state_dict(encoder.state_dict(), strict=False)
    for layer, memory in zip(theirs.encoder.layer, ours.memories, strict=True):
        layer.crossattention.self.value.load_state_dict(memory.value.state_dict())
        layer.crossattention.output.dense.load_state_dict(memory.output.state_dict())
        layer.crossattention.output.LayerNorm.load_state_dict(memory.norm.state_dict())
    ids, vectors = torch.randint(5, 60, (3, 9)), torch.randn(3, 32)
    with torch.no_grad():
        expected = theirs(input_ids=ids, encoder_hidden_states=vectors[:, None]).last_hidden_state
        torch.testing.assert_close(ours._tied(encoder, vectors, ids), expected, atol=1e-5, rtol=1e-4)
        encoder.set_attn_implementation("eager")
        torch.testing.assert_close(ours._tied(encoder, vectors, ids), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_sees_the_past_and_the_vector_only(kind: str) -> None:
    encoder = encoder_of(masked_lm(kind).eval())
    decoder = Decoder(encoder, 24).eval()
    assert decoder.tied is (kind in TIED)
    ids, vectors = torch.randint(5, 60, (2, 9)), torch.randn(2, 32)
    changed = ids.clone()
    changed[:, 5:] = (ids[:, 5:] + 3) % 60
    with torch.no_grad():
        states, others = decoder(encoder, vectors, ids), decoder(encoder, vectors, changed)
        torch.testing.assert_close(states[:, :5], others[:, :5])
        assert not torch.allclose(states[:, 5], others[:, 5])
        assert not torch.allclose(states[:, 0], decoder(encoder, vectors + 1, ids)[:, 0])
        assert decoder.logits(encoder, states[0]).shape == (9, len(wordpiece_tokenizer()))


def test_loss_is_that_of_each_text_alone() -> None:
    """So the loss of a global batch is the same however it is divided over passes and processes."""
    model, pretraining = masked_lm().eval(), pretraining_of("tsdae")
    with pretraining.objective(model) as objective:
        objective.decoder.eval()
        whole = batch_of(pretraining, range(6))
        total, count = objective.loss_sum(model, whole, 0.0)[0], objective.count(whole)
        singles = [batch_of(pretraining, [number]) for number in range(6)]
        apart = sum(objective.loss_sum(model, batch, 0.0)[0] for batch in singles)
        assert count == sum(objective.count(batch) for batch in singles)
    assert count == sum(len(block.input_ids) - 1 for block in blocks()[:6])
    assert total.item() == pytest.approx(apart.item(), rel=1e-5)


# Runs


def stage(objective: str, **train: Any) -> dict[str, Any]:
    settings = {"max_steps": 4, "batch_size": 4, "learning_rate": 0.005, "evaluate_every": 2, "dropout": 0.1}
    return {"name": "pretrain", "objective": objective, "block_length": 24, "train": settings | train}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tuning"), [("tsdae", "full"), ("tsdae", "lora"), ("simcse", "full")])
def test_interrupted_stage_ends_as_an_uninterrupted_one(
    name: str, tuning: str, tiny_bert: Path, tmp_path: Path
) -> None:
    whole, cut = (
        make_recipe(tmp_path / part, tiny_bert, tuning=tuning, stages=[stage(name), "finetune"], max_steps=1)
        for part in ("whole", "cut")
    )
    run(whole, data=data_of("classification"))
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=data_of("classification"), reporter=Listener("pretrain", 3))  # type: ignore[arg-type]
    run(cut, data=data_of("classification"))
    assert same_weights(*(tmp_path / part / "stages/1-pretrain/model" for part in ("whole", "cut")))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_objectives_follow_each_other(tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    """A head that was never trained is fitted before masked LM uses it, whatever came before."""
    mlm = stage("mlm", max_steps=1) | {"head_steps": None}
    plan = [stage("simcse", max_steps=1), stage("tsdae", max_steps=1), mlm | {"head_steps": 1}, mlm, "finetune"]
    listener = Listener()
    recipe = make_recipe(tmp_path / "run", tiny_bert, tuning=tuning, stages=plan, max_steps=1)
    result = run(recipe, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert sum("a fresh one is fitted" in line for line in listener.said) == 1
    facts = [json.loads(line) for line in (result.folder / "stages.jsonl").read_text().splitlines()]
    assert [line.get("untrained_head") for line in facts] == [True, True, False, False, None]
    assert [line.get("head_steps") for line in facts] == [0, 0, 1, 0, None]
    card = (result.folder / "README.md").read_text()
    assert all(PRETRAININGS[name].citation in card for name in PRETRAININGS)
    for number in (1, 2):
        folder = result.folder / f"stages/{number}-pretrain/model"
        assert not [name for name in saved_weights(folder) if "adaptation" in name or "decoder.memories" in name]
        if tuning == "full":
            _, info = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
            assert not info["missing_keys"]
            assert not info["unexpected_keys"]


# Recipes


def test_settings_of_another_objective_are_refused_with_the_reason(tmp_path: Path) -> None:
    values = {"mask_rate": 0.1, "whole_words": True, "head_steps": 1, "delete_rate": 0.5}
    values |= {"temperature": 0.1, "pooling": "cls"}  # type: ignore[dict-item]
    assert values.keys() == OWNERS.keys()
    for objective in WORK:
        for key, value in values.items():
            given = {"name": "pretrain", "objective": objective, key: value}
            recipe = recipe_data(tmp_path, tmp_path, stages=[given, "finetune"])
            if objective in OWNERS[key]:
                recipe_from(recipe)
                continue
            with pytest.raises(RecipeError, match=f"stages.0: {key} is a setting of objective .*{WORK[objective]}"):
                recipe_from(recipe)


def test_defaults_are_those_of_the_objective(tmp_path: Path) -> None:
    from nlp_transfer.recipe.defaults import resolve as fill

    plan = [*({"name": "pretrain", "objective": name} for name in WORK), "finetune"]
    recipe = recipe_data(tmp_path, tmp_path, stages=plan)
    recipe["train"] = {}
    filled = fill(recipe_from(recipe))
    assert fill(filled) == filled
    for made in filled.stages[:-1]:
        own = OBJECTIVE_DEFAULTS[made.objective]  # type: ignore[union-attr]
        named = {key: getattr(made, key) for key in OWNERS}
        assert {key: value for key, value in named.items() if value is not None} == own
    assert [made.train["learning_rate"] for made in filled.stages] == [1e-4, 3e-5, 3e-5, 5e-5]
    assert [made.train["batch_size"] for made in filled.stages] == [16, 16, 64, 16]


@pytest.mark.parametrize("settings", [{"accumulation": 2}, {"batch_size": 1}, {"dropout": 0.0}])
@pytest.mark.parametrize("place", ["stage", "recipe"])
def test_contrast_without_negatives_or_noise_is_refused(place: str, settings: dict[str, Any], tmp_path: Path) -> None:
    given = {"name": "pretrain", "objective": "simcse"} | ({"train": settings} if place == "stage" else {})
    recipe = recipe_data(tmp_path, tmp_path, stages=[given, "finetune"], **(settings if place == "recipe" else {}))
    with pytest.raises(RecipeError, match=rf"stages\.0: 'simcse' cannot work with train\.{next(iter(settings))}"):
        recipe_from(recipe)
    given["objective"] = "tsdae"
    recipe_from(recipe_data(tmp_path, tmp_path, stages=[given, "finetune"], **settings))


def test_a_text_is_no_negative_of_itself() -> None:
    """Few texts fill a batch by being drawn again."""
    vectors_NH = torch.eye(3, 8)[[0, 1, 2, 0, 0]]
    ids_NT = torch.tensor([[2, 5, 3, 0], [2, 6, 3, 0], [2, 5, 6, 3], [2, 5, 3, 0], [2, 5, 3, 9]])
    mask_NT = (ids_NT > 0).long()
    mask_NT[4, 3] = 0
    texts_N = fingerprints_of(ids_NT, mask_NT)
    assert (texts_N[[0, 0, 3]] == texts_N[[3, 4, 4]]).all() and len(set(texts_N.tolist())) == 3
    wider = torch.nn.functional.pad(ids_NT, (0, 3))
    assert torch.equal(fingerprints_of(wider, torch.nn.functional.pad(mask_NT, (0, 3))), texts_N)
    same_NM = texts_N.unsqueeze(1) == texts_N
    found = info_nce(vectors_NH, vectors_NH, 0.05, same_NM=same_NM)
    # Of the text that stands there thrice, each copy has two negatives; of the others, each has four.
    expected = 3 * math.log(1 + 2 * math.exp(-20)) + 2 * math.log(1 + 4 * math.exp(-20))
    assert float(found) == pytest.approx(expected, abs=1e-6)
    assert float(info_nce(vectors_NH, vectors_NH, 0.05)) > 3, "ln 3 for each of three copies"
