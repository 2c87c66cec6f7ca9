"""Numbers of the trainer: gradients, learning rates, logged losses, side files, and the order of rows."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import build_model
from helpers import make_recipe
from safetensors.torch import load_file
from torch.nn import functional as F
from training import Bench, StopAfter, build, largest_difference

from nlp_transfer import finding, models, parts
from nlp_transfer.arguments import check_batches
from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.pairs import EpochSampler, Pick
from nlp_transfer.errors import RecipeError, TrainingError
from nlp_transfer.methods.dann import Dann
from nlp_transfer.recipe import resolve
from nlp_transfer.recipe.stages import FinetuneStage
from nlp_transfer.trainer import SIDE_FILE, parameter_groups
from nlp_transfer.tuning import Full, Lora
from nlp_transfer.units import UNKNOWN, Sizes

KINDS = ["classification", "multi_label", "ner"]
ARCHITECTURES = ["bert", "distilbert", "roberta", "deberta-v2", "electra", "albert", "mpnet", "modernbert"]


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def plain_loss(bench: Bench, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of 8 rows as a textbook writes it (all windows here are whole texts), over their mean count of units."""
    if bench.kind == "multi_label":
        return F.binary_cross_entropy_with_logits(logits, batch["labels"])
    flat, labels = logits.reshape(-1, logits.shape[-1]), batch["labels"].reshape(-1)
    units = [len(row["unit_labels"]) if "unit_labels" in row else 1 for row in bench.source.features]
    return F.cross_entropy(flat, labels, ignore_index=UNKNOWN, reduction="sum") / (8 * np.mean(units))


