"""Self-training as a stage: what it trains on, how it goes on after a stop, and when it ends early."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Listener, data_of, read_lines, recipe_data, rows_of, same_weights
from safetensors.torch import load_file
from samples import minimal, valid

from nlp_transfer import jobs
from nlp_transfer.errors import RecipeError, RunError
from nlp_transfer.objectives import TaskObjective
from nlp_transfer.parts import recipe_from
from nlp_transfer.pseudo_labels import one_class
from nlp_transfer.recipe import dump, resolve
from nlp_transfer.running import RunResult, run
from nlp_transfer.stages import base as stages
from nlp_transfer.stages import self_train

STAGE = Path("stages/2-self_train")
ROUND = {"max_steps": 4, "evaluate_every": 2, "learning_rate": 1e-3}
SELF_TRAIN = {"name": "self_train", "rounds": 2, "share": 0.5, "growth": 0.5, "threshold": 0.3, "train": ROUND}


def recipe_of(model: Path, kind: str = "classification", tuning: Any = "full", methods: Any = (), **stage: Any) -> Any:
    """The output is a relative path, so that a run folder can be copied."""
    selection = stage.pop("selection", "source_dev")
    plan = ["finetune", SELF_TRAIN | stage]
    train = {"max_steps": 12, "evaluate_every": 6, "learning_rate": 5e-3, "dropout": 0.1}
    return recipe_from(recipe_data(Path("run"), model, kind, tuning, methods, plan, selection=selection, **train))


class Stop(Exception):
    """Stands for a killed run."""


def stop(*args: Any, **kwargs: Any) -> Any:
    raise Stop


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models as small as these often say one label only; what is tested here goes on all the same."""
    monkeypatch.setattr(self_train, "one_class", lambda labels, groups: None)


@pytest.fixture(scope="module")
def finetuned(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes a recipe's run folder in which ``finetune`` is done and ``self_train`` is not begun."""
    made: dict[str, Path] = {}

    def make(kind: str = "classification", **stage: Any) -> Any:
        recipe = recipe_of(tiny_bert, kind, **stage)
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("finetuned")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("nlp_transfer.sequence.self_train", stop)
                patch.chdir(made[kind])
                with pytest.raises(Stop):
                    run(recipe, data=data_of(kind))
        shutil.copytree(made[kind] / "run", "run")
        Path("run/recipe.yaml").write_text(dump(resolve(recipe)))
        return recipe

    return make


def go(recipe: Any, kind: str = "classification", data: Any = None) -> tuple[RunResult, Listener]:
    listener = Listener()
    return run(recipe, data=data_of(kind) if data is None else data, reporter=listener), listener  # type: ignore[arg-type]


def facts(folder: Path = Path("run")) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / STAGE / "done.json").read_text())
    return found


# What is trained on


