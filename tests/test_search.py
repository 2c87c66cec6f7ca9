"""Searches of settings: what is tried, when it ends, and what a pause changes of it (nothing)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nlp_transfer.comparison.search import best_values
from nlp_transfer.recipe.comparing import Range, SearchSpec

SPACE = {"train.learning_rate": Range(low=1e-5, high=1e-2, log=True), "dann.max_lambda": Range(low=0.01, high=1)}


def height(values: Mapping[str, float]) -> float:
    return -((values["dann.max_lambda"] - 0.7) ** 2)


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir(exist_ok=True)
    return parent / name


class Trials:
    """An objective that notes what is tried, and stops at one trial."""

    def __init__(self, stop_at: int | None = None):
        self.tried: list[Mapping[str, float]] = []
        self.stop_at = stop_at

    def __call__(self, values: Mapping[str, float]) -> float:
        self.tried.append(values)
        if len(self.tried) == self.stop_at:
            raise KeyboardInterrupt
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
