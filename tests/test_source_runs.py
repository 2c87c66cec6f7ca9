"""Whole runs with two source domains: every task, method and stage, full and LoRA, stopped and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers import TASKS, Listener, data_of, make_recipe, recipe_data, same_weights, shown
from training import losses_are_finite_and_named, part

from nlp_transfer import compare, diagnose, jobs, parts
from nlp_transfer.data.mixture import Mixture
from nlp_transfer.diagnosis import between
from nlp_transfer.diagnosis.features import Features
from nlp_transfer.diagnosis.probe import TARGET, TRAIN
from nlp_transfer.diagnosis.result import Skipped
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.running import run
from nlp_transfer.stages import self_train
from nlp_transfer.strategies import strategy_recipe

METHODS = tuple(part(name) for name in parts.METHODS)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[jobs.Job, Any]]:
    """The trainings of a run, each with the shapes of its methods' weights."""
    found: list[tuple[jobs.Job, Any]] = []
    train = jobs.train

    def spied(job: jobs.Job, model: Any) -> dict[str, Any]:
        shapes = {name: value.shape for one in job.objective.methods.values() for name, value in one.named_parameters()}
        found.append((job, shapes))
        return train(job, model)

    monkeypatch.setattr(jobs, "train", spied)
    return found


@pytest.mark.parametrize("tuning", [pytest.param("full", marks=pytest.mark.slow), "lora"])
@pytest.mark.parametrize("kind", TASKS)
def test_all_methods_at_once(
    kind: str, tuning: str, tiny_bert: Path, tmp_path: Path, seen: list[tuple[jobs.Job, Any]]
) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, kind, tuning, METHODS, source_only=True, sources=2)
    result = run(recipe, data=data_of(kind, sources=2))
    losses_are_finite_and_named(result.folder, tuple(parts.METHODS))
    for job, shapes in seen:
        if job.title in ("finetune", "source-only"):
            assert isinstance(job.order.mixture, Mixture)
            assert list(job.order.mixture.shares.values()) == [0.5, 0.5]
        if job.title == "finetune":
            assert shapes["discriminator.3.bias"] == (3,)
    for scores in result.metrics["scores"].values():
        assert set(scores) == {"source.dev", "source.first.dev", "source.second.dev", "target.test"}


@pytest.mark.parametrize("kind", ["multi_label", "ner"])
def test_frozen_features(kind: str, tiny_bert: Path, tmp_path: Path, seen: list[tuple[jobs.Job, Any]]) -> None:
    result = run(
        make_recipe(tmp_path / "run", tiny_bert, kind, "frozen", sources=2, max_steps=5), data=data_of(kind, sources=2)
    )
    assert isinstance(seen[-1][0].order.mixture, Mixture)
    assert "source.second.dev" in result.metrics["scores"]["source-only"]


