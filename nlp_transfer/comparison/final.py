"""The model that a comparison ends with: the mean of the weights of the picked strategy's runs, one of each seed.

Each seed errs in its own way. The mean of the weights of models that were fine-tuned from the same pretrained ones
keeps what they have in common (Wortsman et al. 2022, arXiv 2203.05482; Rame et al. 2022, arXiv 2205.09739), costs no
training, and answers as fast as one of them. Averaging helps without any adaptation, so its twin is the mean of the
twins of these runs: of as many models, unless each run is itself a mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..parts import METHODS, TUNINGS, Known
from ..recipe import dump
from ..recipe.schema import Recipe
from ..recipe.stages import SoupStage
from ..records import read_json, rerun
from ..reporter import Reporter
from ..running import changed_rows
from ..stages.base import recorded
from .results import JUDGE, Result, read_result
from .runs import Member, own_data, run_all

FINAL = "final"


def final_of(
    runs: Sequence[tuple[Member, Result]],
    name: str,
    folder: Path,
    data: dict[str, Any] | None,
    reporter: Reporter,
    better: Callable[[Result], bool],
    methods: Known = METHODS,
) -> dict[str, Any]:
    """Make the final model of a comparison, unless it is there already.

    Args:
        runs: Those of the picked strategy that are finished, made of what they were trained with.
        name: What the model is called: as the recipe that was compared upon.
        folder: The comparison's folder.
        data: Data sets in place of files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told.
        better: Whether the scores that pick prefer the mean, as a run, to the best of the runs.
        methods: The methods that may be named.

    Returns:
        For the summary, under ``final``: ``run`` (its folder inside the comparison's), ``seeds``, ``models`` and
        ``twins`` (how many are averaged), ``scores`` by split as intervals, ``gain`` and ``verdict`` over the mean of
        the runs' twins where there are such and labelled target rows, and ``advised``: False where it has collapsed, or
        the best of the runs is preferred to it. Nothing where fewer than two runs are sound, or what they train has no
        mean; or where it cannot be made, as the reporter is told.
    """
    sound = [(member, result) for member, result in runs if not result.collapsed]
    own = [member for member, _ in sound]
    if len(own) < 2 or not all(map(_has_mean, own)):
        return {}
    try:
        made = _mean_of(own, name, folder)
        changed = [] if made.done else changed_rows(made.recipe, own[0].folder, own_data(made.recipe, data))
        if changed:
            reporter.warn(f"no final model: data has changed since the runs were made ({', '.join(changed)})")
            return {}
        run_all([made], data, reporter, methods, [member.folder for member in own])
        if made.failure is not None:
            reporter.warn(f"no final model: {made.failure}")
            return {}
        if _first(made) != _first(own[0]):
            reporter.warn("no final model: another version of the code or of the base model has made the runs")
            return {}
        return {FINAL: _told(made, [result.seed for _, result in sound], folder, better)}
    except UserError as error:
        # The comparison is done; such as weights that have gone too far apart, or a base that is out of reach by now.
        reporter.warn(f"no final model: {error}")
        return {}


def _first(member: Member) -> str:
    """Return the fingerprint of the model that a mean begins with, or of a run that is none."""
    trained = [number for number, stage in enumerate(member.recipe.stages) if not isinstance(stage, SoupStage)]
    stage = f"{1 + trained[-1]}-{member.recipe.stages[trained[-1]].name}"
    return str(recorded(member.folder / "stages" / stage / "model")["fingerprint"])


def _has_mean(member: Member) -> bool:
    """Whether a run trains weights that have a mean, and is no mean of models from outside the comparison."""
    last, others = member.recipe.stages[-1], {str(other.own_model) for other in member.others}
    moves = TUNINGS[member.recipe.tuning.name].moves_features
    return moves and (not isinstance(last, SoupStage) or {*last.models} <= others)


def _mean_of(own: Sequence[Member], name: str, folder: Path) -> Member:
    """Return the run that averages some runs of one strategy. Its folder is called after all that it follows from."""
    first, *others = own
    models = [place for member in own for place in _ingredients(member)][1:]
    twins = [str(member.twin_model) for member in others if member.twin_model is not None]
    stage = SoupStage(models=models, twins=twins or None, adapt=bool(twins))
    values = first.recipe.model_dump() | {"name": name}
    values["stages"] = [*(one for one in values["stages"] if one["name"] != stage.name), stage.model_dump()]
    recipe = Recipe.model_validate(values)
    title = f"{first.strategy}, the mean of its runs"
    place = folder / FINAL / first.strategy / f"{len(own)}-seeds-{_digest(recipe, own)}"
    return Member(first.strategy, first.seed, recipe.model_copy(update={"output": str(place)}), title=title)


def _ingredients(member: Member) -> list[str]:
    """Return the models that a run's own is the mean of, each once: of most runs that is one."""
    last = member.recipe.stages[-1]
    if not isinstance(last, SoupStage):
        return [str(member.own_model)]
    return list(dict.fromkeys([str(member.others[0].own_model), *last.models]))


def _digest(recipe: Recipe, own: Sequence[Member]) -> str:
    """Return what tells one mean from another: its settings but for places, the runs' stages, and the rows scored."""
    bare = recipe.model_copy(update={"output": None, "stages": []})
    first = own[0].folder
    rows = read_json(first / "environment.json", rerun(first), ["data"])["data"]
    models = [model for member in own for model in (member.own_model, member.twin_model) if model is not None]
    parts = [dump(bare), *sorted(f"{name} {rows[name]}" for name in rows)]
    parts += [f"{member.seed}" for member in own] + [recorded(model)["fingerprint"] for model in models]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _told(made: Member, seeds: list[int], folder: Path, better: Callable[[Result], bool]) -> dict[str, Any]:
    found = read_result(made)
    stage = made.recipe.stages[-1]
    assert isinstance(stage, SoupStage)
    told: dict[str, Any] = {
        "run": str(made.folder.relative_to(folder)),
        "seeds": seeds,
        "models": 1 + len(stage.models),
        "scores": {split: score["interval"] for split, score in found.metrics["scores"][found.role].items()},
        "advised": not found.collapsed and better(found),
    }
    if stage.twins is not None:
        told["twins"] = 1 + len(stage.twins)
    if JUDGE in found.metrics.get("gain", {}):
        told |= {"gain": found.metrics["gain"][JUDGE], "verdict": found.metrics["verdict"]["verdict"]}
    return told
