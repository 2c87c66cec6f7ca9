"""Searches of settings: what is tried, when it ends, and what a pause changes of it (nothing)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers import data_of, recipe_data

from nlp_transfer.checking import check
from nlp_transfer.comparison.compare import compare
from nlp_transfer.comparison.plan import spec_of
from nlp_transfer.comparison.space import own_space
from nlp_transfer.comparison.study import best_values
from nlp_transfer.errors import RecipeError, TrainingError
from nlp_transfer.parts import METHODS, load_recipe, recipe_from
from nlp_transfer.recipe.comparing import Range, SearchSpec

SPACE = {"train.learning_rate": Range(low=1e-5, high=1e-2, log=True), "dann.max_lambda": Range(low=0.01, high=1)}


def height(values: Mapping[str, float]) -> float:
    return -((values["dann.max_lambda"] - 0.7) ** 2)


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir(exist_ok=True)
    return parent / name


class Trials:
    """An objective that notes what is tried, stops at one trial, and fails below a value."""

    def __init__(self, stop_at: int | None = None, fails_below: float = 0.0):
        self.tried: list[Mapping[str, float]] = []
        self.stop_at = stop_at
        self.fails_below = fails_below

    def __call__(self, values: Mapping[str, float]) -> float:
        self.tried.append(values)
        if len(self.tried) == self.stop_at:
            raise KeyboardInterrupt
        if values["dann.max_lambda"] < self.fails_below:
            raise TrainingError("step 3: loss_task is not a finite number.")
        return height(values)


def test_a_search_that_was_stopped_and_extended_tries_what_one_without_a_pause_tries(tmp_path: Path) -> None:
    whole, first, second, third = Trials(), Trials(stop_at=3), Trials(), Trials()
    wanted = best_values(folder(tmp_path, "whole"), SPACE, SearchSpec(trials=14), 1, whole)
    with pytest.raises(KeyboardInterrupt):
        best_values(folder(tmp_path, "parts"), SPACE, SearchSpec(trials=5), 1, first)
    best_values(folder(tmp_path, "parts"), SPACE, SearchSpec(trials=5), 1, second)
    found = best_values(folder(tmp_path, "parts"), SPACE, SearchSpec(trials=14), 1, third)
    assert [*first.tried[:2], *second.tried, *third.tried] == whole.tried
    assert second.tried[0] == first.tried[2]
    assert found == wanted == max(whole.tried, key=height)
    assert len({values["dann.max_lambda"] for values in whole.tried}) == 14


def test_seeds_try_other_values(tmp_path: Path) -> None:
    one, other = Trials(), Trials()
    best_values(folder(tmp_path, "1"), SPACE, SearchSpec(trials=2), 1, one)
    best_values(folder(tmp_path, "2"), SPACE, SearchSpec(trials=2), 2, other)
    assert one.tried != other.tried


def test_minutes_end_a_search_after_the_trial_that_spends_them(tmp_path: Path) -> None:
    trials = Trials()
    best_values(tmp_path, SPACE, SearchSpec(minutes=1e-9), 1, trials)
    assert len(trials.tried) == 1


# Trials that fail


def test_a_trial_that_fails_counts_as_the_worst_and_is_not_tried_again(tmp_path: Path) -> None:
    whole, first, second = Trials(fails_below=0.2), Trials(stop_at=9, fails_below=0.2), Trials(fails_below=0.2)
    wanted = best_values(folder(tmp_path, "whole"), SPACE, SearchSpec(trials=16), 1, whole)
    failed = [values for values in whole.tried if values["dann.max_lambda"] < 0.2]
    assert len(whole.tried) == 16 and 3 <= len(failed) <= 13
    assert wanted == max((values for values in whole.tried if values not in failed), key=height)
    with pytest.raises(KeyboardInterrupt):
        best_values(folder(tmp_path, "parts"), SPACE, SearchSpec(trials=16), 1, first)
    assert best_values(folder(tmp_path, "parts"), SPACE, SearchSpec(trials=16), 1, second) == wanted
    assert [*first.tried[:8], *second.tried] == whole.tried


def test_a_search_of_which_no_trial_ends_is_over_all_the_same(tmp_path: Path) -> None:
    first, second, third = Trials(fails_below=1), Trials(fails_below=1), Trials()
    message = r"no trial of its search came to an end \(3 were tried\); the first: step 3: .*Allow more trials"
    for trials, tried in ((first, 3), (second, 0)):
        with pytest.raises(TrainingError, match=message):
            best_values(tmp_path, SPACE, SearchSpec(trials=3), 1, trials)
        assert len(trials.tried) == tried
    assert best_values(tmp_path, SPACE, SearchSpec(trials=4), 1, third) == third.tried[0], "more trials are tried"


# The space


def recipe_with(folder: Path, base: Path, strategies: list[Any], space: Any = None, **values: Any) -> Any:
    tune = {"trials": 1} | ({} if space is None else {"space": space})
    data = recipe_data(folder / "run", base)
    data.pop("source_only")
    return recipe_from(data | {"compare": {"strategies": strategies, "seeds": [1], "tune": tune}} | values)


def own_spaces(recipe: Any) -> dict[str, dict[str, Any]]:
    spec = spec_of(recipe, None, None, METHODS)
    assert spec.tune is not None
    return {one.label: own_space(recipe, one, spec.tune, METHODS) for one in spec.strategies}


def test_the_default_range_lies_around_the_rate_of_the_tuning(tmp_path: Path) -> None:
    lora = {"name": "dann", "title": "adapters", "set": ["tuning=lora"]}
    recipe = recipe_with(tmp_path, tmp_path, ["dann", "lora", "frozen", "top_layers+mcc", lora])
    ranges = {
        name: (space["train.learning_rate"].low, space["train.learning_rate"].high)
        for name, space in own_spaces(recipe).items()
    }
    assert ranges == {
        "source_only": (2e-5, 2e-4),
        "dann": (2e-5, 2e-4),
        "lora": (2e-4, 2e-3),
        "frozen": (2e-3, 2e-2),
        "top_layers+mcc": (4e-5, 4e-4),
        "adapters": (2e-4, 2e-3),
    }
    assert (
        own_spaces(recipe_with(tmp_path, tmp_path, ["dann"], tuning="lora"))["dann"]["train.learning_rate"].high == 2e-3
    )


def test_a_range_that_is_written_is_that_of_all(tmp_path: Path) -> None:
    space = {"train.learning_rate": {"low": 2e-5, "high": 2e-4}}
    spaces = own_spaces(recipe_with(tmp_path, tmp_path, ["lora", "frozen"], space))
    assert {(one["train.learning_rate"].low, one["train.learning_rate"].high) for one in spaces.values()} == {
        (2e-5, 2e-4)
    }


def test_settings_are_of_the_strategies_that_have_them(tmp_path: Path) -> None:
    keys = ("tuning.rank", "dann.max_lambda", "finetune.train.warmup", "self_train.share", "methods.0.weight")
    space = {key: {"low": 0.1, "high": 0.2} for key in keys} | {"tuning.rank": {"low": 2, "high": 4}}
    recipe = recipe_with(tmp_path, tmp_path, ["lora", "dann+mcc", "self_train"], space)
    assert {name: list(found) for name, found in own_spaces(recipe).items()} == {
        "source_only": ["finetune.train.warmup"],
        "lora": ["tuning.rank", "finetune.train.warmup"],
        "dann+mcc": ["dann.max_lambda", "finetune.train.warmup", "methods.0.weight"],
        "self_train": ["finetune.train.warmup", "self_train.share"],
    }
    assert check(recipe)["runs"] == {"source_only": 1, "lora": 1, "dann+mcc": 1, "self_train": 1}


def test_all_that_is_wrong_with_a_space_is_told_at_once(tmp_path: Path) -> None:
    wide = {"low": 0.1, "high": 0.2}
    space = {
        "dan.max_lambda": wide,
        "dann.max_lamda": wide,
        "trian.warmup": wide,
        "train.warmpu": wide,
        "train.warmup.share": wide,
        "warmup": wide,
        "mcc.weight": wide,
        "lora.rank": {"low": 2, "high": 4},
        "tuning.rnak": {"low": 2, "high": 4},
        "tuning.rank": {"low": 2.0, "high": 4},
        "self_train.rounds": {"low": 0, "high": 3, "log": False},
        "train.learning_rate": {"low": 1e-4, "high": 5.0},
        "dann.max_lambda": {"low": -1, "high": 0.5, "log": False},
        "train.schedule": wide,
        "train": wide,
    }
    recipe = recipe_with(tmp_path, tmp_path, ["dann", "lora", "self_train"], space)
    with pytest.raises(RecipeError) as error:
        check(recipe)
    found = {problem.where.removeprefix("compare.tune.space."): problem.message for problem in error.value.problems}
    assert len(found) == len(error.value.problems) == len(space)
    ends = {
        "dan.max_lambda": "Did you mean 'dann'?",
        "dann.max_lamda": "Did you mean 'max_lambda'?",
        "trian.warmup": "Did you mean 'train'?",
        "train.warmpu": "Did you mean 'warmup'?",
        "train.warmup.share": "'train.warmup' has no setting 'share'. It has none.",
        "mcc.weight": "no strategy that is compared has 'mcc'. Compare one that has it, or leave the range out.",
        "warmup": "Did you mean 'train.warmup'?",
        "lora.rank": "Settings of a tuning begin with 'tuning', such as tuning.rank.",
        "tuning.rnak": "Allowed: rank, alpha, dropout, targets, variant. Did you mean 'rank'?",
        "tuning.rank": "this takes whole numbers. Write low and high as such: 2, not 2.0.",
        "self_train.rounds": "expected a whole number at least 1 and at most 50, found the number 0.",
        "train.learning_rate": "found the number 5.0.",
        "dann.max_lambda": "but this is -1.0.",
        "train.schedule": "a range gives numbers, but this takes 'linear', 'cosine' or 'constant'.",
    }
    assert {key: message for key, message in found.items() if not message.endswith(ends.get(key, ""))} == {}
    assert found["train"].startswith("a range gives numbers, but this takes a section")
    with pytest.raises(RecipeError, match=r"15 problems in the recipe"):
        compare(recipe, data=data_of("classification"))
    assert not (tmp_path / "run-comparison").exists()


def test_batches_that_cannot_be_divided_are_found_before_a_trial(tmp_path: Path) -> None:
    space = {"train.batch_size": {"low": 8, "high": 16}}
    recipe = recipe_with(tmp_path, tmp_path, ["dann"], space, train={"accumulation": 2})
    with pytest.raises(RecipeError, match=r"space\.train\.batch_size: a batch of 9 cannot be divided"):
        check(recipe)


def test_the_space_may_hold_what_is_not_compared_this_time(tmp_path: Path, tiny_bert: Path) -> None:
    space = {"dann.max_lambda": {"low": 0.1, "high": 0.2}}
    recipe = recipe_with(tmp_path, tiny_bert, ["dann", "mcc"], space)
    found = compare(recipe, ["source_only"], data=data_of("classification"))
    assert found.summary["tuned"] == {"source_only": []}


def test_whole_numbers_are_drawn_where_the_range_is_of_such(tmp_path: Path) -> None:
    space = {"rounds": Range(low=1, high=3), "share": Range(low=0.1, high=1), "width": Range(low=1, high=64)}
    tried: list[Mapping[str, float]] = []

    def trial(values: Mapping[str, float]) -> float:
        tried.append(values)
        return values["rounds"]

    best = best_values(tmp_path, space, SearchSpec(trials=12), 1, trial)
    assert all(
        {key: type(value) for key, value in values.items()} == {"rounds": int, "share": float, "width": int}
        for values in [*tried, best]
    )
    assert {values["rounds"] for values in tried} == {1, 2, 3} and best["rounds"] == 3
    assert sum(values["width"] <= 8 for values in tried) >= 3, "evenly on a logarithmic scale"


def test_a_rank_is_searched_for(tmp_path: Path, tiny_bert: Path) -> None:
    space = {"tuning.rank": {"low": 2, "high": 4}}
    found = compare(recipe_with(tmp_path, tiny_bert, ["lora"], space), data=data_of("classification"))
    (told,) = found.summary["tuned"]["lora"]
    assert told in ("tuning.rank=2", "tuning.rank=3", "tuning.rank=4")
    assert found.summary["tuned"]["source_only"] == []
    config = json.loads((found.folder / "runs/lora/1/model/adapter_config.json").read_text())
    assert told == f"tuning.rank={config['r']}"


def test_a_comparison_with_the_default_space_can_be_made_again(tmp_path: Path, tiny_bert: Path) -> None:
    recipe = recipe_with(tmp_path, tiny_bert, ["lora"])
    found = compare(recipe, data=data_of("classification"))
    rate = float(found.summary["tuned"]["lora"][0].partition("=")[2])
    assert 2e-4 <= rate <= 2e-3
    again = compare(load_recipe(found.folder / "compare.yaml"), folder=found.folder, data=data_of("classification"))
    assert again.summary == found.summary
