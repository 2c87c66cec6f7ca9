"""Distillation from the source-only twin: Hinton's divergence, the right logits for each unit, computed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, make_recipe, recipe_data, rows_of, same_weights
from training import build

from nlp_transfer import finding, jobs, models, parts
from nlp_transfer.data.batching import PairCollator
from nlp_transfer.forward import window_logits
from nlp_transfer.functional import distillation_divergence
from nlp_transfer.methods.anchor import Anchor
from nlp_transfer.running import run
from nlp_transfer.stages import teacher as stage
from nlp_transfer.units import UNKNOWN, Sizes, Step


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def single(own: np.ndarray, other: np.ndarray, temperature: float) -> float:
    p, q = softmax(other / temperature), softmax(own / temperature)
    return temperature**2 * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def several(own: np.ndarray, other: np.ndarray, temperature: float) -> float:
    total = 0.0
    for x, y in zip(own / temperature, other / temperature, strict=True):
        p, q = 1 / (1 + np.exp(-y)), 1 / (1 + np.exp(-x))
        total += p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * total / len(own)


def decisions(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    labels = torch.full(logits.shape if multi_label else logits.shape[:1], UNKNOWN)
    rest = torch.zeros(len(logits))
    return Step(logits, logits, labels, rest, rest, 0.5, torch.nn.Linear(1, 1)).decisions_UKD


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("multi_label", [False, True])
def test_divergence_is_the_papers(multi_label: bool, temperature: float) -> None:
    draw = np.random.default_rng(0)
    own, other = draw.normal(size=(2, 5, 4)) * 2
    first, second = (decisions(torch.tensor(values), multi_label) for values in (own, other))
    formula = several if multi_label else single
    expected = [formula(x, y, temperature) for x, y in zip(own, other, strict=True)]
    assert distillation_divergence(first, second, temperature).tolist() == pytest.approx(expected, rel=1e-9)
    assert distillation_divergence(first, first, temperature).tolist() == pytest.approx([0.0] * 5, abs=1e-12)


def test_certain_answers_stay_finite_and_the_teacher_gets_no_gradient() -> None:
    own = torch.tensor([[300.0, -300.0]], requires_grad=True)
    other = torch.tensor([[-300.0, 300.0]], requires_grad=True)
    for multi_label in (False, True):
        value = distillation_divergence(*(decisions(given, multi_label) for given in (own, other)), 1.0)
        assert torch.isfinite(value).all()
        value.sum().backward()
    assert other.grad is None
    assert own.grad is not None and torch.isfinite(own.grad).all()


def step_of(teacher: torch.Tensor | None, multi_label: bool = False) -> Step:
    torch.manual_seed(0)
    labels = torch.full((4, 3) if multi_label else (4,), UNKNOWN)
    weight, domain = torch.tensor([1.0, 0.5, 0.5, 1.0]), torch.tensor([0, 0, 1, 1])
    logits = torch.randn(4, 3, dtype=torch.float64)
    return Step(torch.zeros(4, 2), logits, labels, weight, domain, 0.5, torch.nn.Linear(1, 1), teacher)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("on", "chosen"), [("source", [0, 1]), ("target", [2, 3]), ("both", [0, 1, 2, 3])])
def test_mean_is_over_the_chosen_rows(on: Any, chosen: list[int], multi_label: bool) -> None:
    teacher = torch.randn(4, 3, dtype=torch.float64)
    step = step_of(teacher, multi_label)
    formula = several if multi_label else single
    weights = step.weight_U[chosen].tolist()
    values = [formula(step.logits_UC[unit].numpy(), teacher[unit].numpy(), 3.0) for unit in chosen]
    value = Anchor(Sizes(2, 3), temperature=3.0, on=on).terms(step)["distance"]
    assert value.item() == pytest.approx(float(np.average(values, weights=weights)), rel=1e-6)


def test_batch_without_a_chosen_unit_gives_nothing() -> None:
    empty = Step(torch.zeros(0, 2), torch.zeros(0, 3, requires_grad=True), torch.zeros(0), torch.zeros(0),
                 torch.zeros(0), 0.5, torch.nn.Linear(1, 1), torch.zeros(0, 3))  # fmt: skip
    value = Anchor(Sizes(2, 3)).terms(empty)["distance"]
    assert value.item() == 0.0
    value.backward()
    with pytest.raises(ValueError, match="with_teacher"):
        Anchor(Sizes(2, 3)).terms(step_of(None))


@pytest.mark.parametrize("kind", ["classification", "multi_label", "ner"])
def test_each_unit_of_a_batch_has_the_logits_of_its_own_text(kind: str, tiny_bert: Path) -> None:
    """The model as its own teacher: batched and padded with others, every unit agrees with what was computed apart."""
    bench = build(tiny_bert, kind, dann=True, max_length=12)
    assert bench.target is not None
    model, pad = bench.model.eval(), bench.tokenizer.pad_token_id
    source, target = (
        given.with_teacher(window_logits(model, given.windows, pad)) for given in (bench.source, bench.target)
    )
    assert "teacher" not in bench.source.features[0]
    items = [{"source": source.features[at], "target": target.features[-at - 1]} for at in (3, 0, 7)]
    batch = PairCollator(pad)(items)
    output = model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True)
    units = bench.task.units(output.hidden_states[-1], output.logits, batch)
    assert batch["teacher"].shape == units["logits_UC"].shape
    torch.testing.assert_close(batch["teacher"], units["logits_UC"].detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "tuning"), [("ner", "full"), ("multi_label", "lora")])
def test_teacher_is_the_twin_and_runs_once(
    kind: str, tuning: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, calls, train = [], [], jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, model: taught.append(job.data) or train(job, model))
    monkeypatch.setattr(stage, "window_logits", lambda *a, **k: calls.append(a[1]) or window_logits(*a, **k))
    values = recipe_data(tmp_path / "run", tiny_bert, kind, {"name": tuning}, ({"name": "anchor"},), max_steps=7)
    result = run(parts.recipe_from(values | {"source_only": True, "guard": False}), data=data_of(kind))
    (windows,) = calls  # however many steps there are
    data = taught[1]
    assert len(windows) == len(data.source) + len(data.target)
    assert "teacher" not in taught[0].source[0]
    resolved = finding.resolve(str(twin := tmp_path / "run/stages/source-only/model"))
    kind_of = {"ner": "AutoModelForTokenClassification"}.get(kind, "AutoModelForSequenceClassification")
    labels = json.loads((twin / "config.json").read_text())["id2label"]
    model = models.load_model(kind_of, resolved, models.read_config(resolved, num_labels=len(labels))).model
    logits = window_logits(model, windows, 0)
    for row, values_of in zip([*data.source, *data.target], logits, strict=True):
        expected = values_of[row["units"]] if kind == "ner" else values_of
        np.testing.assert_allclose(row["teacher"], expected, atol=1e-5)
    log = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert all("loss_anchor_distance" in line for line in log if line["stage"] == "finetune" and "loss" in line)


def test_strong_anchor_keeps_the_answers(tiny_bert: Path, tmp_path: Path) -> None:
    """Against a discriminator that tears features apart: the last logged distance is far smaller with it."""
    settings: dict[str, Any] = {"max_steps": 12, "learning_rate": 5e-3}
    distances = {}
    for weight in (0.0, 30.0):
        methods = ({"name": "dann", "max_lambda": 5.0}, {"name": "anchor", "weight": weight})
        values = recipe_data(tmp_path / str(weight), tiny_bert, methods=methods, **settings)
        result = run(parts.recipe_from(values | {"source_only": True, "guard": False}), data=data_of("classification"))
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        distances[weight] = [line["loss_anchor_distance"] for line in lines if "loss_anchor_distance" in line][-1]
    assert distances[30.0] < 0.7 * distances[0.0]


def test_interrupted_run_ends_the_same(tiny_bert: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 4, "evaluate_every": 2, "dropout": 0.1}
    recipes = []
    for name in ("whole", "cut"):
        values = recipe_data(tmp_path / name, tiny_bert, "ner", {"name": "full"}, ({"name": "anchor"},), **settings)
        recipes.append(parts.recipe_from(values | {"source_only": True, "guard": False}))
    run(recipes[0], data=data_of("ner"))
    with pytest.raises(KeyboardInterrupt):
        run(recipes[1], data=data_of("ner"), reporter=Listener("finetune", 3))  # type: ignore[arg-type]
    run(recipes[1], data=data_of("ner"))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")


def test_two_methods_with_a_teacher_are_refused(tiny_bert: Path) -> None:
    class Other(parts.METHODS["anchor"]):  # type: ignore[name-defined, misc]
        """One of the user's own."""

    values = recipe_data(Path("x"), tiny_bert, methods=({"name": "anchor"}, {"name": "other"}))
    del values["source_only"]
    (finding,) = parts.findings(values, parts.METHODS | {"other": Other})
    assert finding[0] == ("methods", 1)
    assert finding[1].startswith("'other' and 'anchor' each need a teacher")


