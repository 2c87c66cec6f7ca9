"""A run that was stopped goes on as if it had not been: same weights, same scores, bit for bit."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from helpers import Listener, data_of, make_recipe, recipe_data, same_weights
from killed_run import RUN

from nlp_transfer import checkpoints, jobs
from nlp_transfer.checkpoints import MANIFEST, damage, newest_complete
from nlp_transfer.errors import RunError
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import RunResult, run
from nlp_transfer.stages import base as stages

STAGE = Path("stages") / "1-finetune"


@pytest.fixture(autouse=True)
def last(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Weights at the last step of each training that selects a checkpoint (the selected one may be an early one)."""
    seen: list[dict[str, Any]] = []

    class Recording(jobs.TransferTrainer):
        def _load_best_model(self) -> None:
            seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
            super()._load_best_model()

    monkeypatch.setattr(jobs, "TransferTrainer", Recording)
    return seen


def interrupted(recipe: Any, kind: str, title: str, step: int) -> None:
    """Run and press Ctrl-C in a stage after a step, before that step's evaluation and checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data=data_of(kind), reporter=Listener(title, step))  # type: ignore[arg-type]


def again(recipe: Any, kind: str) -> tuple[RunResult, Listener]:
    listener = Listener()
    return run(recipe, data=data_of(kind), reporter=listener), listener  # type: ignore[arg-type]


def assert_same_run(one: Path, other: Path, last: list[dict[str, Any]]) -> None:
    half = len(last) // 2
    for first, second in zip(last[:half], last[-half:], strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert same_weights(one / "model", other / "model")
    assert (one / "metrics.json").read_bytes() == (other / "metrics.json").read_bytes()
    for path in sorted((one / "predictions").iterdir()):
        assert path.read_bytes() == (other / "predictions" / path.name).read_bytes()


CASES = {
    # 24 rows in batches of 8 are 3 steps an epoch: the checkpoints of steps 2 and 4 lie inside epochs.
    "full": ("multi_label", "full", (), {"accumulation": 2}, 3),
    "lora": ("classification", {"name": "lora", "dropout": 0.1}, (), {}, 5),
    "frozen": ("ner", "frozen", (), {}, 5),
    "dann": ("ner", "full", ("dann",), {}, 5),
    "bf16": ("classification", "full", ("mcc",), {"precision": "bf16"}, 5),
    # The map is too wide, so that its random matrices must survive.
    "cdan": ("classification", "full", ({"name": "cdan", "max_width": 16, "random_width": 8},), {}, 5),
}


@pytest.mark.parametrize(
    "name", [name if name in ("full", "dann") else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_interrupted_run_ends_as_an_uninterrupted_one(
    name: str, tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]
) -> None:
    kind, tuning, methods, train, stop = CASES[name]
    settings = RUN | {"dropout": 0.1} | train
    whole = make_recipe(tmp_path / "whole", tiny_bert, kind, tuning, methods, **settings)
    cut = make_recipe(tmp_path / "cut", tiny_bert, kind, tuning, methods, **settings)
    again(whole, kind)
    interrupted(cut, kind, "finetune", stop)
    assert not (tmp_path / "cut" / "metrics.json").exists()
    _, listener = again(cut, kind)
    assert any(f"resuming from {tmp_path / 'cut' / STAGE / f'checkpoint-{stop - 1 - (stop - 1) % 2}'}" in line
               for line in listener.said)  # fmt: skip
    assert not listener.warned
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)


def test_an_unfinished_run_may_be_moved(tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]) -> None:
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **RUN) for name in ("whole", "cut"))
    again(whole, "classification")
    interrupted(cut, "classification", "finetune", 5)
    (tmp_path / "cut").rename(tmp_path / "moved")
    _, listener = again(make_recipe(tmp_path / "moved", tiny_bert, **RUN), "classification")
    assert any("resuming from" in line for line in listener.said)
    assert_same_run(tmp_path / "whole", tmp_path / "moved", last)


def test_a_moved_run_whose_training_was_over_keeps_its_best_checkpoint(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the state notes of it is a path in the old folder."""
    scores = itertools.cycle([0.9, 0.5, 0.1])
    monkeypatch.setattr(jobs, "_dev_scores", lambda job, model: {job.space.task.headline: next(scores)})
    settings = {"max_steps": 6, "evaluate_every": 2, "learning_rate": 1e-2, "keep_checkpoints": 3}
    whole, cut, moved = (make_recipe(tmp_path / name, tiny_bert, **settings) for name in ("whole", "cut", "moved"))
    again(whole, "classification")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("nlp_transfer.stages.base.finish", Mock(side_effect=KeyboardInterrupt))
        again(cut, "classification")
    (tmp_path / "cut").rename(tmp_path / "moved")
    again(moved, "classification")
    done = [json.loads((tmp_path / name / STAGE / "done.json").read_text()) for name in ("whole", "moved")]
    assert [one["selected_step"] for one in done] == [2, 2]
    assert same_weights(tmp_path / "whole/model", tmp_path / "moved/model")