class Spy:
    """Remembers the pseudo-labels of target rows in all batches, by token ids."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.seen: dict[tuple[int, ...], set[Any]] = {}
        self.steps: list[Any] = []
        plain = TaskObjective.loss_sum

        def spied(objective: Any, model: Any, batch: Any, progress: float) -> Any:
            total, step = plain(objective, model, batch, progress)
            self.steps.append(step)
            for ids, mask, domain, label in zip(
                batch["input_ids"], batch["attention_mask"], batch["domain"], batch["labels"], strict=True
            ):
                if int(domain) == 1:
                    self.seen.setdefault(tuple(ids[mask == 1].tolist()), set()).add(str(label.tolist()))
            return total, step

        monkeypatch.setattr(TaskObjective, "loss_sum", spied)


def test_kept_rows_are_trained_on_with_the_answers_of_the_model_and_no_others(
    finetuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = finetuned(rounds=1)
    spy = Spy(monkeypatch)
    result, listener = go(recipe)
    labels = read_lines(Path("run") / STAGE / "round-1" / self_train.LABELS)
    assert [line["row"] for line in labels] == list(range(19))
    kept = [line for line in labels if line["kept"]]
    assert 0 < len(kept) < 19
    assert sum(len(found) for found in spy.seen.values()) <= len(kept)
    names = ["bad", "good", "poor"]
    assert {label for found in spy.seen.values() for label in found} == {
        str(names.index(one["answer"])) for one in kept
    }
    told = [line for line in listener.said if "round 1 of 1" in line]
    assert len(told) == 1
    assert f"{len(kept)} of 19 target rows are kept" in told[0]
    (report,) = facts()["rounds"]
    assert (report["kept"], report["steps"]) == (len(kept), 4)
    assert set(result.metrics["scores"]) == {"adapted"}
    assert not list((Path("run") / STAGE).glob("round-*/model"))


def test_true_labels_of_the_target_change_nothing(finetuned: Callable[..., Any], here: Path) -> None:
    """The unlabelled file may hold labels; right or wrong, the model is the same bit for bit."""
    recipe = finetuned(rounds=1)
    shutil.copytree("run", "other")
    texts = data_of("classification")["target.unlabelled"]
    wrong = texts.map(lambda row: {"label": {"bad": "good", "good": "poor", "poor": "bad"}[row["label"]]})
    go(recipe)
    Path("run").rename("right")
    Path("other").rename("run")
    go(recipe, data=data_of("classification") | {"target.unlabelled": wrong})
    assert same_weights(here / "right/model", here / "run/model")
    for name in (self_train.LABELS, self_train.CALIBRATION):
        one, other = (Path(run) / STAGE / "round-1" / name for run in ("right", "run"))
        assert one.read_bytes() == other.read_bytes()


CASES: dict[str, tuple[str, Any, tuple[str, ...], dict[str, Any]]] = {
    "lora": ("ner", {"name": "lora", "rank": 4}, ("dann",), {"mean_teacher": {"weight": 2.0}, "soft_labels": True}),
    "frozen": ("ner", "frozen", (), {"mean_teacher": {}, "restart": True, "selection": "dev"}),
    "multi_label": (
        "multi_label",
        {"name": "top_layers", "n": 1},
        ("cdan", "mmd"),
        {"select": "threshold", "threshold": 0.45},
    ),
    "l2sp": ("classification", "full", ("l2sp",), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_tasks_tunings_and_options(name: str, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, tuning, methods, stage = CASES[name]
    spy = Spy(monkeypatch)
    recipe = recipe_of(tiny_bert, kind, tuning, methods, **SELF_TRAIN | {"threshold": 0.1} | stage)
    result, listener = go(recipe, kind)
    assert not listener.warned
    assert [report["round"] for report in facts()["rounds"]] == [1, 2]
    assert facts()["rounds"][1]["steps"] == 4
    logged = [line for line in read_lines(Path("run/log.jsonl")) if line["stage"] == "self_train 2" and "loss" in line]
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in logged)
    assert ("loss_mean_teacher_consistency" in logged[-1]) == ("mean_teacher" in stage)
    card = Path("run/README.md").read_text(encoding="utf8")
    assert ("mean teacher: Tarvainen" in card) == ("mean_teacher" in stage)
    assert all(any(key.startswith(f"loss_{name}_") for key in logged[-1]) for name in methods)
    labelled = [bool((step.labelled_U & (step.domain_U == 1)).any()) for step in spy.steps]
    assert any(labelled)
    assert not any(labelled[:12])  # the steps of finetune
    if "mean_teacher" in stage:  # it looks at all target rows, those that are not kept included
        unlabelled = [(~step.labelled_U & (step.domain_U == 1)).any() for step in spy.steps[12:]]
        assert any(bool(found) for found in unlabelled)
    if name == "l2sp":  # it looks at weights alone: rows that are not kept would only take the place of those that are
        assert all(bool(step.labelled_U.all()) for step in spy.steps)
    if tuning == "frozen":
        assert "best_target_dev" in facts()["rounds"][0]
        assert listener.bars.count("frozen features") == 2  # once for finetune, once for all rounds
    assert set(result.metrics["scores"]["adapted"]) == {"source.dev", "target.test"}


def test_twin_takes_as_many_steps_as_all_that_trains_the_task(tiny_bert: Path) -> None:
    """24 rows in batches of 8: 3 steps an epoch, whatever is kept."""
    plan = [{"name": "finetune", "train": {"epochs": 1.5}},
            {"name": "self_train", "rounds": 2, "train": {"epochs": 1.2, "learning_rate": 1e-3}}]  # fmt: skip
    values = recipe_data(Path("run"), tiny_bert, stages=plan, max_steps=None, learning_rate=5e-3)
    result, _ = go(recipe_from(values | {"source_only": True}))
    steps = {line["stage"]: line["steps"] for line in read_lines(Path("run/stages.jsonl"))}
    assert steps == {"finetune": 5, "self_train": 2 * 4, "source-only": 5 + 2 * 4}
    assert set(result.metrics["gain"]) == {"source.dev", "target.test"}


# After a stop


def interrupted(where: str, recipe: Any, patch: pytest.MonkeyPatch) -> None:
    """Stop a run in one phase of the stage."""
    error: type[BaseException] = Stop
    listener = Listener()
    if where.startswith("self_train"):
        error, listener = KeyboardInterrupt, Listener(where, 3)
    elif where == "labelling":
        patch.setattr(self_train, "write_lines", stop)
    elif where == "before training":
        patch.setattr(jobs, "train", stop)
    elif where == "saving a round":
        patch.setattr(stages, "finish", stop)
    elif where == "labelling again":
        plain = self_train.write_lines
        patch.setattr(
            self_train, "write_lines", lambda path, rows: stop() if "round-2" in str(path) else plain(path, rows)
        )
    elif where == "the end":
        plain_finish = stages.finish
        patch.setattr(
            stages, "finish", lambda space, folder, *rest: stop() if folder.name == STAGE.name
            else plain_finish(space, folder, *rest)
        )  # fmt: skip
    with pytest.raises(error):
        run(recipe, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]


LABELLED_AGAIN = {
    "labelling": 3, "before training": 2, "self_train 1": 2, "saving a round": 2, "labelling again": 2,
    "self_train 2": 1, "the end": 0,
}  # fmt: skip
"""How often the target is labelled after the stop: once a round and once after them, less what was written before."""


@pytest.mark.slow
def test_run_stopped_in_any_phase_ends_as_one_that_was_not(
    finetuned: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {"mean_teacher": {"decay": 0.5, "ramp": 0.1}, "soft_labels": True}
    recipe = finetuned(**stage)
    shutil.copytree("run", "start")
    go(recipe)
    Path("run").rename("whole")
    labelled: list[int] = []
    guess = self_train._guess

    def counted(plan: Any, number: int, labeller: Path) -> Any:
        labelled.append(number)
        return guess(plan, number, labeller)

    assert facts(Path("whole"))["stopped"] is None
    for where, times in LABELLED_AGAIN.items():
        shutil.copytree("start", "run")
        with monkeypatch.context() as patch:
            interrupted(where, recipe, patch)
        labelled.clear()
        with monkeypatch.context() as patch:
            patch.setattr(self_train, "_guess", counted)
            _, listener = go(recipe)
        assert len(labelled) == times, where
        assert any("resuming from" in line and "checkpoint-2" in line for line in listener.said) == (
            where in ("self_train 1", "self_train 2")
        ), where
        assert same_weights(here / "whole/model", here / "run/model"), where
        for name in ("metrics.json", f"{STAGE}/round-1/{self_train.LABELS}", f"{STAGE}/round-2/{self_train.LABELS}"):
            assert (here / "whole" / name).read_bytes() == (here / "run" / name).read_bytes(), (where, name)
        shutil.rmtree("run")


def test_damaged_labels_of_a_stopped_round_are_named(
    finetuned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = finetuned()
    with monkeypatch.context() as patch:
        interrupted("before training", recipe, patch)
    path = Path(f"run/{STAGE}/round-1/{self_train.LABELS}")
    whole = path.read_text(encoding="utf8")
    path.write_text(whole[:-5], encoding="utf8")
    number = len(whole.splitlines())
    with pytest.raises(RunError, match=rf"{self_train.LABELS}' \(line {number}\) is damaged.*Delete the folder '.*1'"):
        go(recipe)


# Ending early


def test_nothing_kept_keeps_the_model_and_says_what_to_do(finetuned: Callable[..., Any], here: Path) -> None:
    _, listener = go(finetuned(select="threshold", threshold=0.999999))
    (warned,) = listener.warned
    assert "no target row is kept in round 1 (threshold 0.999999)" in warned
    assert "Lower the stage's threshold" in warned
    assert (facts()["steps"], facts()["rounds"], facts()["model_of_round"]) == (0, [], 0)
    assert facts()["stopped"] in warned
    assert same_weights(here / "run/stages/1-finetune/model", here / "run/model")


def test_collapsed_tagger_is_not_self_trained(
    finetuned: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that says O everywhere, where the source is full of names."""
    monkeypatch.setattr(self_train, "one_class", one_class)
    _, listener = go(finetuned("ner"), "ner")
    assert "'O' takes 100% of the predictions on the target, and 0% of the source" in listener.warned[0]
    assert facts()["rounds"] == []
    assert same_weights(here / "run/stages/1-finetune/model", here / "run/model")


