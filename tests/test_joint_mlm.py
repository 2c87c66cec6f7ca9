"""Masked language modelling beside the task: UDALM's mixture, every architecture's head, copies that are no units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import build_model, byte_level_tokenizer, sentencepiece_tokenizer, tiny_config, wordpiece_tokenizer
from helpers import Listener, data_of, make_recipe, recipe_data, rows_of, same_weights, saved_weights, text_rows

from nlp_transfer import jobs, models, parts
from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.masking import MaskedBlocks, blocks_of_rows
from nlp_transfer.data.pairs import PairedDomains, Pick
from nlp_transfer.data.windows import Limits, windows_of_texts
from nlp_transfer.errors import ModelError, RecipeError
from nlp_transfer.methods.joint_mlm import JointMlm
from nlp_transfer.objectives import MaskedLMObjective, TaskObjective
from nlp_transfer.running import run
from nlp_transfer.tasks.classification import Classification
from nlp_transfer.tasks.masked_lm import MaskedLMHead
from nlp_transfer.units import Sizes, Step

KINDS = ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet"]
TOKENIZERS = {"wordpiece": wordpiece_tokenizer, "bytes": byte_level_tokenizer, "pieces": sentencepiece_tokenizer}
QUICK: dict[str, Any] = {"name": "joint_mlm", "head_steps": 2}
LIMITS = Limits(16, 4)
TEXTS = [row["text"] for row in text_rows(12, 5, longest=30)] + ["unbelievableness crashes"]


def pair_of(kind: str, **settings: Any) -> tuple[Any, Any, Any]:
    """A task model and a masked-LM model with the same encoder, and their tokenizer."""
    tokenizer = byte_level_tokenizer() if kind == "roberta" else wordpiece_tokenizer()
    config = tiny_config(kind, len(tokenizer))
    for key, value in {"num_labels": 3, "mlp_dropout": 0.0, **settings}.items():
        setattr(config, key, value)
    torch.manual_seed(4)
    head = transformers.AutoModelForMaskedLM.from_config(config).eval()
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    models.encoder_of(model).load_state_dict(models.encoder_of(head).state_dict(), strict=False)
    return model, head, tokenizer


def masked_batch(tokenizer: Any, targets: bool = False, epoch: int = 0) -> dict[str, torch.Tensor]:
    """Four source rows and as many masked copies, and target rows if wanted."""
    task = Classification(["bad", "good", "poor"])
    source = task.encode(text_rows(4), tokenizer, LIMITS, labelled=True)
    target = task.encode(text_rows(12, 5, longest=30), tokenizer, LIMITS, labelled=False)
    blocks = blocks_of_rows(tokenizer, list(text_rows(12, 5, longest=30)["text"]), target.windows, LIMITS)
    masks = MaskedBlocks(blocks, 0.3, tokenizer.mask_token_id, len(tokenizer), 3)
    data = PairedDomains(source.features, target.features if targets else None, masks.masked)
    return PairCollator(tokenizer.pad_token_id)([data[Pick(at, at + 2, epoch)] for at in range(4)])


@pytest.mark.parametrize("kind", [*KINDS, "bert untied", "deberta-v2 own"])
def test_loss_and_gradients_are_those_of_the_stock_model(kind: str) -> None:
    """The joint pass against two passes: the task model on source, a complete masked-LM model on the copies."""
    settings = {"bert untied": {"tie_word_embeddings": False}, "deberta-v2 own": {"legacy": False}}.get(kind, {})
    model, stock, tokenizer = pair_of(kind.split()[0], **settings)
    batch = masked_batch(tokenizer)
    rows = len(batch["domain"])
    labels = batch["masked_labels"].masked_fill(~batch["masked_units"], -100)
    expected = stock(batch["input_ids"][rows:], batch["attention_mask"][rows:], labels=labels).loss
    expected.backward()
    names = models.encoder_of(stock).named_parameters()
    wanted = {name: value.grad.clone() for name, value in names if value.grad is not None}
    method = JointMlm(Sizes(32, 3))
    method.head = MaskedLMHead(stock, models.encoder_of(model))
    method.head.eval()
    inside = [name for name, _ in method.named_parameters()]
    assert inside
    assert ("head.layers.cls.predictions.decoder.weight" in inside) == (kind == "bert untied")
    _, step = TaskObjective(Classification(["bad", "good", "poor"])).loss_sum(model, batch, 0.0)
    assert step is not None
    loss = method.terms(step)["mlm"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    ours = dict(models.encoder_of(model).named_parameters())
    for name, gradient in wanted.items():
        torch.testing.assert_close(ours[name].grad, gradient, atol=1e-6, rtol=1e-3)
    assert all((value.grad is not None) == value.requires_grad for value in method.parameters())
    unused = [name for name, value in method.named_parameters() if not value.requires_grad]
    assert unused == (["head.layers.cls.predictions.bias"] if kind == "bert untied" else [])


@pytest.mark.parametrize("masked", [1, 4, 8])
def test_mixture_is_the_papers(masked: int) -> None:
    """λ L_task + (1 − λ) L_MLM with λ = n / (n + m), up to the factor λ that the task's loss does not carry."""
    torch.manual_seed(0)
    sources, logits, labels = 4, torch.randn(7, 9), torch.randint(0, 9, (7,))
    probabilities = (np.exp(logits.numpy()).T / np.exp(logits.numpy()).sum(1)).T
    mlm = -np.mean([np.log(probabilities[at, label]) for at, label in enumerate(labels.tolist())])
    lam = sources / (sources + masked)
    batch = {
        "input_ids": torch.zeros(sources + masked, 7, dtype=torch.long), "domain": torch.zeros(sources),
        "attention_mask": torch.ones(sources + masked, 7), "labels": torch.zeros(sources, dtype=torch.long),
        "weight": torch.ones(sources), "masked_units": torch.zeros(masked, 7, dtype=torch.bool),
        "masked_labels": torch.zeros(masked, 7, dtype=torch.long),
    }  # fmt: skip
    batch["masked_units"][0] = True
    batch["masked_labels"][0] = labels
    hidden = torch.zeros(sources + masked, 7, 9)
    hidden[sources] = logits
    output = transformers.modeling_outputs.SequenceClassifierOutput(
        logits=torch.randn(sources + masked, 3), hidden_states=(hidden,)
    )
    total, step = TaskObjective(Classification(["a", "b", "c"])).loss_sum(lambda **_: output, batch, 0.0)
    method = JointMlm(Sizes(9, 3), weight=1.0)
    method.head = torch.nn.Identity()
    assert step is not None
    task = total.item() / sources
    ours = task + method.terms(step)["mlm"].item()
    assert ours == pytest.approx((lam * task + (1 - lam) * mlm) / lam, rel=1e-5)


