"""Distillation: the student's layers and logits are the teacher's, its run is a run, and both are compared fairly."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_model, wordpiece_tokenizer
from launching import TORCHRUN, launch
from samples import plain_classifier, recipe_values, write_data
from target_labels import THEN, given, renamed, values

from nlp_transfer import distill, load_predictor, recipe_from, run
from nlp_transfer.distillation import distill as distilling
from nlp_transfer.distillation import weigh as weighing
from nlp_transfer.distillation.student import spread, write_student
from nlp_transfer.errors import ModelError, RecipeError, RunError
from nlp_transfer.intervals import Interval, paired_difference
from nlp_transfer.report.record import read_record

SHORT = ["train.max_steps=2", "train.learning_rate=1e-9"]
TEXTS = ["it was really love", "the film was hate"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Any:
    folder = write_data(tmp_path_factory.mktemp("teacher"))
    return run(recipe_from(recipe_values(folder, tiny_bert, tuning="lora")))


def test_layers_are_spread_as_in_distilbert() -> None:
    assert spread(12, 6) == [0, 2, 4, 7, 9, 11]
    assert spread(6, 1) == [0]
    assert spread(2, 1) == [0]


def test_the_student_begins_with_the_teachers_layers(teacher: Any, tmp_path: Path) -> None:
    whole = load_predictor(teacher.folder, precision="fp32")
    place = write_student(whole, None, tmp_path)
    student = load_predictor(place, precision="fp32")
    assert place.name == "layers-0" and len(student.model.bert.encoder.layer) == 1
    batch = whole.tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        hidden = whole.model.bert(**batch, output_hidden_states=True).hidden_states[1]
        pooled = whole.model.bert.pooler(hidden)
        assert torch.allclose(student.model(**batch).logits, whole.model.classifier(pooled), atol=1e-5)


def test_a_student_is_a_run_that_is_compared_with_its_teacher(teacher: Any, tmp_path: Path) -> None:
    found = distill(teacher.folder, 1, output=tmp_path / "student", overrides=SHORT)
    assert (tmp_path / "student" / "recipe.yaml").is_file() and load_predictor(found.run.folder)(TEXTS)
    assert set(found.gain) == {"source.dev", "target.test"}
    for split, interval in found.gain.items():
        of_student = found.run.metrics["scores"]["adapted"][split]["accuracy"]
        of_teacher = teacher.metrics["scores"]["source-only"][split]["accuracy"]
        assert interval.value == pytest.approx(of_student - of_teacher)
    assert found.student.parameters < found.teacher.parameters
    assert min(found.student.texts_per_second, found.teacher.texts_per_second) > 0
    kept = json.loads((tmp_path / "student" / "distillation.json").read_text(encoding="utf8"))
    assert kept["student"]["parameters"] == found.student.parameters


def test_the_student_is_judged_as_its_recipe_says(
    teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the level of its intervals; what comes of it lies in the folder that is told last."""
    levels: list[Any] = []

    def noted(*args: Any) -> Interval:
        levels.append(args[3:])
        return paired_difference(*args)

    monkeypatch.setattr(weighing, "paired_difference", noted)
    level = ["evaluate.confidence=0.6", f"output={tmp_path / 'elsewhere'}"]
    found = distill(teacher.folder, 1, output=tmp_path / "student", overrides=[*SHORT, *level])
    kept = json.loads((tmp_path / "elsewhere" / "distillation.json").read_text(encoding="utf8"))
    assert kept == found.to_dict() and levels == [(0.6, 100)] * 2