def test_every_stage_reads_all_sources(
    tiny_bert: Path, tmp_path: Path, seen: list[tuple[jobs.Job, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small a model may say one label only, which would end self-training before it begins.
    monkeypatch.setattr(self_train, "one_class", lambda *args: None)
    stages = [
        {"name": "pretrain", "text": "both", "head_steps": 0, "block_length": 16},
        {"name": "finetune"},
        {"name": "self_train", "rounds": 1, "mean_teacher": {}, "train": {"max_steps": 2}},
    ]
    settings: dict[str, Any] = {"tuning": "lora", "methods": ("dann",), "stages": stages, "selection": "dev"}
    listener = Listener()
    recipe = make_recipe(tmp_path / "run", tiny_bert, **settings, sources=2, source_only=True)
    result = run(recipe, data=data_of("classification", sources=2), reporter=listener)  # type: ignore[arg-type]
    titles = [job.title for job, _ in seen]
    assert titles == ["source-only", "pretrain", "finetune", "self_train 1"]
    # 24 and 12 rows of the sources, 19 of the target.
    assert any(said.startswith("pretrain (mlm): 55 texts") for said in listener.said)
    assert seen[-1][1]["discriminator.3.bias"] == (3,)
    assert isinstance(seen[-1][0].order.mixture, Mixture)
    assert result.metrics["guard"]["kept"] in ("adapted", "source-only")


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch is 6 steps: 24 rows twice. The training is stopped in the second one."""
    ends: list[dict[str, torch.Tensor]] = []

    def recorded(trainer: Any) -> None:
        ends.append({name: value.clone() for name, value in trainer.model.state_dict().items()})

    monkeypatch.setattr(jobs.TransferTrainer, "_load_best_model", recorded)
    data = data_of("classification", sources=2)
    settings: dict[str, Any] = {"methods": ("dann",), "sources": 2, "max_steps": 10, "evaluate_every": 3}
    whole = run(make_recipe(tmp_path / "whole", tiny_bert, **settings), data=data)
    recipe = make_recipe(tmp_path / "cut", tiny_bert, **settings)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data=data, reporter=Listener("finetune", 8))  # type: ignore[arg-type]
    cut = run(recipe, data=data)
    assert same_weights(whole.model, cut.model)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_other_rows_of_one_source_are_another_training(tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of("classification", sources=2)
    recipe = make_recipe(tmp_path / "run", tiny_bert, sources=2)
    first = run(recipe, data=data).folder / "stages" / "1-finetune" / "done.json"
    before = json.loads(first.read_text())["fingerprint"]
    (tmp_path / "run" / "metrics.json").unlink()
    run(recipe, data=data | {"source.1.train": data["source.1.train"].select(range(11))})
    assert json.loads(first.read_text())["fingerprint"] != before


def test_a_comparison_keeps_the_sources(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, sources=2)
    one = strategy_recipe(recipe, StrategySpec(name="dann"), 1, str(tmp_path / "x"))
    assert [source.name for source in one.data.sources.values()] == ["first", "second"]
    found = compare(recipe, ["source_only", "dann"], [1], data=data_of("classification", sources=2)).summary
    assert set(found["strategies"]["dann"]["scores"]) == {
        *("source.dev", "source.first.dev", "source.second.dev", "target.test")
    }


def test_a_diagnosis_says_which_source_is_nearest(tiny_bert: Path, tmp_path: Path) -> None:
    """The second source is the target's own text; the first shares no word with it."""
    data = data_of("classification", 60, sources=2)
    labels = ["good", "bad"] * 30
    near, far = data["target.unlabelled"]["text"][:], [f"Oslo Nile Berg {label}" for label in labels]
    data["source.0.train"] = datasets.Dataset.from_dict(
        {"text": [f"{text} {number}" for number, text in enumerate(far)], "label": labels}
    )
    data["source.1.train"] = datasets.Dataset.from_dict({"text": list(near), "label": labels[: len(near)]})
    data |= dict.fromkeys(("source.0.dev", "source.1.dev"), data["source.1.train"])
    found = diagnose(parts.recipe_from(recipe_data(tmp_path / "run", tiny_bert, sources=2)), data)
    assert list(found.sources) == ["first", "second"]
    first, second = found.sources["first"], found.sources["second"]
    assert not isinstance(first, Skipped)
    assert not isinstance(second, Skipped)
    assert second.distance.value < 0.5 < 1.5 < first.distance.value
    text = shown(found)
    assert "Nearest to the target is source 'second'." in text
    assert "A-distance from source 'first', by encoder features" in text


def test_sources_are_measured_on_as_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    origins = draw.permutation([0] * 60 + [1] * 40 + [2] * 10)
    sides = {
        TRAIN: Features(draw.normal(size=(110, 4)), draw.normal(size=(110, 4)), np.arange(110), None, []),
        TARGET: Features(draw.normal(size=(30, 4)), draw.normal(size=(30, 4)), np.arange(30), None, []),
    }
    sides = {role: replace(side, groups_N=[f"{role} {at}" for at in range(len(side))]) for role, side in sides.items()}
    rows = datasets.Dataset.from_dict({"text": [""] * 110, "origin": origins})
    samples: Any = {TRAIN: SimpleNamespace(rows=rows), TARGET: None}
    sizes = []
    measure = between.proxy_a_distance
    monkeypatch.setattr(
        between, "proxy_a_distance", lambda *args: (sizes.append(np.bincount(args[1]).tolist()), measure(*args))[1]
    )
    found = between.source_distances(SimpleNamespace(features=sides), samples, ["a", "b", "c"], 0)  # type: ignore
    assert sizes == [[40, 30], [40, 30]]
    assert list(found) == ["a", "b", "c"]
    assert isinstance(found["c"], Skipped)
    assert "10 different texts" in found["c"].skipped
    assert between.source_distances(SimpleNamespace(features=sides), samples, ["a"], 0) == {}  # type: ignore