def test_copies_are_no_units() -> None:
    """Task loss, units and domains of a batch are the same with and without its masked copies."""
    model, _, tokenizer = pair_of("bert")
    objective = TaskObjective(Classification(["bad", "good", "poor"]))
    batch = masked_batch(tokenizer, targets=True)
    plain = {key: value for key, value in batch.items() if not key.startswith("masked")}
    rows = len(batch["domain"])
    plain |= {key: plain[key][:rows] for key in ("input_ids", "attention_mask")}
    assert len(batch["input_ids"]) == 12
    assert rows == 8
    results = [objective.loss_sum(model, given, 0.0) for given in (batch, plain)]
    assert torch.equal(objective.count(batch), objective.count(plain))
    torch.testing.assert_close(results[0][0], results[1][0])
    one, other = results[0][1], results[1][1]
    assert one is not None and other is not None
    for name in ("features_UH", "logits_UC", "labels_U", "weight_U", "domain_U"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))
    assert one.domain_U.tolist() == [0] * 4 + [1] * 4
    assert one.masked is not None and other.masked is None
    assert one.masked.share == 1.0


def test_head_without_ties_may_have_been_fitted() -> None:
    """Fitting freezes the bias that nothing reads."""
    model, stock, _ = pair_of("bert", tie_word_embeddings=False)
    with MaskedLMObjective(stock):
        pass
    head = MaskedLMHead(stock, model.bert)
    frozen = [name for name, weight in head.named_parameters() if not weight.requires_grad]
    assert frozen == ["layers.cls.predictions.bias"]


