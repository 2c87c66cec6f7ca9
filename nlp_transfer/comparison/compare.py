"""Compare strategies on one recipe: which helps, by how much, how sure that is, and which one to take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import Problem, RecipeError
from ..hardware import world_size
from ..parts import METHODS, Known
from ..recipe import dump
from ..recipe.schema import Recipe
from ..report.comparison import COMPARE_RECIPE, TABLE, model_of, report_comparison
from ..report.page import REPORT
from ..reporter import Reporter
from ..whole import write_text
from .claims import check_claims, check_rows
from .failures import Failures
from .final import final_of
from .plan import folder_of, judged, spec_of
from .results import Result, read_result
from .runs import failures_in, members, run_all
from .search import searched_runs, tune_all
from .space import check_space
from .summary import is_preferred, summarise


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        folder: Its folder, with a run folder for each strategy and seed.
        summary: Content of ``comparison.json``.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page that tells what was found."""
        return self.folder / REPORT

    @property
    def picked(self) -> Path:
        """Run folder to go on with: the mean of the picked strategy's runs where that is advised, else the best one."""
        return self.folder / model_of(self.summary)


def compare(
    recipe: Recipe,
    strategies: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    folder: str | Path | None = None,
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    methods: Known = METHODS,
    reuse: Sequence[Path] = (),
) -> Comparison:
    """Train every strategy with every seed (what is finished is kept) and judge them together.

    A strategy whose training fails is told of under ``failed`` in the summary, with its seeds and why, and judged by
    the seeds that are left, if any; calling this again tries it again. In the end the runs of the picked strategy are
    averaged into one model, in a run folder under ``final/`` (see :mod:`.final`).

    Args:
        recipe: What all strategies share; its ``compare`` section says what is compared.
        strategies: Names instead of all of the section; an entry that the section has under that title (or name, where
            it has no title) is meant with its settings.
        seeds: Seeds instead of those of the section.
        folder: Where runs and results go; by default the recipe's ``output`` (or ``runs/<name>``) and ``-comparison``.
        data: Data sets in place of files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told; silent by default.
        methods: The methods that may be named.
        reuse: Folders of runs outside the comparison, such as those with the same source and another target; a stage
            that one of them has finished with the same settings, data and seed is copied, as it is inside. Its seconds
            are those of that run.

    Returns:
        The comparison.

    Raises:
        RecipeError: No strategies are named, or one is unknown, or does not go with the recipe, or a range of the
            search is of a setting that none of them has.
        RunError: The folder holds what another recipe has trained under the same names, or runs on other rows.
        TrainingError: Source-only, which all others are compared with, cannot be trained.
    """
    if world_size() > 1:
        text = "a comparison runs in one process; several may work on one, each started by itself, without a launcher."
        raise RecipeError([Problem(text, "compare")])
    reporter = Reporter() if reporter is None else reporter
    spec = spec_of(recipe, strategies, seeds, methods)
    place = folder_of(recipe, folder)
    asked, recipe = recipe, judged(recipe)
    check_space(recipe, spec, methods)
    chosen, failed = list(spec.strategies), Failures()
    if spec.tune is not None:
        chosen, failed = tune_all(recipe, spec, place, data, reporter, methods)
    planned = members(recipe, chosen, spec.seeds, place, methods)
    check_claims([(member.folder, member.recipe) for member in planned if member.trained], place)
    run_all(planned, data, reporter, methods, [*reuse, *searched_runs(place)], needed=spec.strategies[0].label)
    # What was made of the others while one had failed lacks that one, if it is done by now.
    made = [member.settled() for member in planned if member.others]
    check_claims([(member.folder, member.recipe) for member in made], place)
    # Settled once more: what has collapsed or failed on the way is known by now.
    finished = [member.settled() for member in planned if member.done]
    check_rows([member.folder for member in finished], place)
    results = [read_result(member) for member in finished]
    summary = summarise(results, spec, recipe, failed | failures_in(planned))
    summary["tuned"] = {one.label: one.set for one in chosen} if spec.tune is not None else {}
    write_text(place / COMPARE_RECIPE, dump(asked.model_copy(update={"compare": spec, "output": None})))
    _write(summary, place)  # the final model may be out of reach for now, or this be stopped
    picked = [one for one in zip(finished, results, strict=True) if one[0].strategy == summary["picked"]]
    better = _better_than_the_best(results, summary)
    summary |= final_of(picked, recipe.name, place, data, reporter, better, methods)
    _write(summary, place)
    report_comparison(place)
    return Comparison(place, summary)


def _better_than_the_best(results: Sequence[Result], summary: dict[str, Any]) -> Callable[[Result], bool]:
    """Return what tells whether the scores that pick prefer a model to the best run of the picked strategy."""
    best = next(one for one in results if f"runs/{one.strategy}/{one.seed}" == summary["picked_run"])
    return partial(is_preferred, other=best, results=results, judges=summary["picks_by"])


def _write(summary: dict[str, Any], place: Path) -> None:
    write_text(place / TABLE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
