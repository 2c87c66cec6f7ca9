"""Decay towards the starting point: the paper's sum, and a start that survives pretraining, adapters and a resume."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, make_recipe, recipe_data, same_weights, saved_weights
from training import build

from nlp_transfer import parts
from nlp_transfer.methods.l2sp import L2sp
from nlp_transfer.running import run
from nlp_transfer.trainer import SIDE_FILE, TransferTrainer
from nlp_transfer.units import Sizes, Step

SETTINGS: dict[str, Any] = {"max_steps": 4, "evaluate_every": 2, "dropout": 0.1, "learning_rate": 5e-3}


def step_of(model: Any) -> Step:
    return Step(torch.zeros(1, 4), torch.zeros(1, 3), torch.zeros(1), torch.ones(1), torch.zeros(1), 0.5, model)


def nudge(model: Any) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def by_the_paper(now: dict[str, Any], start: dict[str, Any], alpha: float, beta: float) -> dict[str, float]:
    """Sums over numpy arrays; the pooler is a part of the head."""
    sums = {"start": 0.0, "head": 0.0}
    for name, value in now.items():
        weights = value.detach().numpy().astype(np.float64)
        if ".encoder." in name or ".embeddings." in name:
            sums["start"] += alpha / 2 * float(((weights - start[name].numpy()) ** 2).sum())
        else:
            sums["head"] += beta / 2 * float((weights**2).sum())
    return sums


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_terms_and_gradients_are_the_papers(tuning: str, tiny_bert: Path) -> None:
    model = build(tiny_bert, "classification", tuning=tuning).model
    method = L2sp(Sizes(32, 3), alpha=0.3, beta=0.07)
    method.attach(model)
    moving = {name: value for name, value in model.named_parameters() if value.requires_grad}
    start = {name: value.detach().clone() for name, value in moving.items()}
    assert method.terms(step_of(model))["start"].item() == 0.0
    nudge(model)
    terms = method.terms(step_of(model))
    expected = by_the_paper(moving, start, 0.3, 0.07)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for name, value in moving.items():
        held = ".encoder." in name or ".embeddings." in name
        wanted = 0.3 * (value - start[name]) if held else 0.07 * value
        torch.testing.assert_close(value.grad, wanted.detach(), atol=1e-6, rtol=1e-4)


def test_strong_pull_keeps_the_encoder_where_it_was(tiny_bert: Path, tmp_path: Path) -> None:
    """Alone it needs no target text; the head moves on."""
    moved = {}
    for alpha in (0.0, 50.0):
        values = recipe_data(tmp_path / str(alpha), tiny_bert, methods=({"name": "l2sp", "alpha": alpha},), max_steps=6)
        del values["data"]["target"]["unlabelled"]
        data = {name: rows for name, rows in data_of("classification").items() if name != "target.unlabelled"}
        result = run(parts.recipe_from(values), data=data)
        base, ours = saved_weights(tiny_bert), saved_weights(result.model)
        moved[alpha] = sum(
            float((ours[f"bert.{name}"] - value).square().sum()) for name, value in base.items() if "pooler" not in name
        )
    assert moved[50.0] < 0.7 * moved[0.0]


def test_target_rows_are_not_read_in_vain(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_transfer import jobs

    seen = []
    train = jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, model: seen.append(job.data.target) or train(job, model))
    run(make_recipe(tmp_path / "run", tiny_bert, methods=("l2sp",)), data=data_of("classification"))
    assert seen == [None]


def test_frozen_features_are_refused(tiny_bert: Path) -> None:
    found = parts.findings(recipe_data(Path("x"), tiny_bert, tuning={"name": "frozen"}, methods=({"name": "l2sp"},)))
    assert [path for path, _ in found] == [("methods", 0)]
    assert "frozen" in found[0][1]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[list[torch.Tensor]]:
    """The starting weights that each training with methods holds on to, once it has ended."""
    seen: list[list[torch.Tensor]] = []
    train = TransferTrainer.train

    def spied(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return train(self, *args, **kwargs)
        finally:
            seen.extend(copy.deepcopy(method._start) for method in self.objective.methods.values())

    monkeypatch.setattr(TransferTrainer, "train", spied)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_start_is_that_of_the_stage_also_after_a_resume(
    tuning: str, tiny_bert: Path, tmp_path: Path, starts: list[list[torch.Tensor]]
) -> None:
    """After a pretrain stage, and not the weights of the checkpoint that the run goes on from."""
    plan = [{"name": "pretrain", "head_steps": 1, "train": {"max_steps": 2, "batch_size": 2}}, "finetune"]
    whole, cut = (
        make_recipe(tmp_path / name, tiny_bert, "classification", tuning, ("l2sp",), stages=plan, **SETTINGS)
        for name in ("whole", "cut")
    )
    run(whole, data=data_of("classification"))
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=data_of("classification"), reporter=Listener("finetune", 3))  # type: ignore[arg-type]
    assert (tmp_path / "cut/stages/2-finetune/checkpoint-2" / SIDE_FILE).is_file()
    run(cut, data=data_of("classification"))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")
    assert len(starts) == 3
    pretrained = saved_weights(tmp_path / "whole/stages/1-pretrain/model")
    for start in starts:
        assert all(torch.equal(one, other) for one, other in zip(start, starts[0], strict=True))
        assert all(any(torch.equal(one, other) for other in pretrained.values()) for one in start)