def test_settings_of_the_teachers_stage_are_the_students(
    teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_record(teacher.folder).recipe
    own = recipe.finetunes[0].model_copy(update={"train": {"epochs": 7.0, "batch_size": 4}})
    other = own.model_copy(update={"on": "target", "train": {"epochs": 9.0}})
    target = recipe.data.target.model_copy(update={"train": recipe.data.target.test})
    data = recipe.data.model_copy(update={"target": target})
    changed = recipe.model_copy(update={"stages": [other, own], "data": data})
    record = replace(read_record(teacher.folder), recipe=changed)
    found = distilling._recipe(record, "start", tmp_path / "student", [])
    assert (found.train.epochs, found.train.batch_size, found.train.max_steps) == (7.0, 4, 3)
    monkeypatch.chdir(teacher.folder)
    monkeypatch.setattr(distilling, "write_student", lambda *args: tmp_path / "layers-0")
    monkeypatch.setattr(distilling, "load_predictor", lambda *args, **settings: None)
    monkeypatch.setattr(distilling, "run", lambda recipe, **settings: pytest.fail(f"trains in {recipe.output}"))
    with pytest.raises(pytest.fail.Exception, match=f"trains in {teacher.folder}-layers-0"):
        distill(".", 1)


def test_a_teacher_with_labels_of_the_target_is_distilled(tiny_bert: Path, tmp_path: Path) -> None:
    rows = given() | {"target.train": renamed("classification", "poor", "odd")}
    recipe = recipe_from(values(tmp_path / "teacher", tiny_bert, stages=THEN))
    folder = run(recipe, data=rows).folder
    found = distill(folder, 1, output=tmp_path / "student", overrides=SHORT, data=rows)
    assert load_predictor(found.run.folder).task.labels == load_predictor(folder).task.labels
    assert "odd" in load_predictor(folder).task.labels
    assert found.run.metrics["target_labels"] == {"rows": 9, "stages": ["both"]}


def test_only_the_first_process_writes_and_weighs(
    teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    @contextlib.contextmanager
    def first_process_first() -> Iterator[None]:
        done.append("wait")
        yield

    def write(*args: Any) -> Path:
        done.append("write student")
        return tmp_path / "student"

    monkeypatch.setattr(distilling, "first_process_first", first_process_first)
    monkeypatch.setattr(distilling, "write_student", write)
    monkeypatch.setattr(distilling, "run", lambda *args, **options: done.append("run"))
    monkeypatch.setattr(distilling, "weigh", lambda *args: done.append("weigh"))
    monkeypatch.setattr(distilling, "write_json", lambda *args: done.append("write result"))
    monkeypatch.setattr(distilling, "is_main_process", lambda: False)
    monkeypatch.setattr(distilling, "agree", lambda value: "what the first process found" if value is None else value)
    assert distill(teacher.folder, 1, output=tmp_path / "out") == "what the first process found"
    assert done == ["wait", "write student", "run"]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_processes_distil_what_one_does(teacher: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(teacher.folder, tmp_path / "teacher")
    settings = [word for setting in SHORT for word in ("--set", setting)]
    command = ["-m", "nlp_transfer", "distill", str(folder), "--student", "1", "--output", str(tmp_path / "student")]
    launch([*TORCHRUN, *command, *settings])
    assert [place.name for place in (folder / "students").iterdir()] == ["layers-0"]
    kept = json.loads((tmp_path / "student" / "distillation.json").read_text(encoding="utf8"))
    assert set(kept["gain"]) == {"source.dev", "target.test"}


def test_the_divergence_is_taken_from_the_teachers_answers(tmp_path: Path, tiny_bert: Path) -> None:
    """A student that is its own teacher has nothing to learn; another one has."""
    labels = ["negative", "positive"]
    sure = plain_classifier(tmp_path / "sure", wordpiece_tokenizer(), "AutoModelForSequenceClassification", labels)
    values = recipe_values(write_data(tmp_path / "data"), tiny_bert, source_only=False)
    values["train"] |= {"max_steps": 10, "learning_rate": 1e-9, "dropout": 0.0, "attention_dropout": 0.0}
    held = {"methods": [{"name": "anchor", "teacher": str(sure)}]}
    distances = []
    for name, model in (("same", sure), ("other", tiny_bert)):
        run(recipe_from(values | held | {"model": str(model), "output": str(tmp_path / name)}))
        lines = (tmp_path / name / "log.jsonl").read_text(encoding="utf8").splitlines()
        logged = [json.loads(line) for line in lines]
        distances.append([line["loss_anchor_distance"] for line in logged if "loss_anchor_distance" in line][-1])
    assert distances[0] == pytest.approx(0, abs=1e-6) and distances[1] > 0.1


def test_what_does_not_fit_is_refused(teacher: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="from 1 to 1 layers"):
        distill(teacher.folder, 2, output=tmp_path / "a")
    with pytest.raises(RunError, match="no finished run"):
        distill(tmp_path, 1)
    other = build_model(tmp_path / "roberta", "roberta")
    with pytest.raises(ModelError, match="other tokens"):
        distill(teacher.folder, str(other), output=tmp_path / "b", overrides=SHORT)
    with pytest.raises(RecipeError, match="unlabelled target text"):
        distill(teacher.folder, 1, output=tmp_path / "c", overrides=["data.target.unlabelled=null"])
    albert = build_model(tmp_path / "albert", "albert", "AutoModelForSequenceClassification")
    with pytest.raises(ModelError, match="shares its layers"):
        write_student(load_predictor(albert), 1, tmp_path)