def test_head_computes_at_masked_positions_only() -> None:
    model, stock, tokenizer = pair_of("bert")
    head = MaskedLMHead(stock, model.bert)
    shapes = []
    head.layers["cls"].register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    assert head(torch.randn(5, 32)).shape == (5, len(tokenizer))
    assert head(torch.zeros(0, 32)).shape == (0, len(tokenizer))
    assert shapes == [(1, 5, len(tokenizer)), (1, 0, len(tokenizer))]


def test_batch_without_a_masked_token_gives_nothing() -> None:
    model, stock, tokenizer = pair_of("bert")
    batch = masked_batch(tokenizer)
    batch["masked_units"][:] = False
    _, step = TaskObjective(Classification(["bad", "good", "poor"])).loss_sum(model, batch, 0.0)
    method = JointMlm(Sizes(32, 3))
    assert step is not None
    with pytest.raises(ValueError, match="no head"):
        method.terms(step)
    method.head = MaskedLMHead(stock, model.bert)
    loss = method.terms(step)["mlm"]
    loss.backward()
    assert loss.item() == 0.0
    assert all(value.grad is not None for value in method.parameters())


class Scaled(transformers.BertForMaskedLM):
    """A head that reads something else than the last hidden states."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + (output.hidden_states[0].mean() if output.hidden_states else 0.0)
        return output


def test_head_that_cannot_stand_alone_is_refused(tiny_bert: Path, tmp_path: Path, monkeypatch: Any) -> None:
    load = models.load_model

    def loading(kind: str, *args: Any) -> Any:
        loaded = load(kind, *args)
        if kind == "AutoModelForMaskedLM":
            loaded.model.__class__ = Scaled
            torch.nn.init.ones_(loaded.model.bert.embeddings.LayerNorm.bias)
        return loaded

    monkeypatch.setattr(models, "load_model", loading)
    recipe = make_recipe(tmp_path / "run", tiny_bert, methods=({"name": "joint_mlm", "head_steps": 0},))
    with pytest.raises(ModelError, match="'joint_mlm' cannot use its masked-LM head"):
        run(recipe, data=data_of("classification"))


# Masks


@pytest.mark.parametrize("name", TOKENIZERS)
def test_blocks_are_the_windows_and_words_are_whole(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    windows = windows_of_texts(tokenizer, TEXTS, LIMITS)
    assert len(windows) > len(TEXTS)
    blocks = blocks_of_rows(tokenizer, TEXTS, windows, LIMITS)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    masks = MaskedBlocks(blocks, 0.3, tokenizer.mask_token_id, len(tokenizer), 3)
    for number, (window, block) in enumerate(zip(windows, blocks, strict=True)):
        assert block.input_ids.tolist() == window.input_ids
        assert ((block.groups == -1) == np.isin(window.input_ids, list(special))).all()
        copy = masks.masked(number, 1)
        hidden = block.groups[copy["units"]]
        assert sorted(copy["units"]) == sorted(np.flatnonzero(np.isin(block.groups, hidden)))
        assert (copy["unit_labels"] == block.input_ids[copy["units"]]).all()
    assert max(np.bincount(block.groups[block.groups >= 0]).max() for block in blocks) > 1
    single = blocks_of_rows(tokenizer, TEXTS, windows, LIMITS, whole_words=False)
    assert all(np.bincount(block.groups[block.groups >= 0]).max() == 1 for block in single)


def test_truncated_texts_have_one_block_each() -> None:
    tokenizer, limits = wordpiece_tokenizer(), Limits(16, 4, truncate=True)
    windows = windows_of_texts(tokenizer, TEXTS, limits)
    assert len(blocks_of_rows(tokenizer, TEXTS, windows, limits)) == len(TEXTS)


def test_masks_follow_from_seed_epoch_and_row() -> None:
    tokenizer = wordpiece_tokenizer()
    first, again, later = (masked_batch(tokenizer, epoch=epoch)["input_ids"] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(first[:4], later[:4])  # source rows are left alone


# Runs


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Jobs by title, with the weights of model and head before and after."""
    seen: dict[str, Any] = {}
    train = jobs.train

    def weights(job: Any, model: Any) -> dict[str, torch.Tensor]:
        methods = torch.nn.ModuleDict(job.objective.methods).state_dict()
        return {name: value.detach().clone() for name, value in (model.state_dict() | methods).items()}

    def spied(job: Any, model: Any) -> Any:
        before = weights(job, model)
        facts = train(job, model)
        seen[job.title] = {"job": job, "before": before, "after": weights(job, model)}
        return facts

    monkeypatch.setattr(jobs, "train", spied)
    return seen