def plain_loop(bench: Bench, steps: int) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Train a copy of the model with nothing but torch, on the same batches; return gradients and weights."""
    model = copy.deepcopy(bench.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler, collate = bench.sampler(8), PairCollator(bench.tokenizer.pad_token_id)
    picks: list[Pick] = []
    epoch = 0
    while len(picks) < 8 * steps:
        sampler.set_epoch(epoch)
        picks += list(sampler)
        epoch += 1
    gradients = []
    for step in range(steps):
        rows = [{"source": bench.source.features[pick.source]} for pick in picks[8 * step : 8 * step + 8]]
        batch = collate(rows)
        optimizer.zero_grad()
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        plain_loss(bench, logits, batch).backward()
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
        optimizer.step()
    return gradients, weights_of(model)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_a_plain_torch_loop_whatever_the_accumulation(
    kind: str, accumulation: int, tiny_bert: Path, tmp_path: Path
) -> None:
    bench = build(tiny_bert, kind)
    gradients, weights = plain_loop(bench, 4)
    trainer, watcher = bench.start(tmp_path, max_steps=4, accumulation=accumulation)
    trainer.train()
    assert len(watcher.gradients) == 4  # 24 rows are 3 steps: the fourth is in the second epoch
    for ours, theirs in zip(watcher.gradients, gradients, strict=True):
        assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(weights_of(trainer.model), weights) < 1e-6


def test_sentences_of_the_ner_test_are_very_unequal(tiny_bert: Path) -> None:
    """Otherwise the test above could not tell a mean of means from the mean."""
    bench = build(tiny_bert, "ner")
    counts = [len(row["unit_labels"]) for row in bench.source.features]
    assert max(counts) >= 5 * min(counts)
    sampler = EpochSampler(bench.source.lengths, 8, 3, group_by_length=False)
    by_batch = np.array([counts[pick.source] for pick in sampler]).reshape(-1, 4).sum(1)
    assert by_batch.max() > 1.3 * by_batch.min()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_windows_and_class_weights_weigh_as_documented(tiny_bert: Path, tmp_path: Path, accumulation: int) -> None:
    """Each of k windows counts 1/k, each row the weight of its class; the mean weight of a batch divides."""
    class_weights = {"bad": 0.5, "good": 2.0, "poor": 1.0}
    bench = build(tiny_bert, "classification", max_length=9, class_weights=class_weights)
    shares = np.array([row["weight"] for row in bench.source.features])
    assert len(set(shares)) > 1
    assert np.isclose(shares.sum(), bench.source.rows)
    model = copy.deepcopy(bench.model)
    picks = list(bench.sampler(8))[:8]
    batch = PairCollator(0)([{"source": bench.source.features[pick.source]} for pick in picks])
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    by_class = torch.tensor([class_weights[label] for label in bench.task.labels])[batch["labels"]]
    weight = batch["weight"] * by_class
    rows = [bench.source.features[pick.source] for pick in bench.sampler(8)]
    mean = 8 * np.mean([row["weight"] * class_weights[bench.task.labels[int(row["label"])]] for row in rows])
    loss = (F.cross_entropy(logits, batch["labels"], reduction="none") * weight).sum() / mean
    loss.backward()
    trainer, watcher = bench.start(tmp_path, max_steps=1, accumulation=accumulation)
    trainer.train()
    expected = {name: value.grad for name, value in model.named_parameters()}
    assert largest_difference(watcher.gradients[0], expected) < 1e-5
    assert watcher.logs[0]["loss"] == pytest.approx(loss.item(), rel=1e-4)


# Learning rates


def tuned(kind: str, tuning: Any, folder: Path, head: str = "AutoModelForSequenceClassification") -> Any:
    base = finding.resolve(str(build_model(folder, kind)))
    loaded = models.load_model(head, base, models.read_config(base, num_labels=3))
    return tuning.apply(loaded, "SEQ_CLS")


HEAD_WORDS = ("classifier", "pooler", "pre_classifier", ".head.", ".score.")


@pytest.mark.parametrize("tuning", [Full(), Lora(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_parameter_has_one_learning_rate(kind: str, tuning: Any, tmp_path: Path) -> None:
    model = tuned(kind, tuning, tmp_path)
    model.adaptation = torch.nn.ModuleDict({"dann": parts.METHODS["dann"](Sizes(32, 3))})  # type: ignore[arg-type]
    groups = parameter_groups(model, 1e-3, 5e-3, 1.0, 0.01)
    named = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert Counter(id(value) for group in groups for value in group["params"]) == Counter(list(named))
    for group in groups:
        for parameter in group["params"]:
            name = named[id(parameter)]
            head = any(word in f".{name}." for word in HEAD_WORDS)
            expected = 1e-2 if name.startswith("adaptation.") else 5e-3 if head else 1e-3
            assert group["lr"] == pytest.approx(expected), name
            assert group["weight_decay"] == (0.01 if parameter.dim() > 1 else 0.0), name


@pytest.mark.parametrize("kind", ["bert", "distilbert", "deberta-v2", "modernbert"])
def test_layer_decay_falls_from_top_to_bottom(kind: str, tmp_path: Path) -> None:
    model = tuned(kind, Full(), tmp_path)
    rates = {
        id(parameter): group["lr"]
        for group in parameter_groups(model, 1e-3, 1e-3, 0.5, 0.0)
        for parameter in group["params"]
    }
    top, below = models.encoder_layers(model)[::-1]
    assert {rates[id(parameter)] for parameter in top.parameters()} == {1e-3}
    assert {rates[id(parameter)] for parameter in below.parameters()} == {5e-4}
    assert rates[id(model.get_input_embeddings().weight)] == pytest.approx(2.5e-4)
    assert all(rates[id(parameter)] == 1e-3 for parameter in model.classifier.parameters())


def test_trainer_uses_the_groups(tiny_bert: Path, tmp_path: Path) -> None:
    bench = build(tiny_bert, "classification", dann=True)
    trainer, _ = bench.start(tmp_path, max_steps=1, learning_rate=1e-2)
    trainer.rates["head"] = 3e-2
    trainer.train()
    assert trainer.optimizer is not None
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {1e-2, 3e-2, 1e-1}


# Named losses


def test_logged_losses_are_named_and_add_up(tiny_bert: Path, tmp_path: Path) -> None:
    for kind in KINDS:
        trainer, watcher = build(tiny_bert, kind, dann=True).start(tmp_path / kind, accumulation=2)
        trainer.train()
        steps = [line for line in watcher.logs if "loss" in line]
        assert len(steps) == 3
        for line in steps:
            assert line["loss"] == pytest.approx(line["loss_task"] + line["loss_dann_domain"], rel=1e-4)
            assert 0.0 <= line["dann_domain_accuracy"] <= 1.0
        assert steps[0]["dann_lambda"] == 0.0
        assert steps[2]["dann_lambda"] > steps[1]["dann_lambda"] > 0.0


def test_logged_losses_are_averaged_over_steps(tiny_bert: Path, tmp_path: Path) -> None:
    logs = []
    for every in (1, 3):
        trainer, watcher = build(tiny_bert, "ner", dann=True).start(tmp_path / str(every))
        trainer.args.logging_first_step = False
        trainer.args.logging_steps = trainer.state.logging_steps = every
        trainer.train()
        logs.append([line for line in watcher.logs if "loss" in line])
    assert [len(lines) for lines in logs] == [3, 1]
    for name in ("loss", "loss_task", "loss_dann_domain", "dann_domain_accuracy", "dann_lambda"):
        mean = np.mean([line[name] for line in logs[0]])
        assert logs[1][0][name] == pytest.approx(mean, abs=2e-4), name


def test_method_weight_multiplies_its_terms_only(tiny_bert: Path, tmp_path: Path) -> None:
    bench = build(tiny_bert, "classification", dann=True)
    bench.methods["dann"].weight = 0.25
    trainer, watcher = bench.start(tmp_path, max_steps=1)
    trainer.train()
    line = watcher.logs[0]
    assert line["loss"] == pytest.approx(line["loss_task"] + 0.25 * line["loss_dann_domain"], rel=1e-4)


# Checkpoints


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_methods_are_saved_beside_the_model_not_in_it(tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    trainer, _ = build(tiny_bert, "classification", tuning=tuning, dann=True).start(tmp_path, evaluate_every=2)
    trainer.train()
    folder = tmp_path / "checkpoint-2"
    name = "model.safetensors" if tuning == "full" else "adapter_model.safetensors"
    assert not [key for key in load_file(folder / name) if "adaptation" in key]
    side = load_file(folder / SIDE_FILE)
    assert set(side) == set(trainer.model.adaptation.state_dict())
    assert not (folder / "training_args.bin").exists()  # a pickle
    assert set(json.loads((folder / "manifest.json").read_text())) >= {name, SIDE_FILE, "optimizer.pt"}


def test_a_full_checkpoint_is_a_plain_model(tiny_bert: Path, tmp_path: Path) -> None:
    trainer, _ = build(tiny_bert, "classification", dann=True).start(tmp_path, max_steps=2, evaluate_every=2)
    trainer.train()
    auto = transformers.AutoModelForSequenceClassification
    loaded, info = auto.from_pretrained(tmp_path / "checkpoint-2", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = {"input_ids": torch.tensor([[2, 50, 60, 3]])}
    assert torch.equal(loaded.eval()(**batch).logits, trainer.model.eval()(**batch).logits)


@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_trainer_sees_the_same_rows_and_ends_the_same(stop: int, tiny_bert: Path, tmp_path: Path) -> None:
    """24 rows are 3 steps an epoch: 1 is inside the first, 4 inside the second."""
    whole, _ = build(tiny_bert, "ner", dann=True).start(tmp_path / "whole", max_steps=6)
    seen = spy_on_picks(whole)
    whole.train()
    first, _ = build(tiny_bert, "ner", dann=True).start(tmp_path / "cut", max_steps=6, evaluate_every=stop)
    first.add_callback(StopAfter(stop))
    first.train()
    second, _ = build(tiny_bert, "ner", dann=True).start(tmp_path / "cut", max_steps=6, evaluate_every=100)
    again = spy_on_picks(second)
    second.train(resume_from_checkpoint=str(tmp_path / "cut" / f"checkpoint-{stop}"))
    assert seen[8 * stop :] == again
    assert {pick.epoch for pick in seen} == {0, 1}
    ended = weights_of(whole.model)
    assert all(torch.equal(ended[name], value) for name, value in weights_of(second.model).items())


def spy_on_picks(trainer: Any) -> list[Pick]:
    seen: list[Pick] = []
    data = trainer.train_dataset
    kind = type(data)

    class Spied(kind):  # type: ignore[valid-type,misc]
        def __getitem__(self, pick: Pick) -> Any:
            seen.append(pick)
            return super().__getitem__(pick)

    data.__class__ = Spied
    return seen


# What stock classes do, and what is done about it. Each fails when the library changes, so that a workaround can go.


def stock_gradient(model: Any, folder: Path, accumulation: int, rows: list[dict[str, Any]]) -> torch.Tensor:
    args = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=1, per_device_train_batch_size=8 // accumulation, report_to="none",
        gradient_accumulation_steps=accumulation, use_cpu=True, save_strategy="no", disable_tqdm=True, max_grad_norm=0,
        seed=3,
    )  # fmt: skip
    trainer = transformers.Trainer(copy.deepcopy(model), args, train_dataset=rows)
    trainer.remove_callback(transformers.PrinterCallback)
    found: list[torch.Tensor] = []

    class Grab(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            found.append(model.classifier.weight.grad.clone())

    trainer.add_callback(Grab())
    trainer.train()
    return found[0]


def test_stock_trainer_multiplies_gradients_by_accumulation(tiny_bert: Path, tmp_path: Path) -> None:
    bench = build(tiny_bert, "classification", count=8)
    rows = [
        {"input_ids": [2, 40 + number, 3], "attention_mask": [1, 1, 1], "labels": number % 3} for number in range(8)
    ]
    one = stock_gradient(bench.model, tmp_path / "1", 1, rows)
    four = stock_gradient(bench.model, tmp_path / "4", 4, rows)
    assert torch.allclose(four, 4 * one, rtol=1e-3, atol=1e-6)
    trainer, _ = bench.start(tmp_path / "ours", max_steps=1)
    assert trainer.model_accepts_loss_kwargs is False
    assert trainer.loss_is_scaled_for_ga is False


def test_a_discriminator_of_the_model_has_its_gradient_zeroed(tiny_bert: Path, tmp_path: Path) -> None:
    """One outside the model has not: the loop calls ``model.zero_grad()``."""
    bench = build(tiny_bert, "classification", dann=True)
    trainer, watcher = bench.start(tmp_path, learning_rate=1e-9)
    outside = torch.nn.Linear(1, 1)
    kept = trainer.compute_loss

    def with_outsider(*args: Any, **kwargs: Any) -> Any:
        return kept(*args, **kwargs) + outside(torch.ones(1, 1)).sum()

    trainer.compute_loss = with_outsider  # type: ignore[method-assign]
    trainer.train()
    assert outside.weight.grad is not None
    assert outside.weight.grad.item() == pytest.approx(3.0)  # 1 a step, never zeroed
    inside = [float(step["adaptation.dann.discriminator.3.bias"].abs().max()) for step in watcher.gradients]
    assert max(inside) < 0.5  # a balanced loss moves the bias by at most ½ a step


def test_a_wrapper_saves_no_plain_model(tiny_bert: Path, tmp_path: Path) -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, model: Any):
            super().__init__()
            self.model = model

    bench = build(tiny_bert, "classification")
    args = transformers.TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    transformers.Trainer(Wrapper(bench.model), args).save_model(str(tmp_path / "wrapped"))
    assert not (tmp_path / "wrapped" / "config.json").exists()
    trainer, _ = bench.start(tmp_path)
    assert isinstance(trainer.model, transformers.PreTrainedModel)
    trainer.save_model(str(tmp_path / "ours"))
    assert (tmp_path / "ours" / "config.json").exists()


@pytest.mark.parametrize("search", [True, False])
def test_ddp_must_not_search_unused_parameters(search: bool, tiny_bert: Path, tmp_path: Path) -> None:
    bench = build(tiny_bert, "classification", dann=True)
    trainer, _ = bench.start(tmp_path)
    assert trainer.args.ddp_find_unused_parameters is False
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(trainer.model, find_unused_parameters=search)
        hidden = wrapped(input_ids=torch.tensor([[2, 50, 3]]), output_hidden_states=True)
        loss = hidden.logits.sum() + trainer.model.adaptation["dann"].discriminator(hidden.hidden_states[-1]).sum()
        if search:
            with pytest.raises(RuntimeError, match=r"marked as ready twice|mark a variable ready only once"):
                loss.backward()
        else:
            loss.backward()
    finally:
        torch.distributed.destroy_process_group()


def test_batches_have_no_second_key_with_label(tiny_bert: Path) -> None:
    class Model(torch.nn.Module):
        def forward(self, input_ids: Any, labels: Any = None, domain_labels: Any = None) -> None: ...

    assert transformers.utils.generic.find_labels(Model) == ["labels", "domain_labels"]
    for kind in KINDS:
        bench = build(tiny_bert, kind, dann=True)
        assert bench.target is not None
        pair = {"source": bench.source.features[0], "target": bench.target.features[0]}
        assert [key for key in PairCollator(0)([pair]) if "label" in key] == ["labels"]


def test_columns_unknown_to_the_model_reach_the_loss(tiny_bert: Path, tmp_path: Path) -> None:
    bench = build(tiny_bert, "ner", dann=True)
    trainer, _ = bench.start(tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    assert set(batch) == {"input_ids", "attention_mask", "domain", "labels", "units", "weight"}
    assert batch["domain"].tolist() == [0] * 8 + [1] * 8
    trainer.args.remove_unused_columns = True
    with pytest.raises((KeyError, StopIteration, IndexError)):
        next(iter(trainer.get_train_dataloader()))


def test_overridden_private_methods_exist_in_the_library(tiny_bert: Path, tmp_path: Path) -> None:
    for name in ("_get_train_sampler", "_save", "_load_from_checkpoint"):
        assert callable(getattr(transformers.Trainer, name))
    trainer, _ = build(tiny_bert, "classification").start(tmp_path)
    assert trainer._get_train_sampler() is trainer.order
    assert [row.epoch for row in trainer.get_train_dataloader().batch_sampler.sampler] == [0] * 24


# Numbers that are none


@pytest.mark.parametrize("where", ["method", "task"])
def test_a_loss_that_is_no_number_stops_the_training_by_name(
    where: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest checkpoint stays as it was: the optimizer never sees the broken step."""
    bench = build(tiny_bert, "classification", dann=True)
    trainer, _ = bench.start(tmp_path, evaluate_every=2)
    terms, loss_sum = bench.methods["dann"].terms, trainer.objective.loss_sum

    def broken() -> float:
        return float("nan") if trainer.state.global_step == 2 else 1.0

    def broken_loss(*args: Any) -> Any:
        loss, step = loss_sum(*args)
        return loss * broken(), step

    if where == "method":
        monkeypatch.setattr(bench.methods["dann"], "terms", lambda step: {"domain": terms(step)["domain"] * broken()})
    else:
        monkeypatch.setattr(trainer.objective, "loss_sum", broken_loss)
    name = "loss_dann_domain" if where == "method" else "loss_task"
    with pytest.raises(TrainingError, match=f"step 2: {name} is not a finite number"):
        trainer.train()
    kept = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(bool(value.isfinite().all()) for value in kept.values())


