"""Several teachers at once, and the strategy that learns from all others of its comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Listener, data_of, recipe_data, recipe_for
from scipy.special import expit, logit, softmax

from nlp_transfer import finding, jobs, models, parts
from nlp_transfer.comparison import runs
from nlp_transfer.comparison.compare import compare
from nlp_transfer.comparison.runs import members
from nlp_transfer.errors import ModelError, RecipeError
from nlp_transfer.forward import window_logits
from nlp_transfer.parts import recipe_from
from nlp_transfer.predictions import read_target
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.recipe.schema import ModelSpec
from nlp_transfer.running import run
from nlp_transfer.stages.teacher import mean_answer

NAMES = ["source_only", "dann", "mcc", "ensemble"]
ROLES = ["source-only", "adapted", "adapted"]


# Several teachers


@pytest.mark.parametrize("independent", [False, True])
def test_the_mean_answer_has_the_mean_probabilities(independent: bool) -> None:
    each = np.random.default_rng(0).normal(0, 4, (3, 7, 5))
    found = mean_answer(list(each), independent)
    if independent:
        np.testing.assert_allclose(found, logit(expit(each).mean(0)), rtol=1e-5)
    else:
        np.testing.assert_allclose(softmax(found, -1), softmax(each, -1).mean(0), rtol=1e-5)
    certain = mean_answer([np.array([1e4, -1e4]), np.array([1e4, -1e4])], independent)
    assert np.isfinite(certain).all()


@pytest.mark.parametrize(("kind", "tuning"), [("ner", "full"), ("classification", "lora")])
def test_target_rows_carry_the_mean_of_the_teachers(
    kind: str, tuning: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = []
    for seed in (1, 2):
        values = recipe_data(tmp_path / f"teacher-{seed}", tiny_bert, kind, {"name": tuning})
        teachers.append(run(recipe_from(values | {"seed": seed}), data=data_of(kind), checked=False).model)
    taught, train = [], jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, model: taught.append(job.data) or train(job, model))
    method = {"name": "anchor", "teacher": [str(place) for place in teachers], "on": "target", "temperature": 1.0}
    values = recipe_data(tmp_path / "student", tiny_bert, kind, methods=(method,))
    result = run(recipe_from(values), data=data_of(kind), checked=False)
    (data,) = taught
    each = []
    for place in teachers:
        resolved = finding.resolve(str(place))
        labels = models.label_names(resolved) or []
        task = parts.build_task(recipe_from(values).task, labels)
        model = models.load_model(task.auto_class, resolved, models.read_config(resolved, num_labels=len(labels))).model
        each.append(window_logits(model, [_window(row) for row in data.target], 0))
    for row, *logits in zip(data.target, *each, strict=True):
        expected = np.mean([softmax(one[row["units"]] if kind == "ner" else one, -1) for one in logits], axis=0)
        np.testing.assert_allclose(softmax(row["teacher"], -1), expected, atol=1e-5)
    assert all(not row["teacher"].any() for row in data.source), "nobody asks them about rows with labels"
    log = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert any(line.get("loss_anchor_distance", 0) > 0 for line in log)


class _window:
    """What reading needs of a window."""

    def __init__(self, row: dict[str, Any]):
        self.input_ids = list(row["input_ids"])


def test_every_teacher_is_checked(tiny_bert: Path, tmp_path: Path) -> None:
    first = run(recipe_from(recipe_data(tmp_path / "a", tiny_bert)), data=data_of("classification"), checked=False)
    other = run(recipe_from(recipe_data(tmp_path / "b", tiny_bert, "ner")), data=data_of("ner"), checked=False)
    method = {"name": "anchor", "teacher": [str(first.model), str(other.model)]}
    with pytest.raises(ModelError, match="has the labels"):
        run(recipe_from(recipe_data(tmp_path / "c", tiny_bert, methods=(method,))), data=data_of("classification"))
    with pytest.raises(RecipeError, match="teacher"):
        recipe_from(recipe_data(tmp_path / "d", tiny_bert, methods=({"name": "anchor", "teacher": []},)))


# The strategy


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("comparison")
    named = ["source_only", "ensemble", "dann", "mcc"]  # the order does not matter
    found = compare(recipe_for(folder, tiny_bert), named, [1, 2], data=data_of("classification"))
    return found.folder, found.summary


def test_an_ensemble_learns_from_the_own_models_of_its_seed(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = compared
    assert list(summary["strategies"]) == ["source_only", "dann", "mcc", "ensemble"]
    for seed in (1, 2):
        recipe = parts.load_recipe(folder / f"runs/ensemble/{seed}/recipe.yaml")
        (method,) = recipe.methods
        own = [str(folder / f"runs/{name}/{seed}/stages/1-finetune/model") for name in NAMES[:3]]
        assert (method.name, method.settings["teacher"]) == ("anchor", own)
        metrics = json.loads((folder / f"runs/ensemble/{seed}/metrics.json").read_text())
        assert {"adapted", "source-only"} <= set(metrics["scores"]), "it stands beside a twin"
    assert {"gain", "mean_rank"} <= set(summary["strategies"]["ensemble"])


def test_what_the_ensemble_has_taught_has_no_vote_in_it(
    compared: tuple[Path, dict[str, Any]], tiny_bert: Path, tmp_path: Path
) -> None:
    folder, summary = compared
    recipe = recipe_for(folder.parent, tiny_bert)
    found = compare(recipe, NAMES[:3], [1, 2], folder=folder, data=data_of("classification"))
    for name in NAMES[:3]:
        assert found.summary["strategies"][name]["label_free"] == summary["strategies"][name]["label_free"]
    assert summary["strategies"]["ensemble"]["label_free"]["ensemble"] is not None


def test_a_comparison_with_an_ensemble_may_be_moved(
    compared: tuple[Path, dict[str, Any]], tiny_bert: Path, tmp_path: Path
) -> None:
    folder, summary = compared
    shutil.copytree(folder, tmp_path / "elsewhere")
    recipe, listener = recipe_for(folder.parent, tiny_bert), Listener()
    elsewhere = tmp_path / "elsewhere"
    found = compare(recipe, NAMES, [1, 2], folder=elsewhere, data=data_of("classification"), reporter=listener)
    assert found.summary == summary
    assert listener.said == []


def test_collapsed_models_do_not_teach(compared: tuple[Path, dict[str, Any]], tiny_bert: Path, tmp_path: Path) -> None:
    folder, _ = compared
    shutil.copytree(folder / "runs", tmp_path / "runs")
    path = tmp_path / "runs/dann/1/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"guard": metrics["guard"] | {"collapsed": True}}))
    specs = [StrategySpec(name=name) for name in NAMES]
    first, second = (
        one for one in members(recipe_for(folder.parent, tiny_bert), specs, [1, 2], tmp_path) if one.others
    )
    taught_by = [
        [Path(place).parts[-5] for place in one.recipe.methods[0].settings["teacher"]] for one in (first, second)
    ]
    assert taught_by == [["source_only", "mcc"], ["source_only", "dann", "mcc"]]


def test_it_waits_for_its_teachers(
    compared: tuple[Path, dict[str, Any]], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = compared
    shutil.copytree(folder / "runs", tmp_path / "runs")
    cost = tmp_path / "runs/mcc/1/cost.json"
    cost.rename(tmp_path / "cost.json")
    shutil.rmtree(tmp_path / "runs/ensemble")
    specs = [StrategySpec(name=name) for name in NAMES]
    planned = [one for one in members(recipe_for(folder.parent, tiny_bert), specs, [1], tmp_path) if one.others]
    listener = Listener()

    def other_process(seconds: float) -> None:
        # What else sleeps later does not count.
        if not cost.exists():
            said.extend(listener.said)
            (tmp_path / "cost.json").rename(cost)

    said: list[str] = []
    monkeypatch.setattr(runs.time, "sleep", other_process)
    runs.run_all(planned, data_of("classification"), reporter=listener)
    assert said == ["── ensemble, seed 1", "another process is busy with what it is made of"]
    assert planned[0].done


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"guard": {"max_rows": 5}}, {"selection": {"name": "bnm", "max_rows": 5}}])
def test_all_are_judged_on_the_same_rows_whoever_has_a_guard(
    asked: dict[str, Any], tiny_bert: Path, tmp_path: Path
) -> None:
    data = recipe_data(tmp_path / "run", tiny_bert, methods=("dann",)) | asked
    data.pop("source_only")
    found = compare(recipe_from(data), NAMES[:3], [1], data=data_of("classification"))
    seen = {name: read_target(found.folder / f"runs/{name}/1", role) for name, role in zip(NAMES, ROLES, strict=False)}
    (units,) = {one.shape[1] for one in seen.values() if one is not None}
    assert len(seen) == 3 and (units == 5) == ("guard" in asked)


def test_ensembles_that_cannot_be_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, tiny_bert)
    extended = recipe.model_copy(update={"model": ModelSpec(id=str(tiny_bert), extend_vocabulary={"tokens": 2})})
    with pytest.raises(RecipeError, match="read the same tokens"):
        compare(extended, ["pretrain", "mcc", "ensemble"], [1], data=data_of("classification"))
    with pytest.raises(RecipeError, match="leave out self_train"):
        compare(recipe, ["dann", "mcc", "self_train+ensemble"], [1], data=data_of("classification"))
    with pytest.raises(RecipeError, match="stands alone"):
        compare(recipe, ["source_only+dann"], [1], data=data_of("classification"))
    with pytest.raises(RecipeError, match="at least two strategies beside source_only"):
        compare(recipe, ["dann", "ensemble"], [1], data=data_of("classification"))
    with pytest.raises(RecipeError, match="name one of the two"):
        compare(recipe, ["dann", "mcc", "anchor+ensemble"], [1], data=data_of("classification"))