def test_fresh_head_is_fitted_first_with_the_encoder_frozen(
    tiny_bert: Path, tmp_path: Path, trained: dict[str, Any]
) -> None:
    listener = Listener()
    recipe = make_recipe(tmp_path / "run", tiny_bert, methods=(QUICK,))
    result = run(recipe, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert any("no masked-LM head" in line and "fitted for 2 steps" in line for line in listener.said)
    before, after = (trained["finetune head"][when] for when in ("before", "after"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "cls.predictions.transform.dense.weight" in moved
    assert not [name for name in moved if name.startswith("bert.") or "decoder.weight" in name]
    start = trained["finetune"]["before"]
    for name, value in after.items():
        if name.startswith("cls.") and name != "cls.predictions.decoder.weight":
            assert torch.equal(start[f"joint_mlm.head.layers.{name}"], value)
    assert not (tmp_path / "run/stages/1-finetune/head").exists()
    assert not any("predictions" in name or "adaptation" in name for name in saved_weights(result.model))
    lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["stage"] == "finetune" and "loss" in line]
    assert logged
    assert all(line["loss"] > line["loss_task"] and line["loss_joint_mlm_mlm"] > 0 for line in logged)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_head_of_a_pretrain_stage_is_taken(
    tuning: str, tiny_bert: Path, tmp_path: Path, trained: dict[str, Any]
) -> None:
    plan = [{"name": "pretrain", "head_steps": 1, "train": {"max_steps": 2, "batch_size": 2}}, "finetune"]
    recipe = make_recipe(tmp_path / "run", tiny_bert, "ner", tuning, ("joint_mlm",), stages=plan)
    run(recipe, data=data_of("ner"))
    assert "finetune head" not in trained
    pretrained = saved_weights(tmp_path / "run/stages/1-pretrain/model")
    name = next(name for name in pretrained if name.endswith("transform.dense.weight"))
    key = "joint_mlm.head.layers.cls.predictions.transform.dense.weight"
    assert torch.equal(trained["finetune"]["before"][key], pretrained[name])
    assert not torch.equal(trained["finetune"]["after"][key], pretrained[name])  # it goes on learning


def test_head_of_the_checkpoint_is_used_at_once(tmp_path: Path, trained: dict[str, Any]) -> None:
    base = build_model(tmp_path / "base", "bert", "AutoModelForMaskedLM")
    run(make_recipe(tmp_path / "run", base, methods=("joint_mlm",)), data=data_of("classification"))
    assert "finetune head" not in trained
    key = "cls.predictions.transform.dense.weight"
    assert torch.equal(trained["finetune"]["before"][f"joint_mlm.head.layers.{key}"], saved_weights(base)[key])


@pytest.mark.parametrize(("methods", "rows"), [((QUICK,), False), ((QUICK, "dann"), True), ((QUICK, "l2sp"), False)])
def test_plain_target_rows_are_run_only_where_a_method_reads_them(
    methods: tuple[Any, ...], rows: bool, tiny_bert: Path, tmp_path: Path, trained: dict[str, Any]
) -> None:
    run(make_recipe(tmp_path / "run", tiny_bert, methods=methods), data=data_of("classification"))
    data = trained["finetune"]["job"].data
    assert (data.target is not None) == rows
    assert data.masked is not None


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "albert", "modernbert"])
def test_architectures_train_under_adapters(kind: str, tmp_path: Path) -> None:
    base = build_model(tmp_path / "base", kind)
    recipe = make_recipe(tmp_path / "run", base, "classification", {"name": "lora", "rank": 2}, (QUICK,))
    result = run(recipe, data=data_of("classification"))
    assert (result.model / "adapter_config.json").is_file()