# Weights of methods over time


def test_the_factor_of_a_method_follows_its_schedule() -> None:
    sizes = Sizes(hidden=4, labels=2)
    made = {name: Dann(sizes, weight=2.0, schedule=name, begin=0.5) for name in ("constant", "linear", "ramp")}
    assert all(method.factor(0.49) == 0 for method in made.values())
    assert [method.factor(0.75) for method in made.values()] == pytest.approx(
        [2.0, 1.0, 2 * (2 / (1 + math.exp(-5)) - 1)]
    )
    assert made["linear"].factor(1.0) == 2.0


def test_the_trainer_multiplies_terms_with_the_factor(tiny_bert: Path, tmp_path: Path) -> None:
    bench = build(tiny_bert, "classification", dann=True)
    bench.methods["dann"].begin = 0.5
    trainer, watcher = bench.start(tmp_path, max_steps=2)
    trainer.train()
    first, second = (line for line in watcher.logs if "loss" in line)
    assert first["loss"] == pytest.approx(first["loss_task"], rel=1e-4)
    assert second["loss"] == pytest.approx(second["loss_task"] + second["loss_dann_domain"], rel=1e-4)


@pytest.mark.parametrize("name", ["mmd", "coral", "mcc"])
def test_a_batch_that_leaves_nothing_to_compare_is_refused(name: str, tmp_path: Path) -> None:
    def recipe(kind: str, accumulation: int, *methods: str) -> Any:
        made = make_recipe(tmp_path, tmp_path, kind, methods=methods)
        train = made.train.model_copy(update={"batch_size": 8, "accumulation": accumulation})
        return resolve(made.model_copy(update={"train": train}))

    check_batches(recipe("classification", 4, name))
    check_batches(recipe("classification", 8, "dann"))
    check_batches(recipe("ner", 8, name))
    unadapted = recipe("classification", 8, name)
    check_batches(
        unadapted.model_copy(update={"stages": [FinetuneStage(adapt=False, train=unadapted.stages[0].train)]})
    )
    with pytest.raises(RecipeError, match=rf"  train\.batch_size: '{name}' compares .* leaves 1 of each"):
        check_batches(recipe("classification", 8, name))
