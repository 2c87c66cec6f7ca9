"""Vectors of new tokens: how they begin, that LoRA trains them alone of their matrix, saving and reloading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from conftest import build_model, byte_level_tokenizer, wordpiece_tokenizer
from helpers import Listener, data_of, recipe_data, saved_weights

from nlp_transfer import load_predictor
from nlp_transfer.errors import RecipeError
from nlp_transfer.finding import resolve
from nlp_transfer.models import Loaded, encoder_of, load_model, read_config
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run
from nlp_transfer.tasks.masked_lm import MaskedLMHead
from nlp_transfer.tuning import Lora
from nlp_transfer.vocabulary.extend import extended, grow

TEXTS = ["the tablet froze", "tablet froze: reboot", "reboot the tablet"]
ARCHITECTURES = ["bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert"]
PRETRAIN = {"name": "pretrain", "head_steps": 1, "train": {"max_steps": 2}}


def tokenizers_of(kind: str) -> tuple[Any, Any, Any]:
    """The tokenizer of an architecture, a longer one, and the new tokens."""
    tokenizer = byte_level_tokenizer() if kind == "roberta" else wordpiece_tokenizer()
    return tokenizer, *extended(tokenizer, TEXTS, 3)


def data(kind: str) -> dict[str, Any]:
    """Rows that end with a word which the tiny vocabulary spells letter by letter."""
    rows = data_of(kind)
    key = "words" if kind == "ner" else "text"

    def longer(row: dict[str, Any]) -> dict[str, Any]:
        return {key: [*row[key], "tablet"] if kind == "ner" else f"{row[key]} tablet"} | (
            {"tags": [*row["tags"], "O"]} if kind == "ner" else {}
        )

    return {name: split.map(longer, load_from_cache_file=False) for name, split in rows.items()}


def values(folder: Path, base: Path, kind: str = "classification", **changes: Any) -> dict[str, Any]:
    """A recipe with room for two new tokens; its data have one."""
    made = recipe_data(folder, base, kind, **({"stages": [PRETRAIN, "finetune"]} | changes))
    return made | {"model": {"id": str(base), "extend_vocabulary": {"tokens": 2}}, "guard": False}


# How rows begin


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "mpnet", "roberta"])
@pytest.mark.parametrize("spare", [0, 10])
def test_rows_begin_as_the_mean_of_their_pieces(kind: str, spare: int, tmp_path: Path) -> None:
    source = resolve(str(build_model(tmp_path / "base", kind, "AutoModelForMaskedLM")))
    tokenizer, longer, new = tokenizers_of(kind)
    for auto in ("AutoModelForMaskedLM", "AutoModelForTokenClassification"):
        model = load_model(auto, source, read_config(source)).model
        if spare:
            model.resize_token_embeddings(len(tokenizer) + spare)
        old = model.get_input_embeddings().weight.clone()
        bias = torch.randn(len(old))
        if auto == "AutoModelForMaskedLM":
            model.get_output_embeddings().bias.data.copy_(bias)
        assert grow(model, longer, new) == list(range(len(tokenizer), len(longer)))
        rows = model.get_input_embeddings().weight
        assert len(rows) == model.config.vocab_size == len(tokenizer) + max(spare, 3)
        assert torch.equal(rows[: len(tokenizer)], old[: len(tokenizer)])
        for token, pieces in new.items():
            row = longer.convert_tokens_to_ids(token)
            torch.testing.assert_close(rows[row], sum(old[piece] for piece in pieces) / len(pieces))
            if auto == "AutoModelForMaskedLM":
                assert model.get_output_embeddings().weight is rows
                torch.testing.assert_close(model.get_output_embeddings().bias[row], bias[pieces].mean())
        assert model(input_ids=torch.tensor([[2, len(longer) - 1, 3]])).logits.shape[1] == 3


# Under LoRA


def with_adapter(kind: str, head: str, folder: Path) -> tuple[Any, list[int]]:
    """A model with new rows under LoRA, every trained weight shaken; and its new rows."""
    source = resolve(str(build_model(folder, kind, "AutoModelForMaskedLM")))
    _, longer, new = tokenizers_of(kind)
    loaded = load_model(head, source, read_config(source))
    if head == "AutoModelForMaskedLM":
        loaded.model.get_output_embeddings().bias.data.normal_()
    rows = grow(loaded.model, longer, new)
    task = "SEQ_CLS" if "Sequence" in head else None
    model = Lora(rank=2).apply(Loaded(loaded.model, loaded.fresh, tuple(rows)), task)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), rows


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_merged_and_unmerged_models_agree(kind: str, tmp_path: Path) -> None:
    """With a tied decoder, too, whose bias PEFT alone would leave out."""
    model, rows = with_adapter(kind, "AutoModelForMaskedLM", tmp_path)
    ids = torch.tensor([[2, rows[0], rows[-1], 7, 3]])
    trained = [name for name, value in model.named_parameters() if value.requires_grad and "lora_" not in name]
    assert [name.rsplit(".", 2)[1] for name in trained] == ["trainable_tokens_delta"]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        torch.testing.assert_close(model.merge_and_unload()(input_ids=ids).logits, expected)


def test_a_head_on_its_own_reads_the_rows_as_they_are_now(tmp_path: Path) -> None:
    """Step after step: the rows move, and the head is tied to them."""
    task, rows = with_adapter("bert", "AutoModelForSequenceClassification", tmp_path / "task")
    whole, _ = with_adapter("bert", "AutoModelForMaskedLM", tmp_path / "mlm")
    encoder_of(whole).load_state_dict(encoder_of(task).state_dict(), strict=False)  # all but the pooler
    head = MaskedLMHead(whole.merge_and_unload().requires_grad_(True), encoder_of(task)).eval()
    hidden = torch.randn(2, 32)
    before = head(hidden)
    for _ in range(2):  # a second backward pass, through a graph of its own
        head(hidden)[:, rows].sum().backward()
    delta = next(value for name, value in task.named_parameters() if "trainable_tokens_delta" in name)
    assert delta.grad is not None and delta.grad.abs().sum() > 0
    with torch.no_grad():
        delta.add_(1.0)
    changed = (head(hidden) - before).abs().sum(0).nonzero().flatten().tolist()
    assert changed == rows


@pytest.mark.parametrize("kind", ["classification", "ner"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_run_with_new_tokens(kind: str, tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = recipe_from(values(tmp_path / "run", tiny_bert, kind, tuning=tuning, source_only=True))
    listener = Listener()
    result = run(recipe, data=data(kind), reporter=listener)
    assert any("new tokens for the target: tablet" in line for line in listener.said)
    base = saved_weights(tiny_bert)["embeddings.word_embeddings.weight"]
    folders = {name: result.folder / name for name in ("stages/source-only/model", "stages/1-pretrain/model", "model")}
    sizes = {name: len(transformers.AutoTokenizer.from_pretrained(folder)) for name, folder in folders.items()}
    assert list(sizes.values()) == [len(base), len(base) + 1, len(base) + 1]
    assert [transformers.AutoConfig.from_pretrained(f).vocab_size for f in folders.values()] == list(sizes.values())
    rows = {name: new_rows(folder, len(base)) for name, folder in folders.items()}
    assert rows["stages/source-only/model"].numel() == 0
    assert rows["model"].shape == rows["stages/1-pretrain/model"].shape == (1, 32)
    assert not torch.equal(rows["model"], rows["stages/1-pretrain/model"])  # trained in both

    family = "TokenClassification" if kind == "ner" else "SequenceClassification"
    library, prefix = (peft, "AutoPeftModelFor") if tuning == "lora" else (transformers, "AutoModelFor")
    # The new process of a user knows nothing of this one's random numbers.
    torch.manual_seed(99)
    more = {"num_labels": len(load_predictor(result.folder).task.labels)} if tuning == "lora" else {}
    plain = getattr(library, f"{prefix}{family}").from_pretrained(result.model, **more).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.model)
    encoded = tokenizer("the tablet was slow", return_tensors="pt")
    assert "tablet" in encoded.tokens()
    predictor = load_predictor(result.folder)
    with torch.no_grad():
        given = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        torch.testing.assert_close(plain(**given).logits, predictor.model(**given).logits)
    if tuning == "lora":
        # Bit for bit: only the new rows were trained.
        assert torch.equal(encoder_of(plain.merge_and_unload()).get_input_embeddings().weight[: len(base)], base)
        assert all(value.numel() < base.numel() for value in saved_weights(result.model).values())
    assert predictor(["the tablet was slow"])


def new_rows(folder: Path, base: int) -> torch.Tensor:
    """What a saved model holds of the rows behind those of its base."""
    weights = saved_weights(folder)
    trained = [value for name, value in weights.items() if name.endswith("trainable_tokens_delta")]
    whole = [value[base:] for name, value in weights.items() if name.endswith("word_embeddings.weight")]
    return (trained or whole or [torch.zeros(0)])[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ("joint_mlm",), "tuning": "lora"},
        {"stages": [PRETRAIN, PRETRAIN, "finetune", {"name": "self_train", "mean_teacher": {}, "rounds": 1}]},
        {"stages": [{"name": "pretrain", "objective": "tsdae", "train": {"max_steps": 2}}, "finetune"]},
        {"average": "ema", "methods": ("dann",), "tuning": {"name": "lora", "variant": "dora"}},
    ],
    ids=["joint_mlm", "self_train", "tsdae", "average"],
)
def test_new_tokens_go_with_everything_under_lora(changes: dict[str, Any], tiny_bert: Path, tmp_path: Path) -> None:
    result = run(
        recipe_from(values(tmp_path / "run", tiny_bert, **({"tuning": "lora"} | changes))), data=data("classification")
    )
    assert load_predictor(result.folder)(["the tablet was slow"])


def test_a_run_goes_on_from_one_with_new_tokens(tiny_bert: Path, tmp_path: Path) -> None:
    """Its adapter is merged, rows included, and its tokens are no longer new."""
    first = run(recipe_from(values(tmp_path / "first", tiny_bert, tuning="lora")), data=data("classification"))
    listener = Listener()
    again = run(recipe_from(values(tmp_path / "again", first.folder)), data=data("classification"), reporter=listener)
    assert any("vocabulary: 0 new tokens" in line for line in listener.said)
    merged = next((again.folder / "stages").glob("base-*"))
    rows = saved_weights(merged)["bert.embeddings.word_embeddings.weight"]
    assert torch.equal(rows[-1:], new_rows(first.model, len(rows) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_interrupted_run_ends_the_same(tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    plan = [{"name": "pretrain", "head_steps": 0, "train": {"max_steps": 4, "evaluate_every": 2}}, "finetune"]
    weights = []
    for name, stops in (("whole", []), ("cut", [("pretrain", 3), ("finetune", 3)])):
        given = values(tmp_path / name, tiny_bert, tuning=tuning, stages=plan, max_steps=4, evaluate_every=2)
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                run(recipe_from(given), data=data("classification"), reporter=Listener(*stop))
        if stops:
            (newest,) = (tmp_path / name / "stages/2-finetune").glob("checkpoint-2")
            size = transformers.AutoConfig.from_pretrained(tiny_bert).vocab_size
            whole = [value for value in saved_weights(newest).values() if len(value) >= size]
            assert bool(whole) == (tuning == "full"), "under LoRA a checkpoint holds the new rows, not the matrix"
        weights.append(saved_weights(run(recipe_from(given), data=data("classification")).model))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_recipes_that_cannot_train_new_tokens_are_refused(tmp_path: Path) -> None:
    given = values(tmp_path, tmp_path, tuning="top_layers", stages=["finetune"])
    del given["data"]["target"]["unlabelled"]
    with pytest.raises(RecipeError) as error:
        recipe_from(given)
    for words in (
        "'top_layers' never trains their vectors. Use full or lora",
        "Add the stage pretrain",
        "Set data.target.unlabelled",
    ):
        assert words in str(error.value)
    cut = values(tmp_path, tmp_path, "ner", tuning="lora")
    recipe_from(cut)
    cut["data"]["long_texts"] = "truncate"
    with pytest.raises(RecipeError, match=r"the twin would tag other words\. Use long_texts: windows"):
        recipe_from(cut)


@pytest.mark.parametrize(
    ("stage", "reads"),
    [
        ("pretrain", True),
        ({"name": "pretrain", "text": "both"}, True),
        ({"name": "pretrain", "text": "source"}, False),
        ({"name": "pretrain", "corpus": "other.txt"}, False),
        ({"name": "pretrain", "corpus": "other.txt", "text": "target"}, True),
        ({"name": "pretrain", "corpus": {"path": "other.txt", "choose": {"share": 0.1}}}, True),
        ({"name": "pretrain", "corpus": {"path": "other.txt", "choose": {"share": 0.1, "like": "source"}}}, False),
    ],
)
def test_tokens_of_target_words_are_trained_on_target_text(stage: Any, reads: bool, tmp_path: Path) -> None:
    given = values(tmp_path, tmp_path, stages=[stage, "finetune"])
    if reads:
        assert recipe_from(given).model.extend_vocabulary is not None
        return
    with pytest.raises(RecipeError, match="only pretraining on target text trains their vectors"):
        recipe_from(given)