CASES = {
    "full": ("ner", "full", (QUICK, "dann"), ("finetune", 3)),
    "lora": ("classification", "lora", (QUICK,), ("finetune", 3)),
    "head": ("classification", "full", (QUICK,), ("finetune head", 1)),
    "bf16": ("classification", "full", (QUICK,), ("finetune", 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_interrupted_run_ends_the_same(name: str, tiny_bert: Path, tmp_path: Path, trained: dict[str, Any]) -> None:
    kind, tuning, methods, stop = CASES[name]
    settings: dict[str, Any] = {"max_steps": 4, "evaluate_every": 2, "dropout": 0.1}
    settings |= {"precision": "bf16"} if name == "bf16" else {}
    whole, cut = (
        make_recipe(tmp_path / folder, tiny_bert, kind, tuning, methods, **settings) for folder in ("whole", "cut")
    )
    run(whole, data=data_of(kind))
    after = trained["finetune"]["after"]
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=data_of(kind), reporter=Listener(*stop))  # type: ignore[arg-type]
    trained.clear()
    run(cut, data=data_of(kind))
    assert ("finetune head" in trained) == (name == "head")
    assert all(torch.equal(value, trained["finetune"]["after"][key]) for key, value in after.items())
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")


# What cannot work


def test_tokenizer_without_mask_is_refused(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = models.load_tokenizer

    def maskless(model: Any) -> Any:
        tokenizer = load(model)
        tokenizer.mask_token = None
        return tokenizer

    monkeypatch.setattr(models, "load_tokenizer", maskless)
    with pytest.raises(ModelError, match="no mask token, which method 'joint_mlm' needs"):
        run(make_recipe(tmp_path / "run", tiny_bert, methods=(QUICK,)), data=data_of("classification"))


def test_two_methods_that_want_copies_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    known = parts.METHODS | {"mine": JointMlm}
    recipe = parts.recipe_from(
        recipe_data(tmp_path / "run", tiny_bert, methods=(QUICK, {"name": "mine"})), methods=known
    )
    with pytest.raises(ModelError, match="joint_mlm, mine"):
        run(recipe, data=data_of("classification"), methods=known)


def test_recipe_without_target_text_or_with_bad_settings_is_refused(tiny_bert: Path) -> None:
    values = recipe_data(Path("x"), tiny_bert, methods=({"name": "joint_mlm", "mask_rate": 1.5},))
    del values["data"]["target"]["unlabelled"]
    with pytest.raises(RecipeError) as caught:
        parts.recipe_from(values)
    text = str(caught.value)
    assert "needs unlabelled target text" in text
    assert "methods.0.mask_rate" in text


def test_terms_without_copies_name_what_is_missing() -> None:
    step = Step(torch.zeros(1, 4), torch.zeros(1, 3), torch.zeros(1), torch.ones(1), torch.zeros(1), 0.5, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="masked copies"):
        JointMlm(Sizes(4, 3)).terms(step)


def test_rows_of_ner_are_masked_as_texts() -> None:
    from nlp_transfer.data.load import load_split
    from nlp_transfer.tasks.ner import Ner

    tokenizer = wordpiece_tokenizer()
    rows = load_split(rows_of("ner", 8, 3), name="target.unlabelled", kind="words").rows
    encoded = Ner(["O"]).encode(rows, tokenizer, LIMITS, labelled=False)
    blocks = blocks_of_rows(tokenizer, list(rows["text"]), encoded.windows, LIMITS)
    assert [block.input_ids.tolist() for block in blocks] == [window.input_ids for window in encoded.windows]