@pytest.mark.slow
@pytest.mark.parametrize("where", [("pretrain head", 3), ("pretrain", 3), ("source-only", 1)])
def test_interrupted_stages_end_the_same(
    where: tuple[str, int], tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]
) -> None:
    """The pretrain stage fits a fresh masked-LM head before the encoder moves; it may be stopped in either phase."""
    plan = [{"name": "pretrain", "head_steps": 4, "train": {"max_steps": 4, "batch_size": 2}}, "finetune"]
    recipes = []
    for name in ("whole", "cut"):
        data = recipe_data(tmp_path / name, tiny_bert, stages=plan, max_steps=2, evaluate_every=2, dropout=0.1)
        recipes.append(recipe_from(data | {"source_only": True}))
    again(recipes[0], "classification")
    interrupted(recipes[1], "classification", *where)
    finished = {path: path.read_bytes() for path in (tmp_path / "cut").glob("stages/*/done.json")}
    assert len(finished) == {"source-only": 0, "pretrain head": 1, "pretrain": 1}[where[0]]
    _, listener = again(recipes[1], "classification")
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)
    assert same_weights(tmp_path / "whole/stages/1-pretrain/model", tmp_path / "cut/stages/1-pretrain/model")
    assert all(path.read_bytes() == content for path, content in finished.items())
    assert len(listener.bars) == {"source-only": 4, "pretrain head": 3, "pretrain": 2}[where[0]]


def test_head_is_fitted_again_when_the_first_checkpoint_is_damaged(
    tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]
) -> None:
    """Otherwise the encoder would be trained together with a random head."""
    train = {"max_steps": 4, "batch_size": 2, "evaluate_every": 2}
    plan = [{"name": "pretrain", "head_steps": 4, "train": train}, "finetune"]
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, stages=plan) for name in ("whole", "cut"))
    again(whole, "classification")
    interrupted(cut, "classification", "pretrain", 3)
    (tmp_path / "cut/stages/1-pretrain/checkpoint-2" / MANIFEST).unlink()
    again(cut, "classification")
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)
    assert same_weights(tmp_path / "whole/stages/1-pretrain/model", tmp_path / "cut/stages/1-pretrain/model")


def test_stop_between_the_last_checkpoint_and_the_model_trains_no_step_more(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: list[dict[str, Any]]
) -> None:
    """The stock trainer does one step more when a finished training is resumed inside an epoch."""
    settings = RUN | {"max_steps": 4, "dropout": 0.1}
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **settings) for name in ("whole", "cut"))
    again(whole, "classification")
    with monkeypatch.context() as patch:
        patch.setattr(stages, "finish", stop_here)
        with pytest.raises(KeyboardInterrupt):
            run(cut, data=data_of("classification"))
    again(cut, "classification")
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)
    facts = [json.loads((tmp_path / name / STAGE / "done.json").read_text()) for name in ("whole", "cut")]
    assert facts[0]["steps"] == facts[1]["steps"] == 4
    assert facts[1]["seconds"] > 0, "those of the start that trained"
    assert facts[1]["peak_mib"] >= facts[0]["peak_mib"] * 0.5, "that of the start that trained"


def test_checkpoints_of_a_version_that_measured_otherwise_are_resumed(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, **RUN | {"max_steps": 4})
    with monkeypatch.context() as patch:
        patch.setattr(stages, "finish", stop_here)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, data=data_of("classification"))
    for path in (tmp_path / "run").rglob("trainer_state.json"):
        path.write_text(path.read_text().replace('"Meter"', '"Stopwatch"').replace('"peak_before"', '"was_not_there"'))
        checkpoints.write_manifest(path.parent)
    result, _ = again(recipe, "classification")
    assert json.loads((result.folder / STAGE / "done.json").read_text())["steps"] == 4


