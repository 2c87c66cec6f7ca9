"""Stages that one run takes over from another: only what is the same, and only what is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import data_of, read_lines, recipe_data

from nlp_transfer.methods.base import Method
from nlp_transfer.parts import METHODS, recipe_from
from nlp_transfer.report.facts import gather
from nlp_transfer.report.record import read_record
from nlp_transfer.running import run
from nlp_transfer.stages.base import borrow
from nlp_transfer.units import Sizes, Step


class Mine(Method):
    """A first version of a method of one's own."""

    def __init__(self, sizes: Sizes, **shared: Any):
        super().__init__(**shared)

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        return {"size": step.features_UH.square().mean()}


class Edited(Method):
    """Another one."""

    def __init__(self, sizes: Sizes, **shared: Any):
        super().__init__(**shared)

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        return {"size": step.features_UH.abs().mean()}


@pytest.mark.parametrize(("method", "borrowed"), [(Mine, True), (Edited, False)])
def test_a_method_of_ones_own_that_was_edited_is_trained_anew(
    method: type[Method], borrowed: bool, tiny_bert: Path, tmp_path: Path
) -> None:
    trained = []
    for name, known in (("first", Mine), ("second", method)):
        recipe = recipe_from(recipe_data(tmp_path / name, tiny_bert, methods=("mine",)), (), METHODS | {"mine": known})
        run(
            recipe,
            data=data_of("classification"),
            methods=METHODS | {"mine": known},
            reuse=[tmp_path / "first"],
            checked=False,
        )
        log = read_lines(tmp_path / name / "log.jsonl")
        trained.append(not any("borrowed" in line for line in log))
    assert trained == [True, not borrowed]


def test_what_a_stage_has_logged_goes_with_it(tiny_bert: Path, tmp_path: Path) -> None:
    """Without it, the report of the other run would lack its curve, and the card what it warned of."""
    for name, methods in (("plain", ()), ("adapted", ("coral",))):
        values = recipe_data(tmp_path / name, tiny_bert, methods=methods) | {"source_only": True}
        run(recipe_from(values), data=data_of("classification"), reuse=[tmp_path / "plain"], checked=False)
    first, second = (read_lines(tmp_path / name / "log.jsonl") for name in ("plain", "adapted"))
    stage = tmp_path / "plain/stages/1-finetune"
    assert first == read_lines(stage / "log.jsonl")
    twin = [line for line in second if line["stage"] == "source-only"]
    assert twin == [line | {"stage": "source-only", "borrowed": str(stage)} for line in first]
    assert [one.stage for one in gather(read_record(tmp_path / "adapted")).trainings] == ["source-only", "finetune"]


def test_a_damaged_log_keeps_no_stage_from_being_taken_over(tmp_path: Path) -> None:
    stage, log = tmp_path / "first/stages/1-finetune", tmp_path / "second/log.jsonl"
    stage.mkdir(parents=True)
    (stage / "done.json").write_text(json.dumps({"fingerprint": "same"}))
    (stage / "log.jsonl").write_text('{"stage": "finetune", "st')
    borrow(tmp_path / "second/stages/1-finetune", "same", [tmp_path / "first"], log, "finetune")
    assert (tmp_path / "second/stages/1-finetune/done.json").is_file()
    assert not log.exists()


def test_only_what_a_finished_stage_keeps_is_taken_over(tmp_path: Path) -> None:
    """Its process may be deleting the rest at this moment."""
    stage = tmp_path / "first/stages/2-self_train"
    for name in ("model", "checkpoint-4", "broken-checkpoint-2", "head", "blocks", "round-1/model"):
        (stage / name).mkdir(parents=True)
        (stage / name / "file").write_text("")
    (stage / "round-1/labels.jsonl").write_text("")
    (stage / "done.json").write_text(json.dumps({"fingerprint": "same"}))
    copy = tmp_path / "second/stages/2-self_train"
    borrow(copy, "other", [tmp_path / "first"], tmp_path / "log.jsonl", "self_train")
    assert not copy.exists()
    borrow(copy, "same", [tmp_path / "first"], tmp_path / "log.jsonl", "self_train")
    taken = {str(path.relative_to(copy)) for path in copy.rglob("*")}
    assert taken == {"model", "model/file", "round-1", "round-1/labels.jsonl", "done.json"}