@pytest.mark.parametrize(("number", "kept"), [(1, 0), (2, 0), (3, 1)])
def test_collapse_keeps_the_last_sound_model(
    number: int, kept: int, finetuned: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels of round 3 do not exist: after two rounds the target is labelled once more, as a check."""
    calls: list[int] = []

    def collapsed(labels: Any, groups: Any) -> str | None:
        calls.append(len(labels))
        return labels[0].group if len(calls) == number else None

    recipe = finetuned()
    monkeypatch.setattr(self_train, "one_class", collapsed)
    saved: list[dict[str, Any]] = []
    plain = stages.finish

    def finish(space: Any, folder: Path, fingerprint: str, model: Any, found: dict[str, Any]) -> Any:
        saved.append({name: value.clone() for name, value in model.state_dict().items()})
        return plain(space, folder, fingerprint, model, found)

    monkeypatch.setattr(stages, "finish", finish)
    _, listener = go(recipe)
    (warned,) = listener.warned
    assert "takes" in warned
    assert ("no round is trained" in warned) == (number == 1)
    assert ("has collapsed" in warned) == (number > 1)
    assert facts()["model_of_round"] == kept
    if kept:
        assert all(torch.equal(saved[kept - 1][name], value) for name, value in saved[-1].items())
        assert not all(torch.equal(saved[1][name], value) for name, value in saved[-1].items())
    else:
        assert same_weights(here / "run/stages/1-finetune/model", here / "run/model")


# Defaults


@pytest.mark.parametrize(
    ("stage", "train", "expected"),
    [
        ({}, {"epochs": 4, "learning_rate": 1e-4}, (1.0, None, 5e-5, 5e-5)),
        ({}, {"max_steps": 100, "learning_rate": 1e-4, "head_learning_rate": 1e-3}, (1.0, None, 5e-5, 5e-4)),
        ({"train": {"epochs": 2}}, {"max_steps": 9}, (2.0, None, 2.5e-5, 2.5e-5)),
        ({"train": {"max_steps": 7, "learning_rate": 1e-5}}, {"head_learning_rate": 1e-3}, (1.0, 7, 1e-5, 1e-5)),
        ({"restart": True}, {"max_steps": 9, "learning_rate": 1e-4}, (3.0, 9, 1e-4, 1e-4)),
        ({"restart": True, "train": {"epochs": 2}}, {"max_steps": 9}, (2.0, None, 5e-5, 5e-5)),
    ],
)
def test_length_and_rates_of_a_round(stage: Any, train: Any, expected: tuple[Any, ...]) -> None:
    recipe = resolve(valid(minimal(stages=["finetune", {"name": "self_train", **stage}], train=train)))
    found = recipe.stages[1].train
    keys = ("epochs", "max_steps", "learning_rate", "head_learning_rate")
    assert tuple(found[key] for key in keys) == pytest.approx(expected)
    assert resolve(recipe) == recipe


@pytest.mark.parametrize(
    ("task", "select", "expected"),
    [("classification", "top_share", True), ("classification", "threshold", False), ("ner", "threshold", True)],
)
def test_balance_by_default(task: str, select: str, expected: bool) -> None:
    stage = {"name": "self_train", "select": select}
    recipe = resolve(valid(minimal(task=task, stages=["finetune", stage])))
    assert recipe.stages[1].class_balanced == expected
    assert resolve(valid(minimal(task=task, stages=["finetune", stage | {"class_balanced": not expected}]))).stages[
        1
    ].class_balanced == (not expected)


def test_self_train_needs_target_text() -> None:
    values = recipe_data(Path("run"), Path("m"), stages=["finetune", "self_train"])
    del values["data"]["target"]["unlabelled"]
    with pytest.raises(RecipeError, match=r"stages\.1: 'self_train' labels target text\. Set data"):
        recipe_from(values)


def test_restart_goes_back_to_where_the_last_finetune_began(tiny_bert: Path, tmp_path: Path) -> None:
    """What an earlier stage has learned of the source is not unlearned."""
    still = {"max_steps": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    rounds = {"name": "self_train", "rounds": 1, "restart": True, "train": still}
    stages = ["finetune", {"name": "finetune", "on": "target"}, rounds]
    values = recipe_data(tmp_path / "run", tiny_bert, stages=stages, target_labels=True, max_steps=4)
    data = data_of("classification") | {"target.train": rows_of("classification", 12, 5)}
    run(recipe_from(values), data=data, checked=False)
    first, second, last = (
        load_file(tmp_path / "run/stages" / name / "model/model.safetensors")
        for name in ("1-finetune", "2-finetune", "3-self_train")
    )
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.allclose(last[name], first[name], atol=1e-8)
    assert not torch.allclose(last[name], second[name], atol=1e-5)
