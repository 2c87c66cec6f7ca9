"""Work before the first step is part of what a training costs, also where it was stopped in between."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import Listener, data_of, recipe_data

from nlp_transfer import jobs, recipe_from, run
from nlp_transfer.preparation import PREPARED, Prepared, prepared, preparing


def stages_of(folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "stages.jsonl").read_text().splitlines()]
    return {line["stage"]: line for line in lines}


def test_work_counts_once_however_often_it_is_done(tmp_path: Path) -> None:
    assert prepared(tmp_path) == Prepared(0, 0, 0)
    for _ in range(2):
        with preparing(tmp_path, "head", steps=5):
            time.sleep(0.02)
    with preparing(tmp_path, "teacher"):
        time.sleep(0.02)
    found = prepared(tmp_path)
    known = json.loads((tmp_path / PREPARED).read_text())
    assert found.steps == 5 and set(known) == {"head", "teacher"}
    assert found.seconds == pytest.approx(sum(one["seconds"] for one in known.values())) and found.seconds >= 0.04
    assert found.peak_mib == max(one["peak_mib"] for one in known.values()) > 0
    with pytest.raises(KeyError), preparing(tmp_path / "other", "head"):
        raise KeyError
    assert prepared(tmp_path / "other") == Prepared(0, 0, 0), "what did not end is not done"


@pytest.mark.parametrize(
    ("tuning", "method", "what"),
    [
        ("full", {"name": "joint_mlm", "head_steps": 3}, "head"),
        ("full", "anchor", "teacher"),
        ("frozen", "mcc", "features"),
    ],
)
def test_a_training_counts_what_it_needed_first(
    tuning: str, method: Any, what: str, tiny_bert: Path, tmp_path: Path
) -> None:
    """Stopped in the middle and resumed, too."""
    recipe = recipe_from(
        recipe_data(tmp_path / "run", tiny_bert, "classification", tuning, methods=(method,), source_only=True)
    )
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data=data_of("classification"), checked=False, reporter=Listener("finetune", 1))  # type: ignore[arg-type]
    place = tmp_path / "run/stages/1-finetune" / PREPARED
    first = json.loads(place.read_text())
    assert set(first) == {what}
    place.write_text(json.dumps(first | {"earlier": {"seconds": 1000.0, "steps": 0, "peak_mib": 10**6}}))
    folder = run(recipe, data=data_of("classification"), checked=False).folder
    told = stages_of(folder)["finetune"]
    assert told["seconds"] >= 1000 and told["peak_mib"] == 10**6
    assert told.get("head_steps", 0) == (3 if what == "head" else 0)
    assert told["steps"] == stages_of(folder)["source-only"]["steps"] == 2, "those of the task are equal"


def test_rounds_count_the_labelling(tiny_bert: Path, tmp_path: Path) -> None:
    stages = ["finetune", {"name": "self_train", "rounds": 1}]
    recipe = recipe_from(recipe_data(tmp_path / "run", tiny_bert, "classification", "frozen", stages=stages))
    folder = run(recipe, data=data_of("classification"), checked=False).folder
    place = folder / "stages/2-self_train"
    known = set(json.loads((place / PREPARED).read_text()))
    assert {"features", "labels of round-1"} <= known <= {"features", "labels of round-1", "labels of after"}
    assert 0 < prepared(place).seconds <= stages_of(folder)["self_train"]["seconds"]


def test_a_head_counts_all_its_starts(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training knows its seconds over several of them; the clock knows the last."""
    train = jobs.train

    def counted(job: Any, model: Any) -> dict[str, Any]:
        return train(job, model) | ({"seconds": 500.0} if job.title.endswith("head") else {})

    monkeypatch.setattr(jobs, "train", counted)
    method = {"name": "joint_mlm", "head_steps": 3}
    recipe = recipe_from(recipe_data(tmp_path / "run", tiny_bert, methods=(method,)))
    folder = run(recipe, data=data_of("classification"), checked=False).folder
    assert (
        json.loads((folder / "stages/1-finetune" / PREPARED).read_text())["head"].items()
        >= {
            "seconds": 500.0,
            "steps": 3,
        }.items()
    )
    assert stages_of(folder)["finetune"]["seconds"] >= 500
