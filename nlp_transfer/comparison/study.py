"""A study of Optuna: values of settings are tried until the budget is spent.

It is kept on disk; an interrupted one goes on. A trial whose training fails counts as one, with the worst value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TrainingError
from ..recipe.comparing import Range, SearchSpec

if TYPE_CHECKING:
    import optuna

STUDY = "study.log"
FAILED = "failed"
"""Under which name a trial keeps why its training failed."""


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
        study_name=study_name(space, search),
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


def study_name(space: Mapping[str, Range], search: SearchSpec) -> str:
    """Return a study's name: trials of another objective or of other ranges are another study."""
    return name_of([search.objective, {key: one.model_dump() for key, one in space.items()}])


def name_of(values: Any) -> str:
    """Name a trial, or a study, by its settings, so that one that was stopped is found again."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
