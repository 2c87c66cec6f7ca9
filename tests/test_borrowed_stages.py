"""Stages that one run takes over from another: only what is the same, and only what is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import data_of, recipe_data

from nlp_transfer.methods.base import Method
from nlp_transfer.parts import METHODS, recipe_from
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
        trained.append((tmp_path / name / "log.jsonl").is_file())
    assert trained == [True, not borrowed]


def test_only_what_a_finished_stage_keeps_is_taken_over(tmp_path: Path) -> None:
    """Its process may be deleting the rest at this moment."""
    stage = tmp_path / "first/stages/2-self_train"
    for name in ("model", "checkpoint-4", "broken-checkpoint-2", "head", "blocks", "round-1/model"):
        (stage / name).mkdir(parents=True)
        (stage / name / "file").write_text("")
    (stage / "round-1/labels.jsonl").write_text("")
    (stage / "done.json").write_text(json.dumps({"fingerprint": "same"}))
    copy = tmp_path / "second/stages/2-self_train"
    borrow(copy, "other", [tmp_path / "first"])
    assert not copy.exists()
    borrow(copy, "same", [tmp_path / "first"])
    taken = {str(path.relative_to(copy)) for path in copy.rglob("*")}
    assert taken == {"model", "model/file", "round-1", "round-1/labels.jsonl", "done.json"}