def test_without_a_twin_it_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(Exception, match=r"'anchor' learns from the source-only twin.*source_only: true"):
        make_recipe(Path("x"), tiny_bert, methods=("anchor",))
    values = recipe_data(Path("x"), tiny_bert, methods=({"name": "anchor"},))
    del values["source_only"]  # true where it is not said
    assert parts.findings(values) == []


def without_target(folder: Path, model: Path, on: str) -> dict[str, Any]:
    """A recipe without text of the target, with an anchor."""
    values = recipe_data(folder, model, methods=({"name": "anchor", "on": on},), source_only=True)
    del values["data"]["target"]["unlabelled"]
    return values


def test_target_text_is_needed_where_answers_on_it_are_compared() -> None:
    assert parts.findings(without_target(Path("x"), Path("x"), "source")) == []
    for on in ("target", "both"):
        (found,) = parts.findings(without_target(Path("x"), Path("x"), on))
        assert found[0] == ("methods", 0)
        assert "'anchor' needs unlabelled target text" in found[1]


def test_on_source_it_trains_without_target_text(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, train = [], jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, model: taught.append(job.data) or train(job, model))
    data = {name: rows for name, rows in data_of("classification").items() if name != "target.unlabelled"}
    result = run(parts.recipe_from(without_target(tmp_path / "run", tiny_bert, "source")), data=data)
    assert [(len(one.source), one.target, one.text) for one in taught] == [(24, None, None)] * 2
    assert all(row["teacher"].any() for row in taught[1].source)
    lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert any(line.get("loss_anchor_distance", 0) > 0 for line in lines)
    assert "trained without any text of a target domain" in (result.folder / "README.md").read_text()


