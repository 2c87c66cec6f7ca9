"""Weight averages: the sums of the papers, scored and kept in place of the weights, and whole after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, make_recipe, recipe_data, same_weights, saved_weights
from safetensors.torch import load_file

from nlp_transfer import averaging, jobs
from nlp_transfer.averaging import AVERAGE_FILE
from nlp_transfer.errors import RecipeError
from nlp_transfer.parts import recipe_from
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.running import run
from nlp_transfer.stages import base as stages

EMA = {"name": "ema", "decay": 0.6}
SWA = {"name": "swa", "begin": 0.5}
SETTINGS: dict[str, Any] = {"max_steps": 6, "evaluate_every": 2, "dropout": 0.1, "learning_rate": 5e-3}
STAGE = Path("stages") / "1-finetune"


def expected(average: dict[str, Any], history: list[np.ndarray], steps: int) -> np.ndarray:
    """The average after the weights of ``history``, as a sum over all of them."""
    done = len(history)
    if average["name"] == "ema":
        shares = [average["decay"] ** (done - 1 - at) for at in range(done)]
    else:
        shares = [float(at >= average["begin"] * steps) for at in range(done)]
    return np.average(history, axis=0, weights=shares)


class Watched:
    """The trained weights after each step of each training, and those that source dev was scored with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.trained: list[dict[str, np.ndarray]] = []
        self.scored: list[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]] = []
        update, score = averaging.WeightAverage.update, jobs._dev_scores

        def updating(average: Any, model: Any, step: int, steps: int) -> None:
            self.trained.append(values(model))
            update(average, model, step, steps)

        def scoring(job: Any, model: Any) -> dict[str, float]:
            self.scored.append((len(self.trained), values(model), self.trained[-1]))
            # The fifth is the best, so that the newest checkpoint is not the one that is kept.
            return score(job, model) | {"accuracy": float(len(self.scored) == 5)}

        monkeypatch.setattr(averaging.WeightAverage, "update", updating)
        monkeypatch.setattr(jobs, "_dev_scores", scoring)

    def average(self, spec: dict[str, Any], step: int, steps: int) -> dict[str, np.ndarray]:
        history = self.trained[:step]
        return {name: expected(spec, [given[name] for given in history], steps) for name in history[0]}


def values(model: Any) -> dict[str, np.ndarray]:
    return {
        name: parameter.detach().double().numpy().copy()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("adaptation.")
    }


