"""The model that a comparison ends with: the mean of the weights of the picked strategy's runs, one of each seed.

Each seed errs in its own way. The mean of the weights of models that were fine-tuned from the same pretrained ones
keeps what they have in common (Wortsman et al. 2022, arXiv 2203.05482; Rame et al. 2022, arXiv 2205.09739), costs no
training, and answers as fast as one of them. Averaging helps without any adaptation, so its twin is the mean of the
twins of these runs: the gain over that one is what adaptation adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..parts import METHODS, TUNINGS, Known
from ..recipe.schema import Recipe
from ..recipe.stages import SoupStage
from ..reporter import Reporter
from .claims import check_claims
from .results import JUDGE, Result, read_result
from .runs import Member, run_all

FINAL = "final"


def final_of(
    runs: Sequence[tuple[Member, Result]],
    folder: Path,
    data: dict[str, Any] | None,
    reporter: Reporter,
    methods: Known = METHODS,
) -> dict[str, Any]:
    """Make the final model of a comparison, unless it is there already.

    Args:
        runs: Those of the picked strategy that are finished.
        folder: The comparison's folder.
        data: Data sets in place of files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told.
        methods: The methods that may be named.

    Returns:
        For the summary, under ``final``: ``run`` (its folder inside the comparison's), ``seeds``, ``models`` (how many
        are averaged), ``scores`` by split as intervals, ``gain`` and ``verdict`` over the mean of the runs' twins where
        there are such and labelled target rows, and ``advised``: False where it has collapsed, or is
        worse on source dev than each of the runs. Nothing where fewer than two runs are sound, or they have no mean.

    Raises:
        RunError: Its folder holds what another recipe has left.
    """
    sound = [(member, result) for member, result in runs if not result.collapsed]
    own = [member for member, _ in sound]
    if len(own) < 2 or not TUNINGS[own[0].recipe.tuning.name].moves_features:
        return {}
    made = _mean_of(own, folder)
    check_claims([(made.folder, made.recipe)] if made.trained else [], folder)
    try:
        run_all([made], data, reporter, methods, [member.folder for member in own])
    except ModelError as error:
        # Runs whose weights have gone too far apart are sound all the same, each by itself.
        reporter.warn(f"the picked runs have no mean: {error}")
        return {}
    return {FINAL: _told(made, [result for _, result in sound], folder)}


def _mean_of(own: Sequence[Member], folder: Path) -> Member:
    """Return the run that averages some runs of one strategy."""
    first, *others = own
    label = "-".join(str(member.seed) for member in own)
    values = first.recipe.model_dump() | {"output": str(folder / FINAL / first.strategy / label)}
    models = [place for member in own for place in _ingredients(member)][1:]
    twins = [member.twin_model for member in others]
    stage = SoupStage(models=models, twins=None if None in twins else list(map(str, twins)))
    before = [one for one in values["stages"] if one["name"] != stage.name]
    values["stages"] = [*before, stage.model_dump()]
    if stage.twins is None:
        values |= {"source_only": False, "guard": False}
    title = f"{first.strategy}, the mean of its runs"
    return Member(first.strategy, first.seed, Recipe.model_validate(values), title=title)


def _ingredients(member: Member) -> list[str]:
    """Return the models that a run's own is the mean of, each once: of most runs that is one."""
    last = member.recipe.stages[-1]
    if not isinstance(last, SoupStage):
        return [str(member.own_model)]
    return list(dict.fromkeys([str(member.others[0].own_model), *last.models]))


def _told(made: Member, averaged: Sequence[Result], folder: Path) -> dict[str, Any]:
    found = read_result(made)
    scores = {split: score["interval"] for split, score in found.metrics["scores"][found.role].items()}
    values = [result.value("source.dev") for result in averaged]
    stage = made.recipe.stages[-1]
    assert isinstance(stage, SoupStage)
    told: dict[str, Any] = {
        "run": str(made.folder.relative_to(folder)),
        "seeds": [result.seed for result in averaged],
        "models": 1 + len(stage.models),
        "scores": scores,
        "advised": not found.collapsed and scores["source.dev"]["value"] >= min(filter(None, values), default=0),
    }
    if JUDGE in found.metrics.get("gain", {}):
        told |= {"gain": found.metrics["gain"][JUDGE], "verdict": found.metrics["verdict"]["verdict"]}
    return told