def stop_here(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_kill_9_during_a_checkpoint_loses_nothing_before_it(
    tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]
) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(here / "killed_run.py"), str(tmp_path / "cut"), str(tiny_bert), "ner"]
    died = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert {item.name for item in (tmp_path / "cut" / STAGE).iterdir()} >= {"checkpoint-2", "checkpoint-4"}
    whole = make_recipe(tmp_path / "whole", tiny_bert, "ner", "full", ("dann",), **RUN)
    cut = make_recipe(tmp_path / "cut", tiny_bert, "ner", "full", ("dann",), **RUN)
    again(whole, "ner")
    _, listener = again(cut, "ner")
    assert len(listener.warned) == 1
    assert "checkpoint-4 is damaged: it has no manifest" in listener.warned[0]
    assert any("resuming from" in line and "checkpoint-2" in line for line in listener.said)
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)


@pytest.mark.parametrize("keep", [1, 2])
def test_older_checkpoint_stays_until_the_new_one_is_complete(
    keep: int, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = checkpoints.write_manifest

    def stop_at_the_third(folder: Path) -> None:
        written.append(folder.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(folder)

    monkeypatch.setattr(checkpoints, "write_manifest", stop_at_the_third)
    recipe = make_recipe(tmp_path / "run", tiny_bert, **RUN | {"keep_checkpoints": keep})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data=data_of("classification"))
    stage = tmp_path / "run" / STAGE
    left = {path.name for path in stage.glob("checkpoint-*") if damage(path) is None}
    assert {"checkpoint-4"} <= left <= {"checkpoint-2", "checkpoint-4"}
    assert newest_complete(stage)[0] == stage / "checkpoint-4"


def test_checkpoints_kept_are_the_newest_and_the_best(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    interrupted(make_recipe(folder, tiny_bert, **RUN | {"keep_checkpoints": 1}), "classification", "finetune", 7)
    left = sorted(path.name for path in (folder / STAGE).glob("checkpoint-*"))
    state = json.loads((folder / STAGE / left[-1] / "trainer_state.json").read_text())
    assert left == sorted({"checkpoint-6", Path(state["best_model_checkpoint"]).name})


# Damaged checkpoints


@pytest.fixture(scope="module")
def stopped(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stage that was stopped with three checkpoints: 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    interrupted(make_recipe(folder, tiny_bert, **RUN), "classification", "finetune", 7)
    return folder / STAGE


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "it has no manifest"),
    "half a manifest": (lambda folder: os.truncate(folder / MANIFEST, 40), "its manifest cannot be read"),
    "no list in the manifest": (lambda folder: (folder / MANIFEST).write_text("[]"), "its manifest cannot be read"),
    "short weights": (lambda folder: os.truncate(folder / "model.safetensors", 100), "model.safetensors has 100 bytes"),
    "another bit": (lambda folder: flip(folder / "optimizer.pt"), "optimizer.pt is not what was written"),
    "no scheduler": (lambda folder: (folder / "scheduler.pt").unlink(), "scheduler.pt is missing"),
    "no state": (lambda folder: (folder / "trainer_state.json").unlink(), "trainer_state.json is missing"),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "it has no manifest"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_checkpoint_is_set_aside_and_named(kind: str, stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    shutil.copytree(stopped, folder)
    spoil, message = DAMAGES[kind]
    spoil(folder / "checkpoint-6")
    found, said = newest_complete(folder)
    assert found == folder / "checkpoint-4"
    assert len(said) == 1
    assert str(folder / "checkpoint-6") in said[0]
    assert message in said[0]
    assert (folder / "damaged-checkpoint-6").is_dir()
    assert newest_complete(folder) == (found, [])


@pytest.mark.parametrize("kind", ["lost", "damaged"])
@pytest.mark.parametrize("over", [False, True], ids=["under way", "trained to the end"])
def test_a_selected_checkpoint_that_is_gone_stops_the_run(
    over: bool, kind: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer would keep its score, which no later one beats, and end with the weights of the last step."""
    scores = iter([0.9, 0.5, 0.1])
    monkeypatch.setattr(jobs, "_dev_scores", lambda job, model: {job.metric: next(scores)})
    recipe = make_recipe(tmp_path / "run", tiny_bert, **RUN | {"max_steps": 6})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if over:
            patch.setattr(stages, "finish", stop_here)
        run(recipe, data=data_of("classification"), reporter=Listener(*(() if over else ("finetune", 5))))  # type: ignore[arg-type]
    best = tmp_path / "run" / STAGE / "checkpoint-2"
    if kind == "lost":
        shutil.rmtree(best)
    else:
        flip(best / "model.safetensors")
    listener = Listener()
    with pytest.raises(RunError, match=r"checkpoint-2' is lost, the checkpoint that was selected: .*--fresh"):
        run(recipe, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert any("selected so far, is lost" in line for line in listener.warned) is not over


def test_a_better_checkpoint_takes_the_place_of_one_that_is_gone(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation deletes what is no longer selected; a newer one that is damaged leads back to before that."""
    scores = iter([0.6, 0.5, 0.7])
    monkeypatch.setattr(jobs, "_dev_scores", lambda job, model: {job.metric: next(scores)})
    recipe = make_recipe(tmp_path / "run", tiny_bert, **RUN | {"max_steps": 6})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data=data_of("classification"), reporter=Listener("finetune", 5))  # type: ignore[arg-type]
    shutil.rmtree(tmp_path / "run" / STAGE / "checkpoint-2")
    folder = run(recipe, data=data_of("classification")).folder
    facts = json.loads((folder / STAGE / "done.json").read_text())
    assert (facts["selected_step"], facts["best_dev"]) == (6, 0.7)


def test_complete_checkpoint_is_used_and_a_stray_folder_is_not(stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    shutil.copytree(stopped, folder)
    assert damage(folder / "checkpoint-6") is None
    (folder / "checkpoint-6 (copy)").mkdir()
    (folder / "checkpoint-old").mkdir()
    assert newest_complete(folder) == (folder / "checkpoint-6", [])


def test_run_goes_on_from_the_newest_complete_checkpoint(
    tiny_bert: Path, tmp_path: Path, stopped: Path, last: list[dict[str, Any]]
) -> None:
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **RUN) for name in ("whole", "cut"))
    interrupted(cut, "classification", "finetune", 7)
    stage = tmp_path / "cut" / STAGE
    flip(stage / "checkpoint-6" / "model.safetensors")
    (stage / "checkpoint-4" / "rng_state.pth").unlink()
    again(whole, "classification")
    _, listener = again(cut, "classification")
    assert [line.split(" is damaged")[0] for line in listener.warned] == [
        str(stage / "checkpoint-6"),
        str(stage / "checkpoint-4"),
    ]
    assert any("resuming from" in line and "checkpoint-2" in line for line in listener.said)
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)


def test_run_begins_anew_when_no_checkpoint_is_complete(
    tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]
) -> None:
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **RUN) for name in ("whole", "cut"))
    interrupted(cut, "classification", "finetune", 4)
    os.truncate(tmp_path / "cut" / STAGE / "checkpoint-2" / "optimizer.pt", 10)
    again(whole, "classification")
    _, listener = again(cut, "classification")
    assert len(listener.warned) == 1
    assert not any("resuming" in line for line in listener.said)
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)


