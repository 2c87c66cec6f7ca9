"""Every demonstration recipe runs from start to end: two steps, on a tiny model, with the real demonstration data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlp_transfer.comparison.compare import compare
from nlp_transfer.parts import load_recipe
from nlp_transfer.running import run

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
COMPARISONS = [path for path in RECIPES if "\ncompare:\n" in path.read_text(encoding="utf8")]


def short(path: Path, tiny: Path, output: Path) -> list[str]:
    """Overrides that make a recipe two steps long on a tiny model."""
    overrides = [
        f"model={tiny}",
        f"output={output}",
        "data.max_length=48",
        "train.max_steps=2",
        "evaluate.resamples=100",
    ]
    text = path.read_text(encoding="utf8")
    if "pretrain" in text.split("stages:")[-1]:
        overrides.append("stages.0.block_length=48")
        if "objective:" not in text:
            overrides.append("stages.0.head_steps=2")
    stages = load_recipe(path).stages
    own = [at for at, stage in enumerate(stages) if "epochs" in stage.train]
    overrides += [f"stages.{at}.train.max_steps=2" for at in own]
    if len(own) == len(stages):
        overrides.remove("train.max_steps=2")
    if path.stem.startswith("self_train"):
        overrides += ["stages.1.train={max_steps: 2}"]
    return overrides


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RECIPES if path not in COMPARISONS], ids=lambda path: path.stem)
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


@pytest.mark.slow
@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_comparison_runs(path: Path, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, [*short(path, tiny_bert, tmp_path / "run"), "compare.seeds=[1]"])
    assert recipe.compare is not None
    summary = compare(recipe).summary
    assert list(summary["strategies"]) == ["source_only", *(one.label for one in recipe.compare.strategies)]
    assert summary["picked"] in summary["strategies"]


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 20
    assert len(COMPARISONS) >= 1


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
