"""Tuning of a strategy before it is compared: the same number of trials for each, and no target labels.

Trials are run with the first seed and without the target's test split, so that its labels cannot be looked at. The
study is kept on disk; an interrupted search goes on. A trial whose training fails counts as one, with the worst value.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunBusyError, RunError, TrainingError
from ..parts import Known
from ..recipe.comparing import CompareSpec, Range, SearchSpec, StrategySpec
from ..recipe.schema import Recipe
from ..records import look_up, read_json, rerun
from ..reporter import Reporter
from ..runfolder import locked
from ..whole import write_text
from .claims import RECIPE, text_of
from .runs import WAIT, Member, members, run_all
from .space import own_space

if TYPE_CHECKING:
    import optuna

LABELLED_TARGET = ("target.dev", "target.test")
UNSEEN = tuple(f"data.{role}=null" for role in LABELLED_TARGET)
STUDY = "study.log"
FAILED = "failed"
"""Under which name a trial keeps why its training failed."""


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
        TrainingError: No trial came to an end.
    """
    search = spec.tune
    assert search is not None
    space = own_space(recipe, strategy, search, methods)
    if not space:
        return strategy
    place, untuned = studied(recipe, strategy, spec, folder, methods)
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / RECIPE, text_of(untuned))
    unseen = None if data is None else {name: rows for name, rows in data.items() if name not in LABELLED_TARGET}

    def run_trial(values: Mapping[str, float]) -> float:
        changed = strategy.model_copy(update={"set": [*strategy.set, *_overrides(values), *UNSEEN]})
        (member,) = members(recipe, [changed], spec.seeds[:1], place / _name_of(values), methods)
        if member.failure is None:
            run_all([member], unseen, reporter, methods)
        if member.failure is not None:
            raise TrainingError(member.failure)
        return objective(member, search)

    while True:
        try:
            with locked(place):
                best = best_values(place, space, search, spec.seeds[0], run_trial)
            break
        except RunBusyError:
            time.sleep(WAIT)
    reporter.say(f"{strategy.label}: best of its search by {search.objective}: {', '.join(_overrides(best))}")
    return strategy.model_copy(update={"set": [*strategy.set, *_overrides(best)]})


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
    return log.is_file() and _study_name(space, search) in log.read_text(encoding="utf8")


def _study_name(space: Mapping[str, Range], search: SearchSpec) -> str:
    """Return a study's name: trials of another objective or of other ranges are another study."""
    return _name_of([search.objective, {key: one.model_dump() for key, one in space.items()}])


def best_values(
    place: Path,
    space: Mapping[str, Range],
    search: SearchSpec,
    seed: int,
    run_trial: Callable[[Mapping[str, float]], float],
) -> dict[str, float]:
    """Try values until the budget is spent; return the best.

    What an earlier search has tried counts: one that was stopped, or given a larger budget, tries what it would have
    tried without a pause, and a trial that was under way is begun again. A trial that fails counts, too: nothing is
    worse, and it is not begun again.

    Args:
        place: Folder of the study.
        space: Range of each setting.
        search: Objective and budget.
        seed: Seed of the sampler.
        run_trial: Returns the objective of some values, higher is better; raises TrainingError where it cannot.

    Raises:
        TrainingError: All trials have failed.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    def sampler(number: int) -> optuna.samplers.BaseSampler:
        # A state of its own for each trial: a search that goes on tries what it would have tried without a pause.
        state = np.random.SeedSequence([seed, number]).generate_state(1)
        return optuna.samplers.TPESampler(seed=int(state[0]))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=_study_name(space, search),
        direction="maximize",
        storage=JournalStorage(JournalFileBackend(str(place / STUDY))),
        load_if_exists=True,
    )
    state = optuna.trial.TrialState
    for stopped in study.get_trials(states=[state.RUNNING]):
        study.tell(stopped.number, state=state.FAIL)
        study.enqueue_trial(stopped.params)
    while True:
        done = study.get_trials(states=[state.COMPLETE])
        spent = sum(trial.duration.total_seconds() for trial in done if trial.duration is not None) / 60
        out_of_trials = search.trials is not None and len(done) >= search.trials
        if done and (out_of_trials or (search.minutes is not None and spent >= search.minutes)):
            return _best(done)
        study.sampler = sampler(len(done))
        trial = study.ask()
        values = {key: _drawn(trial, key, one) for key, one in space.items()}
        try:
            value = run_trial(values)
        except TrainingError as error:
            trial.set_user_attr(FAILED, str(error))
            value = float("-inf")
        study.tell(trial, value)


def _drawn(trial: optuna.Trial, key: str, values: Range) -> float:
    if values.whole:
        return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)


def _best(trials: Sequence[optuna.trial.FrozenTrial]) -> dict[str, float]:
    """Return the values of the best trial that has not failed, of equals the first."""
    sound = {trial.number: trial.params for trial in trials if FAILED not in trial.user_attrs}
    if not sound:
        why = trials[0].user_attrs[FAILED]
        raise TrainingError(
            f"no trial of its search came to an end ({len(trials)} were tried); the first: {why} Allow more trials, or "
            "change compare.tune.space."
        )
    values = {trial.number: trial.value for trial in trials if trial.value is not None}
    return sound[max(sound, key=lambda number: values[number])]


def _overrides(values: Mapping[str, float]) -> list[str]:
    return [f"{key}={value!r}" for key, value in values.items()]


def _name_of(values: Any) -> str:
    """Name a trial, or a study, by its settings, so that one that was stopped is found again."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def objective(member: Member, search: SearchSpec) -> float:
    """Return the value of a finished trial."""
    path, mend = member.folder / "metrics.json", rerun(member.folder)
    metrics = read_json(path, mend)
    role = next(iter(look_up(metrics, path, mend, "scores")), "")
    judged = ["scores", role, "source.dev", "interval", "value"]
    value = look_up(
        metrics, path, mend, *(judged if search.objective == "source_dev" else ["label_free", role, search.objective])
    )
    return float("-inf") if value is None else float(value)