def test_checkpoints_of_other_data_are_not_resumed(tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]) -> None:
    """The recipe's text is the same, but a file that it names has changed since the run was stopped."""
    changed = data_of("classification") | {"source.train": data_of("classification", 40)["source.train"]}
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **RUN) for name in ("whole", "cut"))
    interrupted(cut, "classification", "finetune", 4)
    run(whole, data=changed)
    run(cut, data=changed)
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)


# Finished stages and runs


def test_finished_run_says_so_and_changes_nothing(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert)
    first, _ = again(recipe, "classification")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    second, listener = again(recipe, "classification")
    assert second.metrics == first.metrics
    assert len(listener.said) == 1
    assert "finished" in listener.said[0]
    assert "--fresh" in listener.said[0]
    assert not listener.bars
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_finished_stage_of_other_settings_is_trained_again(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    (folder / stages.DONE).write_text(json.dumps({"fingerprint": "a"}))
    assert stages.finished(folder, "a") is not None
    assert stages.finished(folder, "b") is None


def test_finished_stage_leaves_no_checkpoints(tiny_bert: Path, tmp_path: Path) -> None:
    again(make_recipe(tmp_path / "run", tiny_bert, **RUN), "classification")
    assert sorted(path.name for path in (tmp_path / "run" / STAGE).iterdir()) == [
        "done.json",
        "fingerprint",
        "log.jsonl",
        "model",
        "reload.json",
    ]


def test_patience_of_early_stopping_survives(tiny_bert: Path, tmp_path: Path, last: list[dict[str, Any]]) -> None:
    """With a rate of nearly 0 the first score stays the best: patience 3 ends the training at step 4."""
    settings = {"max_steps": 9, "evaluate_every": 1, "early_stopping": 3, "learning_rate": 1e-12}
    whole, cut = (make_recipe(tmp_path / name, tiny_bert, **settings) for name in ("whole", "cut"))
    again(whole, "classification")
    interrupted(cut, "classification", "finetune", 4)
    again(cut, "classification")
    for name in ("whole", "cut"):
        facts = json.loads((tmp_path / name / STAGE / "done.json").read_text())
        assert facts["steps"] == 4
        assert facts["selected_step"] == 1
    assert_same_run(tmp_path / "whole", tmp_path / "cut", last)