@pytest.mark.parametrize("on", ["source", "target"])
def test_only_rows_whose_answers_are_compared_are_given_to_the_teacher(
    on: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labelled target rows alone: an anchor on the source reads source text beside them, or it would do nothing."""
    taught, train = [], jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, model: taught.append(job.data) or train(job, model))
    stages = ["finetune", {"name": "finetune", "on": "target"}]
    values = recipe_data(
        tmp_path / "run",
        tiny_bert,
        methods=({"name": "anchor", "on": on},),
        stages=stages,
        source_only=True,
        target_labels=True,
    )
    data = data_of("classification") | {"target.train": rows_of("classification", 9, 7)}
    result = run(parts.recipe_from(values | {"guard": False}), data=data)
    first, last = taught[2:]
    read = {"source": (True, False), "target": (False, True)}[on]
    beside = first.target is not None
    assert (all(row["teacher"].any() for row in first.source), beside) == read
    sides = {"labelled": last.source, "target": last.target, "text": last.text}
    given = {name: any(row["teacher"].any() for row in rows) for name, rows in sides.items() if rows is not None}
    wanted = {"source": {"labelled": False, "text": True}, "target": {"labelled": True, "target": True}}[on]
    assert given == wanted
    lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    own = [line["loss_anchor_distance"] for line in lines if line["stage"] == "finetune-2" and "loss" in line]
    assert own and all(value > 0 for value in own)
