"""Masked language modelling: the head at masked positions is the full head; masks, packing, and fresh heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from conftest import build_model, byte_level_tokenizer, sentencepiece_tokenizer, tiny_config, wordpiece_tokenizer
from helpers import Listener, data_of, make_recipe, saved_weights, text_rows

from nlp_transfer import jobs
from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.blocks import Block, pack, special_edges
from nlp_transfer.data.masking import MaskedBlocks, blocks_of_rows, mask_block
from nlp_transfer.data.pairs import NO_TARGET, Pick
from nlp_transfer.data.windows import Limits, windows_of_texts
from nlp_transfer.errors import ModelError
from nlp_transfer.objectives import MaskedLMObjective
from nlp_transfer.running import run
from nlp_transfer.units import UNKNOWN

KINDS = ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet"]
TOKENIZERS = {"wordpiece": wordpiece_tokenizer, "bytes": byte_level_tokenizer, "pieces": sentencepiece_tokenizer}
TEXTS = [row["text"] for row in text_rows(40)] + ["unbelievableness crashes", "Anna Berg of Acme Corp, Oslo!"]
PRETRAIN = {"name": "pretrain", "head_steps": 2, "train": {"max_steps": 2, "batch_size": 2, "learning_rate": 0.01}}


def blocks_of(name: str = "wordpiece", length: int = 24, **settings: Any) -> tuple[Any, list[Block]]:
    tokenizer = TOKENIZERS[name]()
    return tokenizer, list(pack(tokenizer, TEXTS, length, **settings))


# The head


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_trained_weight_takes_part_in_the_loss(kind: str, tied: bool) -> None:
    """As training over several processes needs it; untied heads have a bias that nothing reads."""
    tokenizer, blocks = blocks_of("bytes" if kind == "roberta" else "wordpiece")
    config = tiny_config(kind, len(tokenizer))
    config.tie_word_embeddings = tied
    model = transformers.AutoModelForMaskedLM.from_config(config).train()
    data = MaskedBlocks(blocks, 0.15, tokenizer.mask_token_id, len(tokenizer), 3)
    batch = PairCollator(tokenizer.pad_token_id)([data[Pick(number, NO_TARGET, 0)] for number in (0, 1)])
    with MaskedLMObjective(model) as objective:
        assert model.training
        objective.loss_sum(model, batch, 0.0)[0].backward()
    assert [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
    still = [key for key, value in model.named_parameters() if not value.requires_grad]
    assert all("bias" in key for key in still) and (not tied or not still)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_full_head(kind: str) -> None:
    tokenizer, blocks = blocks_of("bytes" if kind == "roberta" else "wordpiece")
    torch.manual_seed(2)
    model = transformers.AutoModelForMaskedLM.from_config(tiny_config(kind, len(tokenizer))).eval()
    data = MaskedBlocks(blocks, 0.15, tokenizer.mask_token_id, len(tokenizer), 3)
    items = [data[Pick(number, NO_TARGET, 0)] for number in (0, 1, len(blocks) - 1)]  # the last one is shorter
    batch = PairCollator(tokenizer.pad_token_id)(items)
    assert not batch["attention_mask"].all()
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    stock = model(**inputs, labels=batch["labels"])
    stock.loss.backward()
    expected = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    with MaskedLMObjective(model) as objective:
        total, step = objective.loss_sum(model, batch, 0.0)
        assert step is None
        (total / objective.count(batch)).backward()
        assert torch.equal(model(**inputs).logits, stock.logits)  # outside a step nothing is narrowed
    assert (total / objective.count(batch)).item() == pytest.approx(stock.loss.item(), rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, atol=1e-6, rtol=1e-4)
    assert not model.base_model._forward_hooks


def test_head_sees_masked_positions_only() -> None:
    tokenizer, blocks = blocks_of()
    model = transformers.AutoModelForMaskedLM.from_config(tiny_config("bert", len(tokenizer)))
    data = MaskedBlocks(blocks, 0.15, tokenizer.mask_token_id, len(tokenizer), 3)
    batch = PairCollator(0)([data[Pick(number, NO_TARGET, 0)] for number in range(4)])
    shapes = []
    model.cls.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    with MaskedLMObjective(model) as objective:
        shapes.clear()  # It has looked once at what the logits depend on.
        objective.loss_sum(model, batch, 0.0)
    assert shapes == [(1, int(objective.count(batch)), len(tokenizer))]


# Fresh heads


def spy_on_phases(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, torch.Tensor]]:
    """Remember the weights before and after each training, by its title."""
    seen: dict[str, dict[str, torch.Tensor]] = {}
    train = jobs.train

    def spied(job: Any, model: Any) -> Any:
        seen[f"before {job.title}"] = {name: value.clone() for name, value in model.state_dict().items()}
        facts = train(job, model)
        seen[f"after {job.title}"] = {name: value.clone() for name, value in model.state_dict().items()}
        return facts

    monkeypatch.setattr(jobs, "train", spied)
    return seen


def test_fresh_head_is_fitted_with_the_encoder_frozen(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spy_on_phases(monkeypatch)
    listener = Listener()
    recipe = make_recipe(tmp_path / "run", tiny_bert, stages=[PRETRAIN, "finetune"])
    run(recipe, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert any("no masked-LM head" in line and "encoder frozen" in line for line in listener.said)
    before, after = seen["before pretrain head"], seen["after pretrain head"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not [name for name in moved if name.startswith("bert.") or "decoder.weight" in name]
    before, after = seen["before pretrain"], seen["after pretrain"]
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("bert.encoder"))
    assert not (tmp_path / "run/stages/1-pretrain/head").exists()
    tied_in(tmp_path / "run/stages/1-pretrain/model")


def tied_in(folder: Path) -> None:
    assert "cls.predictions.decoder.weight" not in saved_weights(folder)
    model, info = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_head_of_the_checkpoint_is_used_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build_model(tmp_path / "base", "bert", "AutoModelForMaskedLM")
    seen = spy_on_phases(monkeypatch)
    listener = Listener()
    stage = {key: value for key, value in PRETRAIN.items() if key != "head_steps"}
    recipe = make_recipe(tmp_path / "run", base, stages=[stage, "finetune"])
    run(recipe, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert "before pretrain head" not in seen
    assert not any("masked-LM head" in line for line in listener.said)
    head = "cls.predictions.transform.dense.weight"
    assert torch.equal(seen["before pretrain"][head], saved_weights(base)[head])


@pytest.mark.parametrize("tuning", ["full", "lora", "top_layers"])
def test_head_steps_with_a_head_of_the_checkpoint(tuning: str, tmp_path: Path) -> None:
    """Under LoRA that head stays as it is, so there is nothing to fit before the adapters."""
    base = build_model(tmp_path / "base", "bert", "AutoModelForMaskedLM")
    recipe = make_recipe(tmp_path / "run", base, tuning=tuning, stages=[PRETRAIN, "finetune"])
    if tuning == "lora":
        with pytest.raises(ModelError, match="head_steps is 2, but tuning 'lora' leaves"):
            run(recipe, data=data_of("classification"))
    else:
        run(recipe, data=data_of("classification"))


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "modernbert"])
def test_adapters_with_a_fresh_head_keep_the_decoder_tied_and_reload(kind: str, tmp_path: Path) -> None:
    from peft import PeftModel

    base = build_model(tmp_path / "base", kind)
    recipe = make_recipe(tmp_path / "run", base, tuning={"name": "lora", "rank": 2}, stages=[PRETRAIN, "finetune"])
    run(recipe, data=data_of("classification"))
    folder = tmp_path / "run/stages/1-pretrain/model"
    embeddings = saved_weights(base)
    embedding = next(value for name, value in embeddings.items() if "word_embeddings" in name or "tok_embed" in name)
    assert not [name for name, value in saved_weights(folder).items() if value.shape == embedding.shape]
    logits = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = PeftModel.from_pretrained(transformers.AutoModelForMaskedLM.from_pretrained(base), folder).eval()
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        logits.append(model(input_ids=torch.tensor([[0, 50, 60, 4, 2]])).logits)
    assert torch.equal(*logits)


# Masks


@pytest.mark.parametrize("name", TOKENIZERS)
def test_masks_hide_whole_words_only(name: str) -> None:
    tokenizer, blocks = blocks_of(name)
    longest = 0
    for number, block in enumerate(blocks):
        masked = mask_block(block, 0.3, tokenizer.mask_token_id, len(tokenizer), np.random.default_rng(number))
        hidden = {int(group) for group in block.groups[masked["units"]]}
        assert -1 not in hidden
        assert sorted(masked["units"]) == sorted(np.flatnonzero(np.isin(block.groups, list(hidden))))
        assert (masked["unit_labels"] == block.input_ids[masked["units"]]).all()
        others = np.setdiff1d(np.arange(len(block.input_ids)), masked["units"])
        assert (masked["input_ids"][others] == block.input_ids[others]).all()
        longest = max(longest, max(np.bincount(block.groups[block.groups >= 0])))
    assert longest > 1


def test_words_are_those_of_the_text() -> None:
    for name in ("wordpiece", "pieces"):
        tokenizer = TOKENIZERS[name]()
        (block,) = pack(tokenizer, ["slow sync crashed unbelievably"], 64)
        assert len(set(block.groups[block.groups >= 0])) == 4
        (block,) = pack(tokenizer, ["slow sync crashed unbelievably"], 64, whole_words=False)
        assert len(set(block.groups[block.groups >= 0])) == len(block.groups) - 2


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_rate_is_the_share_of_words(rate: float) -> None:
    tokenizer, blocks = blocks_of(length=64)
    for number, block in enumerate(blocks):
        masked = mask_block(block, rate, tokenizer.mask_token_id, len(tokenizer), np.random.default_rng(number))
        words = len(set(block.groups[block.groups >= 0]))
        assert len(set(block.groups[masked["units"]])) == max(1, round(rate * words))


def masks_of_turns(tokenizer: Any, block: Any) -> int:
    data = MaskedBlocks([block], 0.3, tokenizer.mask_token_id, len(tokenizer), 3)
    return len({tuple(data.masked(0, 0, turn)["input_ids"].tolist()) for turn in range(3)})


def test_masks_are_a_pure_function_of_seed_epoch_and_block() -> None:
    tokenizer, blocks = blocks_of()

    def masks(seed: int, epoch: int, number: int) -> list[int]:
        data = MaskedBlocks(blocks, 0.3, tokenizer.mask_token_id, len(tokenizer), seed)
        np.random.seed(np.random.randint(1000))  # global state must not matter
        return data[Pick(number, NO_TARGET, epoch)]["source"]["input_ids"].tolist()

    assert masks(3, 0, 1) == masks(3, 0, 1)
    assert masks(3, 0, 1) != masks(3, 1, 1)
    assert masks(3, 0, 1) != masks(4, 0, 1)
    assert masks_of_turns(tokenizer, blocks[1]) == 3, "others each time that a row comes in an epoch"
    same = [blocks[1]] * 2
    data = MaskedBlocks(same, 0.3, tokenizer.mask_token_id, len(tokenizer), 3)
    assert not np.array_equal(*(data[Pick(number, NO_TARGET, 0)]["source"]["units"] for number in (0, 1)))
    assert (
        blocks[1].input_ids.tolist() == list(pack(tokenizer, TEXTS, 24))[1].input_ids.tolist()
    )  # not changed in place


def test_fates_are_80_10_10() -> None:
    vocabulary, mask = 50_000, 4
    block = Block(np.arange(10, 20_010), np.arange(20_000))
    masked = mask_block(block, 0.5, mask, vocabulary, np.random.default_rng(0))
    now, then = masked["input_ids"][masked["units"]], masked["unit_labels"]
    assert len(now) == 10_000
    assert (now == mask).mean() == pytest.approx(0.8, abs=0.015)
    assert (now == then).mean() == pytest.approx(0.1, abs=0.015)
    random = now[(now != mask) & (now != then)]
    assert random.min() >= 0
    assert random.max() < vocabulary
    assert len(set(random)) > 900


# Packing


@pytest.mark.parametrize("length", [8, 24, 64])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_packing_loses_no_token_and_cuts_no_word(name: str, length: int) -> None:
    tokenizer, blocks = blocks_of(name, length)
    prefix, suffix = special_edges(tokenizer)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ids = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    expected = [token for text in ids for token in text]
    packed = [int(token) for block in blocks for token in block.input_ids if int(token) not in special]
    assert packed == expected
    for block in blocks:
        assert len(block.input_ids) == len(block.groups) <= length
        assert block.input_ids[: len(prefix)].tolist() == prefix
        assert block.input_ids[len(block.input_ids) - len(suffix) :].tolist() == suffix
    words = sum(len(set(block.groups[block.groups >= 0])) for block in blocks)
    in_texts = sum(len({word for word in tokenizer(text).word_ids() if word is not None}) for text in TEXTS)
    room = length - len(prefix) - len(suffix)
    longer = sum(1 for text in TEXTS for size in np.bincount(word_sizes(tokenizer, text)) if size > room)
    marks = 2 if name == "pieces" else 0  # "Corp," and "Oslo!" are each one word to that tokenizer
    assert in_texts <= words <= in_texts + marks + 8 * longer  # only a word longer than a block is cut


def word_sizes(tokenizer: Any, text: str) -> list[int]:
    return [word for word in tokenizer(text, add_special_tokens=False).word_ids() if word is not None]


def test_blocks_are_full() -> None:
    _, blocks = blocks_of(length=24)
    assert np.mean([len(block.input_ids) for block in blocks[:-1]]) > 20


def test_texts_are_separated() -> None:
    tokenizer = wordpiece_tokenizer()
    (block,) = pack(tokenizer, ["good film", "bad plot"], 64)
    names = tokenizer.convert_ids_to_tokens(block.input_ids.tolist())
    assert names == ["[CLS]", "good", "film", "[SEP]", "bad", "plot", "[SEP]"]
    assert block.groups.tolist() == [-1, 0, 1, -1, 3, 4, -1]


@pytest.mark.parametrize("texts", [[""], [" ", ""]])
def test_nothing_to_pack_gives_no_block(texts: list[str]) -> None:
    assert list(pack(wordpiece_tokenizer(), texts, 64)) == []


def test_padding_is_never_a_unit() -> None:
    tokenizer, blocks = blocks_of()
    data = MaskedBlocks(blocks, 0.9, tokenizer.mask_token_id, len(tokenizer), 3)
    batch = PairCollator(0)([data[Pick(number, NO_TARGET, 0)] for number in range(len(blocks))])
    assert ((batch["labels"] != UNKNOWN) == batch["units"]).all()
    assert not (batch["units"] & (batch["attention_mask"] == 0)).any()


def test_texts_without_spaces_are_no_single_word() -> None:
    text = "北京很好吃我们去北京吃饭。 unbelievably good"
    pieces = tokenizers.Tokenizer(
        tokenizers.models.Unigram([("<unk>", 0.0), *((one, -2.0) for one in {*text, "▁"})], 0)
    )
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    names = {"unk_token": "<unk>", "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, **names)
    (block,) = pack(tokenizer, [text], 256)
    ids = tokenizer(text, return_offsets_mapping=True)
    covered: dict[int, set[int]] = {}
    for group, (begin, end) in zip(block.groups, ids["offset_mapping"], strict=True):
        if group >= 0:
            covered.setdefault(int(group), set()).update(range(begin, end))
    whole = ["".join(text[at] for at in sorted(places)).strip() for places in covered.values()]
    assert whole == [*"北京很好吃我们去北京吃饭。", "unbelievably", "good"]
    windows = windows_of_texts(tokenizer, [text], Limits(256))
    (own,) = blocks_of_rows(tokenizer, [text], windows, Limits(256))
    assert (own.groups == block.groups).all()
