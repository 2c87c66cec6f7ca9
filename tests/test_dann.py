"""The mathematics of domain-adversarial training, and that target labels reach neither training nor selection."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, make_recipe, rows_of, same_weights

from nlp_transfer.callbacks import Bar, LogFile
from nlp_transfer.functional import balanced_domain_loss, ramp, reverse_gradient
from nlp_transfer.methods.dann import Dann
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.records import warnings_in
from nlp_transfer.report.curves import trainings
from nlp_transfer.report.record import read_record
from nlp_transfer.running import run
from nlp_transfer.units import UNKNOWN, Sizes, Step


def step(features: torch.Tensor, domain: list[int], progress: float = 0.5) -> Step:
    units = len(domain)
    labels = torch.tensor([UNKNOWN if side else 0 for side in domain])
    return Step(features, torch.zeros(units, 3), labels, torch.ones(units), torch.tensor(domain), progress, features)  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", [0.0, 0.1, 2.5])
def test_reversal_is_minus_lambda_times_the_plain_gradient(strength: float) -> None:
    torch.manual_seed(0)
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    layer = torch.nn.Linear(4, 3).double()

    def loss(values: torch.Tensor) -> torch.Tensor:
        return layer(values).tanh().pow(2).sum()

    (plain,) = torch.autograd.grad(loss(features), features)
    reversed_ = reverse_gradient(features, strength)
    assert torch.equal(reversed_, features)
    (ours, weights) = torch.autograd.grad(loss(reversed_), (features, layer.weight))
    assert torch.equal(ours, -strength * plain)
    (expected,) = torch.autograd.grad(loss(features), layer.weight)
    assert torch.equal(weights, expected)  # what comes after the layer learns at full strength


def test_plain_gradient_is_right_by_finite_differences() -> None:
    """Independent of autograd: the reversed gradient is −λ × the slope of the loss."""
    torch.manual_seed(0)
    method = Dann(Sizes(4, 3), hidden=6, dropout=0.0, max_lambda=0.3, bounded=False).double()
    features = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    domain = [0, 0, 1, 1, 1, 1]
    method.terms(step(features, domain))["domain"].backward()
    assert features.grad is not None
    strength = 0.3 * ramp(0.5)
    for unit, place in ((0, 1), (3, 2), (5, 0)):
        nudge = torch.zeros_like(features)
        nudge[unit, place] = 1e-6
        with torch.no_grad():
            up, down = (method.terms(step(features + side * nudge, domain))["domain"] for side in (1, -1))
        slope = float(up - down) / 2e-6
        assert features.grad[unit, place].item() == pytest.approx(-strength * slope, rel=1e-5, abs=1e-12)


def test_balanced_loss_is_the_hand_formula() -> None:
    logits = [0.3, -1.2, 2.0, 0.1, -0.4]
    domain = [0, 0, 1, 0, 0]

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    source = np.mean([-math.log(1 - sigmoid(value)) for value, side in zip(logits, domain, strict=True) if side == 0])
    target = -math.log(sigmoid(2.0))
    ours = balanced_domain_loss(torch.tensor(logits), torch.tensor(domain))
    assert ours.item() == pytest.approx(0.5 * source + 0.5 * target, rel=1e-6)


def test_confused_discriminator_has_loss_ln_2() -> None:
    domain = torch.tensor([0] * 30 + [1])
    assert balanced_domain_loss(torch.zeros(31), domain).item() == pytest.approx(math.log(2))


def test_ramp_values() -> None:
    assert ramp(0.0) == 0.0
    assert ramp(0.1) == pytest.approx(0.46211716)
    assert ramp(0.5) == pytest.approx(0.98661430)
    assert ramp(1.0) == pytest.approx(math.tanh(5.0))
    assert ramp(0.25, steepness=2.0) == pytest.approx(math.tanh(0.25))


def test_lambda_follows_progress_and_the_discriminator_does_not() -> None:
    method = Dann(Sizes(4, 3), dropout=0.0, max_lambda=0.2, bounded=False)
    features = torch.randn(8, 4, requires_grad=True)
    own = []
    for progress in (0.0, 0.3, 1.0):
        method.zero_grad()
        features.grad = None
        method.terms(step(features, [0, 1] * 4, progress))["domain"].backward()
        assert method.watch(step(features, [0, 1] * 4, progress))["lambda"] == pytest.approx(0.2 * ramp(progress))
        assert features.grad is not None
        own.append((features.grad.abs().max().item(), method.discriminator[0].weight.grad.clone()))
    assert own[0][0] == 0.0
    assert 0.0 < own[1][0] < own[2][0]
    assert torch.equal(own[0][1], own[2][1])


@pytest.mark.parametrize("side", [0, 1])
def test_batch_of_one_domain_is_answered(side: int) -> None:
    method = Dann(Sizes(4, 3))
    features = torch.randn(5, 4, requires_grad=True)
    given = step(features, [side] * 5)
    loss = method.terms(given)["domain"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in method.parameters())
    assert 0.0 <= method.watch(given)["domain_accuracy"] <= 1.0


def test_accuracy_is_balanced() -> None:
    """Calling everything source is right half of the time, however few target units there are."""
    method = Dann(Sizes(4, 3), dropout=0.0)
    with torch.no_grad():
        method.discriminator[-1].bias.fill_(-100.0)
    given = step(torch.randn(10, 4), [0] * 9 + [1])
    method.terms(given)
    assert method.watch(given)["domain_accuracy"] == 0.5


def test_at_most_max_units_of_each_domain_are_looked_at() -> None:
    method = Dann(Sizes(4, 3), dropout=0.0, max_units=6, bounded=False)
    for domain, kept in (([0] * 40 + [1] * 3, 9), ([0] * 40 + [1] * 40, 12), ([0] * 5 + [1] * 6, 11)):
        features = torch.randn(len(domain), 4, requires_grad=True)
        method.terms(step(features, domain))["domain"].backward()
        assert features.grad is not None
        assert int((features.grad.abs().sum(1) > 0).sum()) == kept


def test_a_lost_game_is_told_with_advice() -> None:
    method = Dann(Sizes(4, 3), max_lambda=0.1)
    chance = {"domain": 0.693, "domain_accuracy": 0.5, "lambda": 0.0999}
    for averages, word in ((chance, "at chance"), (chance | {"domain": 0.99}, "outruns")):
        advice = method.advice(averages)
        assert advice is not None
        assert word in advice
        assert "max_lambda" in advice
        assert "source-only" in advice
    assert method.advice(chance | {"domain_accuracy": 0.8}) is None
    assert method.advice(chance | {"domain": 0.4}) is None
    assert method.advice(chance | {"lambda": 0.05}) is None  # λ is still small: the game has not begun
    assert method.advice({}) is None
    assert Dann(Sizes(4, 3), max_lambda=0.0).advice({**chance, "lambda": 0.0}) is None


def test_collapse_is_told_once(tiny_bert: Path, tmp_path: Path) -> None:
    from training import build

    bench = build(tiny_bert, "classification", dann=True)
    bench.methods["dann"].advice = lambda averages: "collapsed" if averages["domain"] > 0 else None
    trainer, watcher = bench.start(tmp_path)
    listener = Listener()
    trainer.add_callback(Bar("finetune", listener))  # type: ignore[arg-type]
    trainer.add_callback(LogFile("finetune", tmp_path / "log.jsonl"))
    trainer.train()
    assert listener.warned == ["finetune, step 1: collapsed"]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf8").splitlines()]
    assert [line["step"] for line in lines if line.get("warning") == "collapsed"] == [1]
    # Loggers beside it, and what checkpoints keep, hold numbers only.
    assert not any("warning" in logs for logs in [*watcher.logs, *trainer.state.log_history])


def test_a_run_tells_of_a_lost_game(tiny_bert: Path, tmp_path: Path) -> None:
    """At once, in its log, and in its card."""
    lost = {"name": "dann", "max_lambda": 10, "rate_factor": 0.01, "dropout": 0.0, "bounded": False}
    recipe = make_recipe(tmp_path / "run", tiny_bert, methods=(lost,), max_steps=25, learning_rate=5e-3)
    listener = Listener()
    folder = run(recipe, data=data_of("classification"), reporter=listener).folder  # type: ignore[arg-type]
    (warned,) = [text for text in listener.warned if "outruns the discriminator" in text]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf8").splitlines()]
    (line,) = [line for line in lines if "warning" in line]
    assert warned == f"finetune, step {line['step']}: {line['warning']}"
    assert line["stage"] == "finetune" and line["step"] <= 25 and "source-only twin" in line["warning"]
    card = (folder / "README.md").read_text(encoding="utf8")
    assert f"- Warned in training ({warned[:-1]})." in card
    # What is written at the end does not stumble over words in the log.
    record = read_record(folder)
    assert warnings_in(record.log) == [warned]
    assert {one.stage for one in trainings(record.log, "accuracy", ["finetune"])} == {"finetune"}


def test_a_warning_is_void_where_its_stage_began_anew() -> None:
    lines = [{"stage": "finetune", "step": 20, "warning": "dann: a"}, {"stage": "self_train 1", "step": 1, "loss": 0.5}]
    later = {"stage": "finetune", "step": 30}
    assert warnings_in(lines) == ["finetune, step 20: dann: a"]
    assert warnings_in([*lines, later | {"warning": "dann: b"}]) == ["finetune, step 30: dann: b"]
    assert warnings_in([*lines, later | {"warning": "cdan: c"}])[1:] == ["finetune, step 30: cdan: c"]
    assert warnings_in([*lines, {"stage": "finetune", "step": 10, "loss": 0.1}]) == []


# Target labels


def poisoned(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The same texts with other target labels: turned round in the test set, and given away in the unlabelled one."""
    column = {"classification": "label", "ner": "tags"}[kind]
    test, unlabelled = data["target.test"], data["target.unlabelled"]
    if kind == "ner":
        turned = [["O"] * len(tags) for tags in test[column]]
        wrong = [["B-PER"] * len(tags) for tags in unlabelled[column]]
    else:
        turned = ["bad"] * len(test)
        wrong = ["poor"] * len(unlabelled)
    replaced = {}
    for name, values in (("target.test", turned), ("target.unlabelled", wrong)):
        replaced[name] = data[name].remove_columns(column).add_column(column, values)
    dev = data["target.test"].select(range(5))
    return data | replaced | {"target.dev": dev.remove_columns(column).add_column(column, turned[:5])}


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_target_labels_cannot_reach_training_or_selection(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    """Labels that say the opposite change the final scores, and nothing else: same weights, same selected step."""
    data = data_of(kind)
    settings: dict[str, Any] = {"max_steps": 6, "evaluate_every": 1, "dropout": 0.1, "learning_rate": 5e-3}
    plan = [{"name": "pretrain", "head_steps": 1}, "finetune"]
    facts, scores = [], []
    for name, given in (("clean", data), ("poisoned", poisoned(kind, data))):
        recipe = make_recipe(tmp_path / name, tiny_bert, kind, "full", ("dann",), stages=plan, **settings)
        scores.append(run(recipe, data=given).metrics["scores"]["adapted"])
        done = json.loads((tmp_path / name / "stages/2-finetune/done.json").read_text())
        facts.append((done["selected_step"], done["best_dev"], done["last_loss"]))
    assert same_weights(tmp_path / "clean/model", tmp_path / "poisoned/model")
    assert facts[0] == facts[1]
    assert scores[0]["source.dev"] == scores[1]["source.dev"]
    if kind == "classification":
        assert scores[0]["target.test"] != scores[1]["target.test"]


@pytest.mark.parametrize("kind", ["classification", "multi_label", "sentiment", "ner"])
def test_labels_of_unlabelled_rows_are_dropped_and_the_user_is_told(kind: str, tiny_bert: Path) -> None:
    recipe = resolve(make_recipe(Path("x"), tiny_bert, kind))
    splits = load_splits(recipe, data_of(kind))
    assert splits.unlabelled is not None
    columns = set(splits.unlabelled.rows.column_names)
    assert columns == ({"text", "words", "starts"} if kind == "ner" else {"text"})
    assert any("target.unlabelled" in note and "dropped" in note for note in splits.notes)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_labels_in_files_of_unlabelled_text_are_dropped(suffix: str, tiny_bert: Path, tmp_path: Path) -> None:
    rows = rows_of("classification", 9, 3)
    path = tmp_path / f"target.{suffix}"
    if suffix == "parquet":
        rows.to_parquet(path)
    elif suffix == "jsonl":
        rows.to_json(path)
    else:
        rows.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    recipe = make_recipe(Path("x"), tiny_bert)
    assert recipe.data.target.unlabelled is not None
    recipe.data.target.unlabelled.path = str(path)
    given = data_of("classification")
    del given["target.unlabelled"]
    splits = load_splits(resolve(recipe), given)
    assert splits.unlabelled is not None
    assert splits.unlabelled.rows.column_names == ["text"]
    assert len(splits.unlabelled.rows) == 9