def assert_close(ours: dict[str, Any], wanted: dict[str, np.ndarray]) -> None:
    assert ours.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(np.asarray(ours[name]), value, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("average", [EMA, SWA], ids=["ema", "swa"])
def test_average_is_scored_and_the_selected_one_is_kept(
    average: dict[str, Any], tuning: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    last: list[dict[str, np.ndarray]] = []
    save = stages.save_model
    monkeypatch.setattr(stages, "save_model", lambda model, *args: last.append(values(model)) or save(model, *args))
    settings = SETTINGS | {"average": average, "evaluate_every": 1}
    result = run(make_recipe(tmp_path / "run", tiny_bert, tuning=tuning, **settings), data=data_of("classification"))
    assert [step for step, _, _ in watched.scored] == [1, 2, 3, 4, 5, 6]
    for step, seen, plain in watched.scored:
        begun = average["name"] == "ema" or step > 3
        assert_close(seen, watched.average(average, step, 6) if begun else plain)
        if step > 4:
            assert any(not np.allclose(seen[name], plain[name], atol=1e-5) for name in seen)
    facts = json.loads((result.folder / STAGE / "done.json").read_text())
    assert facts["selected_step"] == 5
    assert_close(last[0], watched.scored[4][1])
    if tuning == "full":
        assert_close(saved_weights(result.model), last[0])


def test_training_goes_on_from_its_own_weights(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average is a bystander: with and without it, every step has the same weights."""
    watched = Watched(monkeypatch)
    run(make_recipe(tmp_path / "with", tiny_bert, **SETTINGS, average=EMA), data=data_of("classification"))
    history, plain = watched.trained, []
    monkeypatch.setattr(jobs.TransferTrainer, "take_average", lambda self: plain.append(values(self.model)))
    run(
        make_recipe(tmp_path / "without", tiny_bert, **SETTINGS | {"evaluate_every": 6}), data=data_of("classification")
    )
    assert all(np.array_equal(history[-1][name], value) for name, value in plain[0].items())


def test_average_of_many_steps(tiny_bert: Path) -> None:
    """Rates alone, far out: the weights of a long training sum to those of the formula."""
    for decay in (0.9, 0.999):
        shares = np.zeros(0)
        for step in range(1, 400):
            rate = averaging.ema_rate(step, decay)
            shares = np.append(shares * (1 - rate), rate)
        wanted = decay ** np.arange(398, -1, -1.0)
        np.testing.assert_allclose(shares, wanted / wanted.sum(), rtol=1e-9)
    assert [averaging.swa_rate(step, 8, 0.75) for step in range(1, 9)] == [0, 0, 0, 0, 0, 0, 1.0, 0.5]
    assert [averaging.swa_rate(step, 3, 0.0) for step in (1, 2, 3)] == [1.0, 1 / 2, 1 / 3]


def test_checkpoint_holds_the_weights_and_the_average_of_what_moves(tiny_bert: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"average": SWA, "max_steps": 8}
    recipe = make_recipe(tmp_path / "run", tiny_bert, tuning="lora", methods=("dann",), **settings)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data=data_of("classification"), reporter=Listener("finetune", 7))  # type: ignore[arg-type]
    folder = tmp_path / "run" / STAGE
    assert not list(folder.glob(f"checkpoint-[24]/{AVERAGE_FILE}"))  # nothing to average yet
    averages = load_file(folder / "checkpoint-6" / AVERAGE_FILE)
    assert averages
    assert all("lora_" in name or "classifier" in name or "pooler" in name for name in averages)
    manifest = json.loads((folder / "checkpoint-6/manifest.json").read_text())
    assert AVERAGE_FILE in manifest


CASES = {
    "ema": (EMA, "full", (), 5),
    "ema lora": (EMA, "lora", ("dann",), 5),
    "swa before": (SWA, "full", (), 3),
    "swa after": (SWA, "full", (), 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_interrupted_run_ends_the_same(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    average, tuning, methods, stop = CASES[name]
    whole, cut = (
        make_recipe(tmp_path / folder, tiny_bert, "ner", tuning, methods, **SETTINGS, average=average)
        for folder in ("whole", "cut")
    )
    run(whole, data=data_of("ner"))
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=data_of("ner"), reporter=Listener("finetune", stop))  # type: ignore[arg-type]
    run(cut, data=data_of("ner"))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")
    assert (tmp_path / "whole/metrics.json").read_bytes() == (tmp_path / "cut/metrics.json").read_bytes()


def test_run_stopped_after_training_ends_with_the_average(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **SETTINGS, average=EMA) for name in ("whole", "cut"))
    run(whole, data=data_of("classification"))

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run(cut, data=data_of("classification"))
    run(cut, data=data_of("classification"))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")


def test_pretrain_stage_ends_with_its_average(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No source dev there: the average of all steps. The fit of a fresh head is not averaged."""
    watched = Watched(monkeypatch)
    train = {"max_steps": 3, "batch_size": 2, "average": EMA}
    plan = [{"name": "pretrain", "head_steps": 2, "train": train}, "finetune"]
    run(make_recipe(tmp_path / "run", tiny_bert, stages=plan), data=data_of("classification"))
    assert len(watched.trained) == 3
    saved = saved_weights(tmp_path / "run/stages/1-pretrain/model")
    wanted = watched.average(EMA, 3, 3)
    assert_close({name: saved[name] for name in wanted}, wanted)
    assert any(not np.allclose(value, watched.trained[-1][name], atol=1e-5) for name, value in wanted.items())


def test_frozen_features_and_several_passes_work(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, tuning="frozen", accumulation=2, average="ema")
    assert (run(recipe, data=data_of("classification")).model / "model.safetensors").is_file()


def test_shorthand_is_resolved_and_wrong_settings_are_named(tiny_bert: Path) -> None:
    recipe = resolve(make_recipe(Path("x"), tiny_bert, average="ema"))
    assert recipe.train.average is not None
    assert recipe.train.average.model_dump() == {"name": "ema", "decay": 0.999, "begin": None}
    assert recipe.stages[0].train["average"]["decay"] == 0.999
    assert resolve(recipe) == recipe
    swa = resolve(make_recipe(Path("x"), tiny_bert, average="swa")).train.average
    assert swa is not None
    assert swa.begin == 0.75
    for average, words in (
        ({"name": "ema", "begin": 0.5}, "average 'ema' has no setting 'begin'"),
        ({"name": "swa", "decay": 0.5}, "average 'swa' has no setting 'decay'"),
        ({"name": "ema", "decay": 1.0}, "train.average.decay"),
        ("sma", "train.average.name"),
    ):
        with pytest.raises(RecipeError) as caught:
            recipe_from(recipe_data(Path("x"), tiny_bert, average=average))
        assert words in str(caught.value)


def test_own_weights_come_back_bit_for_bit_even_after_an_error() -> None:
    from nlp_transfer.recipe.schema import AverageSpec

    model = torch.nn.Linear(3, 2)
    average = averaging.WeightAverage(AverageSpec(name="ema", decay=0.5))
    average.update(model, 1, 4)
    with torch.no_grad():
        model.weight.add_(1 / 3)
    average.update(model, 2, 4)
    before, mean = model.weight.detach().clone(), average.values["weight"].clone()
    with pytest.raises(RuntimeError, match="stop"), average.applied(model):
        assert torch.equal(model.weight, mean)
        raise RuntimeError("stop")
    assert torch.equal(model.weight, before)
    assert torch.equal(average.values["weight"], mean)
