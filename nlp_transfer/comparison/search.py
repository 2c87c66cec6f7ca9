"""Tuning of a strategy before it is compared: the same number of trials for each, and no target labels.

Trials are run with the first seed and without the target's test split, so that its labels cannot be looked at. The
study is kept on disk; an interrupted search goes on. A trial whose training fails counts as one, with the worst value.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunBusyError, RunError, TrainingError
from ..guard import has_collapsed
from ..parts import Known
from ..recipe.comparing import CompareSpec, Range, SearchSpec, StrategySpec
from ..recipe.schema import Recipe
from ..records import look_up, read_json, rerun
from ..reporter import Reporter
from ..runfolder import locked
from ..strategies import is_made_of_others
from ..whole import write_text
from .claims import RECIPE, check_claims, text_of
from .failures import Failures
from .runs import WAIT, Member, members, run_all
from .space import own_space
from .study import STUDY, best_values, name_of, study_name

LABELLED_TARGET = ("target.dev", "target.test")
UNSEEN = tuple(f"data.{role}=null" for role in LABELLED_TARGET)


def tune_all(
    recipe: Recipe,
    spec: CompareSpec,
    folder: Path,
    data: dict[str, Any] | None,
    reporter: Reporter,
    methods: Known,
) -> tuple[list[StrategySpec], Failures]:
    """Tune the strategies of a comparison, first those that no other process searches for.

    What is made of the others has nothing to tune: they are tuned, and a student trains as the recipe says.

    Args:
        recipe: The recipe that is compared upon.
        spec: The comparison, source-only first; its ``tune`` section is set.
        folder: The comparison's folder.
        data: Data sets in place of files.
        reporter: Where progress is told.
        methods: The methods that may be named.

    Returns:
        The strategies with what was found best, in order, and why no trial of others came to an end.

    Raises:
        RunError: The folder holds trials or runs of another recipe or of other ranges.
        TrainingError: None of source-only came to an end.
    """
    strategies = [one for one in spec.strategies if not is_made_of_others(one)]
    check_claims([studied(recipe, one, spec, folder, methods) for one in strategies], folder)
    check_searched(recipe, strategies, spec, folder, methods)
    best: dict[str, StrategySpec] = {}
    failed: Failures = {}
    left = list(strategies)
    told: set[str] = set()
    while left:
        busy = []
        for one in left:
            try:
                best[one.label] = tuned(recipe, one, spec, folder, data, reporter, methods)
            except RunBusyError:
                busy.append(one)
                if one.label not in told:
                    reporter.say(f"{one.label}: another process searches for it")
                    told.add(one.label)
            except TrainingError as error:
                if one.label == strategies[0].label:
                    raise TrainingError(f"{one.label}: {error} Nothing can be compared without it.") from error
                reporter.warn(f"{one.label}: {error}")
                failed[one.label] = dict.fromkeys(map(str, spec.seeds), str(error))
        if len(busy) == len(left):
            time.sleep(WAIT)
        left = busy
    return [best.get(one.label, one) for one in spec.strategies if one.label not in failed], failed


def tuned(
    recipe: Recipe,
    strategy: StrategySpec,
    spec: CompareSpec,
    folder: Path,
    data: dict[str, Any] | None,
    reporter: Reporter,
    methods: Known,
) -> StrategySpec:
    """Return a strategy with the settings that its search found best.

    Args:
        recipe: The recipe that is compared upon.
        strategy: The strategy.
        spec: The comparison; its ``tune`` section is set.
        folder: The comparison's folder; trials and the study go to ``search/``.
        data: Data sets in place of files.
        reporter: Where progress is told.
        methods: The methods that may be named.

    Raises:
        RunBusyError: Another process searches for this strategy.
        TrainingError: No trial came to an end.
    """
    search = spec.tune
    assert search is not None
    space = own_space(recipe, strategy, search, methods)
    if not space:
        return strategy
    place, untuned = studied(recipe, strategy, spec, folder, methods)
    place.mkdir(parents=True, exist_ok=True)
    unseen = None if data is None else {name: rows for name, rows in data.items() if name not in LABELLED_TARGET}

    def run_trial(values: Mapping[str, float]) -> float:
        changed = strategy.model_copy(update={"set": [*strategy.set, *_overrides(values), *UNSEEN]})
        (member,) = members(recipe, [changed], spec.seeds[:1], place / name_of(values), methods)
        if member.failure is None:
            run_all([member], unseen, reporter, methods, searched_runs(folder))
        if member.failure is not None:
            raise TrainingError(member.failure)
        return objective(member, search)

    with locked(place):
        write_text(place / RECIPE, text_of(untuned))
        best = best_values(place, space, search, spec.seeds[0], run_trial)
    reporter.say(f"{strategy.label}: best of its search by {search.objective}: {', '.join(_overrides(best))}")
    return strategy.model_copy(update={"set": [*strategy.set, *_overrides(best)]})


def searched_runs(folder: Path) -> list[Path]:
    """Return the folders of the trials of all searches of a comparison: their stages need not be trained again."""
    return sorted(folder.glob("search/*/*/runs/*/*"))


def studied(
    recipe: Recipe, strategy: StrategySpec, spec: CompareSpec, folder: Path, methods: Known
) -> tuple[Path, Recipe]:
    """Return the folder of a strategy's search, and the recipe that all its trials share.

    Args:
        recipe: The recipe that is compared upon.
        strategy: The strategy.
        spec: The comparison.
        folder: The comparison's folder.
        methods: The methods that may be named.
    """
    (member,) = members(recipe, [strategy], spec.seeds[:1], folder, methods)
    return folder / "search" / strategy.label, member.recipe


def check_searched(
    recipe: Recipe, strategies: Sequence[StrategySpec], spec: CompareSpec, folder: Path, methods: Known
) -> None:
    """Refuse runs that no search has chosen the settings of, before a search takes its time.

    Args:
        recipe: The recipe that is compared upon.
        strategies: Strategies that are about to be searched.
        spec: The comparison; its ``tune`` section is set.
        folder: The comparison's folder.
        methods: The methods that may be named.

    Raises:
        RunError: Strategies were trained there without a search, or after one of other ranges.
    """
    assert spec.tune is not None
    found = [
        one.label
        for one in strategies
        if (space := own_space(recipe, one, spec.tune, methods))
        and not _was_searched(folder / "search" / one.label, space, spec.tune)
        and any(member.trained for member in members(recipe, [one], spec.seeds, folder, methods))
    ]
    if found:
        raise RunError(
            f"comparison folder '{folder}' holds runs of {', '.join(found)} that were not tuned, or over other ranges "
            "(those of an earlier comparison stand in its compare.yaml). Give the tuned comparison another folder "
            "(--output), or delete these runs."
        )


def _was_searched(place: Path, space: Mapping[str, Range], search: SearchSpec) -> bool:
    log = place / STUDY
    return log.is_file() and study_name(space, search) in log.read_text(encoding="utf8")


def _overrides(values: Mapping[str, float]) -> list[str]:
    return [f"{key}={value!r}" for key, value in values.items()]


def objective(member: Member, search: SearchSpec) -> float:
    """Return the value of a finished trial; nothing is worse than one whose model has collapsed on the target.

    Source dev does not see that, nor need a label-free score.
    """
    path, mend = member.folder / "metrics.json", rerun(member.folder)
    metrics = read_json(path, mend)
    if has_collapsed(metrics):
        return float("-inf")
    role = next(iter(look_up(metrics, path, mend, "scores")), "")
    judged = ["scores", role, "source.dev", "interval", "value"]
    value = look_up(
        metrics, path, mend, *(judged if search.objective == "source_dev" else ["label_free", role, search.objective])
    )
    return float("-inf") if value is None else float(value)
