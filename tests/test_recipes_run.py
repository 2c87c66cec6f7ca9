"""Every demonstration recipe runs from start to end: two steps, on a tiny model, with the real demonstration data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlp_transfer.parts import load_recipe
from nlp_transfer.running import run

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def short(path: Path, tiny: Path, output: Path) -> list[str]:
    """Overrides that make a recipe two steps long on a tiny model."""
    overrides = [
        f"model={tiny}",
        f"output={output}",
        "data.max_length=48",
        "train.max_steps=2",
        "evaluate.resamples=100",
    ]
    if "pretrain" in path.read_text(encoding="utf8").split("stages:")[-1]:
        overrides += ["stages.0.head_steps=2", "stages.0.block_length=48"]
    if path.stem.startswith("self_train"):
        overrides += ["stages.1.train={max_steps: 2}"]
    return overrides


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs(path: Path, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, short(path, tiny_bert, tmp_path / "run"))
    result = run(recipe)
    roles = {"adapted", "source-only"} if recipe.adapts else {"source-only"}
    assert set(result.metrics["scores"]) == roles
    for scores in result.metrics["scores"].values():
        for split in scores.values():
            assert 0 <= split["interval"]["low"] <= split["interval"]["value"] <= split["interval"]["high"] <= 1
    stages = [json.loads(line) for line in (result.folder / "stages.jsonl").read_text(encoding="utf8").splitlines()]
    steps = {stage["stage"]: stage["steps"] for stage in stages}
    if "self_train" in steps:
        assert steps.pop("self_train") in (0, 2, 4)  # a model that has learned nothing may be refused as a labeller
        assert steps.pop("source-only") == 2 + 2 * 2
    assert set(steps.values()) == {2}
    assert (result.model / "config.json").is_file()


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 10


def test_tensorboard_gets_every_named_loss(tiny_bert: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = FOLDER / "dann_sentiment.yaml"
    overrides = [*short(path, tiny_bert, tmp_path / "run"), "report_to=[tensorboard]", "source_only=false"]
    result = run(load_recipe(path, overrides))
    (events,) = {file.parent for file in result.folder.rglob("events.out.tfevents.*")}
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert {"train/loss", "train/loss_task", "train/loss_dann_domain"} <= set(accumulator.Tags()["scalars"])
