"""Words that become tokens: the costliest ones, cut as before elsewhere, with trained vectors, saved and reloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import build_model, byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from helpers import Listener, data_of, make_recipe, recipe_data, saved_weights

from nlp_transfer import load_predictor
from nlp_transfer.errors import ModelError, RecipeError
from nlp_transfer.models import load_model, read_config, resolve
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run
from nlp_transfer.vocabulary import costly_words, grow, with_words

TEXTS = ["The Tablet froze, tablets froze!", "tablet: re-boot. tablet", "reboot, FROZE", "naïve café reboot once_only"]
OTHERS = [
    "the tablets were re-booted",
    "tabletop froze_n",
    "x-tablet's (reboots)",
    "good film, was it?",
    "Anna 1,200.5!",
]


def test_words_are_those_that_shorten_the_text_most() -> None:
    tokenizer = wordpiece_tokenizer()
    words = costly_words(tokenizer, TEXTS, 10)
    counts = {"tablet": 3, "froze": 3, "reboot": 2}  # twice: "re", "boot"… are words of "re-boot", once each
    assert dict.fromkeys(words) == dict.fromkeys(sorted(counts, key=lambda word: -counts[word] * (len(word) - 1)))
    for word, pieces in words.items():
        assert tokenizer.convert_ids_to_tokens(pieces) == [word[0], *(f"##{letter}" for letter in word[1:])]
    assert list(costly_words(tokenizer, TEXTS, 1)) == ["tablet"]
    assert costly_words(tokenizer, ["good film", "good film"], 5) == {}


def test_other_text_is_cut_as_before_and_offsets_are_right(tmp_path: Path) -> None:
    old = wordpiece_tokenizer()
    words = costly_words(old, TEXTS, 10)
    with_words(old, words).save_pretrained(tmp_path)
    new = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(new) == len(old) + 3
    for text in [*TEXTS, *OTHERS]:
        before, after = (it(text, return_offsets_mapping=True) for it in (old, new))
        assert len({word for word in before.word_ids() if word is not None}) >= 2
        expected: list[tuple[str, tuple[int, int]]] = []
        for word in sorted({word for word in before.word_ids() if word is not None}):
            places = [at for at, other in enumerate(before.word_ids()) if other == word]
            begin, end = before["offset_mapping"][places[0]][0], before["offset_mapping"][places[-1]][1]
            name = text[begin:end].lower()
            alone = not any(text[at : at + 1] == "_" for at in (begin - 1, end))
            if name in words and alone:
                expected.append((name, (begin, end)))
            else:
                pieces = zip(before.tokens(), before["offset_mapping"], strict=True)
                expected += [pair for at, pair in enumerate(pieces) if at in places]
        assert list(zip(after.tokens(), after["offset_mapping"], strict=True))[1:-1] == expected
        ids = [word for word in after.word_ids() if word is not None]
        assert ids == sorted(ids)
        assert len(new.tokenize(text)) <= len(old.tokenize(text))
    assert old.tokenize("tablet") != ["tablet"]  # the copy was extended, not the tokenizer itself


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_tokenizers_with_spaces_in_their_pieces_are_refused(make: Any) -> None:
    with pytest.raises(ModelError, match="works with WordPiece tokenizers"):
        costly_words(make(), TEXTS, 3)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "mpnet"])
@pytest.mark.parametrize("spare", [0, 10])
def test_rows_begin_as_the_mean_of_their_pieces(kind: str, spare: int, tmp_path: Path) -> None:
    source = resolve(str(build_model(tmp_path / "base", kind, "AutoModelForMaskedLM")))
    tokenizer = wordpiece_tokenizer()
    words = costly_words(tokenizer, TEXTS, 3)
    extended = with_words(tokenizer, words)
    for auto in ("AutoModelForMaskedLM", "AutoModelForTokenClassification"):
        model = load_model(auto, source, read_config(source)).model
        if spare:
            model.resize_token_embeddings(len(tokenizer) + spare)
        old = model.get_input_embeddings().weight.clone()
        bias = torch.randn(len(old))
        if auto == "AutoModelForMaskedLM":
            model.get_output_embeddings().bias.data.copy_(bias)
        grow(model, extended, words)
        new = model.get_input_embeddings().weight
        assert len(new) == model.config.vocab_size == len(tokenizer) + max(spare, 3)
        assert torch.equal(new[: len(tokenizer)], old[: len(tokenizer)])
        for word, pieces in words.items():
            row = extended.convert_tokens_to_ids(word)
            assert row >= len(tokenizer)
            mean = sum(old[piece] for piece in pieces) / len(pieces)
            torch.testing.assert_close(new[row], mean)
            if auto == "AutoModelForMaskedLM":
                assert model.get_output_embeddings().weight is new
                torch.testing.assert_close(model.get_output_embeddings().bias[row], bias[pieces].mean())
        assert model(input_ids=torch.tensor([[2, len(tokenizer) + 2, 3]])).logits.shape[1] == 3


def data(kind: str) -> dict[str, Any]:
    rows = data_of(kind)
    key = "words" if kind == "ner" else "text"

    def longer(row: dict[str, Any]) -> dict[str, Any]:
        return {key: [*row[key], "tablet"] if kind == "ner" else f"{row[key]} tablet"} | (
            {"tags": [*row["tags"], "O"]} if kind == "ner" else {}
        )

    return {name: split.map(longer, load_from_cache_file=False) for name, split in rows.items()}


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_run_with_new_words(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    plan = [{"name": "pretrain", "head_steps": 1, "train": {"max_steps": 2}}, "finetune"]
    values = recipe_data(tmp_path / "run", tiny_bert, kind, stages=plan) | {"source_only": True, "guard": False}
    values["model"] = {"id": str(tiny_bert), "extend_vocabulary": {"tokens": 2}}
    listener = Listener()
    result = run(recipe_from(values), data=data(kind), reporter=listener)  # type: ignore[arg-type]
    assert any("words of the target become tokens: tablet" in line for line in listener.said)
    base = len(transformers.AutoTokenizer.from_pretrained(tiny_bert))
    rows = {}
    for name in ("stages/source-only/model", "stages/1-pretrain/model", "model"):
        weights = saved_weights(result.folder / name)
        rows[name] = weights["bert.embeddings.word_embeddings.weight"]
        size = transformers.AutoConfig.from_pretrained(result.folder / name).vocab_size
        assert size == len(rows[name]) == len(transformers.AutoTokenizer.from_pretrained(result.folder / name))
    assert len(rows["stages/source-only/model"]) == base
    assert base < len(rows["model"]) == len(rows["stages/1-pretrain/model"]) <= base + 2
    assert not torch.equal(rows["model"][base], rows["stages/1-pretrain/model"][base])  # trained in both
    head = "AutoModelForTokenClassification" if kind == "ner" else "AutoModelForSequenceClassification"
    plain = getattr(transformers, head).from_pretrained(result.folder / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.folder / "model")
    encoded = tokenizer("the tablet was slow", return_tensors="pt")
    assert "tablet" in encoded.tokens()
    predictor = load_predictor(result.folder)
    with torch.no_grad():
        expected = predictor.model(**{key: encoded[key] for key in ("input_ids", "attention_mask")}).logits
        assert torch.equal(plain(**encoded).logits, expected)
    assert predictor(["the tablet was slow"])


def test_interrupted_run_finds_the_same_words(tiny_bert: Path, tmp_path: Path) -> None:
    plan = [{"name": "pretrain", "head_steps": 0, "train": {"max_steps": 1}}, "finetune"]
    weights = []
    for name in ("whole", "cut"):
        values = recipe_data(tmp_path / name, tiny_bert, stages=plan, max_steps=4, evaluate_every=2)
        values["model"] = {"id": str(tiny_bert), "extend_vocabulary": {"tokens": 2}}
        if name == "cut":
            with pytest.raises(KeyboardInterrupt):
                stop = Listener("finetune", 3)
                run(recipe_from(values), data=data("classification"), reporter=stop)  # type: ignore[arg-type]
        weights.append(saved_weights(run(recipe_from(values), data=data("classification")).folder / "model"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_recipes_that_cannot_train_new_words_are_refused(tmp_path: Path) -> None:
    values = recipe_data(tmp_path, tmp_path, tuning="lora")
    values["model"] = {"id": "x", "extend_vocabulary": {"tokens": 2}}
    del values["data"]["target"]["unlabelled"]
    with pytest.raises(RecipeError) as error:
        recipe_from(values)
    for words in ("tuning 'lora' never trains", "Add the stage pretrain", "Set data.target.unlabelled"):
        assert words in str(error.value)
    make_recipe(tmp_path, tmp_path, tuning="lora")
