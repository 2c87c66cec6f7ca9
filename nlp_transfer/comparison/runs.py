"""The runs of a comparison: one for each strategy and seed, each in a run folder of its own.

Finished runs are kept, so a comparison can be stopped, extended by strategies or seeds, and worked on by several
processes at once: a run whose folder another process holds is left to it. Stages that two runs have in common (the
source-only twin above all) are trained once and copied: where several processes work on one comparison, a run whose
twin another one is training comes after those that have theirs.

A run whose training fails (a loss that is not a finite number, a model that a stage cannot use) keeps why in its
folder, and the others go on. The next command tries it again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..card.origins import ORACLES, made_of_oracles
from ..chosen import ORACLE
from ..errors import Problem, RecipeError, RunBusyError, TrainingError
from ..guard import TWIN, has_collapsed
from ..parts import METHODS, Known
from ..preparing.splits import corpus_role
from ..recipe.comparing import StrategySpec
from ..recipe.defaults import resolve
from ..recipe.schema import Recipe, teachers_of
from ..recipe.stages import SoupStage
from ..records import read_json, read_json_lines, rerun
from ..reporter import Reporter
from ..running import run
from ..sequence import twin_name
from ..strategies import is_made_of_others, made_of, strategy_recipe
from ..whole import write_text
from .failures import Failures

COST, FAILED = "cost.json", "failed.json"
WAIT = 2.0
"""Seconds between two looks at the runs that other processes work on."""


@dataclass(frozen=True)
class Member:
    """One run of a comparison.

    Args:
        strategy: What it is called.
        seed: Its seed.
        recipe: Its recipe.
        others: Runs that it is made of, that of source-only first.
        title: What it is called in messages; by default strategy and seed.
    """

    strategy: str
    seed: int
    recipe: Recipe
    others: tuple[Member, ...] = ()
    title: str = ""

    def __str__(self) -> str:
        return self.title or f"{self.strategy}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run folder."""
        assert self.recipe.output is not None
        return Path(self.recipe.output)

    @property
    def own_model(self) -> Path:
        """Where the run writes the strategy's own model, whichever one it keeps."""
        stages = self.recipe.stages
        return self.folder / "stages" / f"{len(stages)}-{stages[-1].name}" / "model"

    @property
    def twin_model(self) -> Path | None:
        """Where the run writes its twin, unless that is averaged with others; None where it trains none."""
        if not (self.recipe.adapts and self.recipe.source_only):
            return None
        return self.folder / "stages" / twin_name(len(self.recipe.finetunes)) / "model"

    @property
    def collapsed(self) -> bool:
        """Whether the run is done, and its guard has found the strategy's own model collapsed."""
        path = self.folder / "metrics.json"
        return path.is_file() and has_collapsed(read_json(path, rerun(self.folder)))

    def settled(self) -> Member:
        """Return the run without those of the others that have collapsed or failed by now."""
        if not self.others:
            return self
        sound = [str(other.own_model) for other in self.others if not other.collapsed and other.failure is None]
        return replace(self, recipe=made_of(self.recipe, sound))

    @property
    def trained(self) -> bool:
        """Whether anything has been trained in its folder, be it for this recipe or another one."""
        return (self.folder / "stages").is_dir()

    @property
    def done(self) -> bool:
        """Whether the run and everything that the comparison reads of it are there."""
        return (self.folder / COST).is_file()

    @property
    def failure(self) -> str | None:
        """Why its training failed the last time; None where it did not, or the run is done by now."""
        return None if self.done else self._failed().get("error")

    @property
    def failures(self) -> int:
        """How often its training has failed."""
        return int(self._failed().get("times", 0))

    def _failed(self) -> dict[str, Any]:
        path = self.folder / FAILED
        mend = "Delete it and compare again, which tries that run again."
        return read_json(path, mend, ["error", "times"]) if path.is_file() else {}


def members(
    recipe: Recipe, strategies: Sequence[StrategySpec], seeds: Sequence[int], folder: Path, methods: Known = METHODS
) -> list[Member]:
    """Return the runs of a comparison, seed by seed, so that an interrupted one has whole seeds.

    Args:
        recipe: The recipe that is compared upon.
        strategies: What is compared, last what is made of the others: of their runs with the same seed, but of none
            that is known to have collapsed or failed.
        seeds: Seeds.
        folder: The comparison's folder.
        methods: The methods that may be named.

    Raises:
        RecipeError: A strategy is unknown, does not go with the recipe, or owes itself to labels of the target.
    """
    made: list[Member] = []
    problems: list[Problem] = []
    for seed in seeds:
        others: list[Member] = []
        for strategy in strategies:
            place = str(folder / "runs" / strategy.label / str(seed))
            if problems and is_made_of_others(strategy):
                continue
            made_of_them = tuple(others) if is_made_of_others(strategy) else ()
            models = [str(other.own_model) for other in made_of_them]
            try:
                own = strategy_recipe(recipe, strategy, seed, place, methods, models)
                _check_blind(own, strategy.label)
            except RecipeError as error:
                problems += [
                    Problem(one.message, f"strategy '{strategy.label}': {one.where}") for one in error.problems
                ]
                continue
            made.append(Member(strategy.label, seed, resolve(own), made_of_them).settled())
            others += [] if is_made_of_others(strategy) else made[-1:]
        if problems:
            raise RecipeError(problems)
    return made


def _check_blind(recipe: Recipe, label: str) -> None:
    """Refuse a strategy that labels of the target have selected, or a run that it is made of."""
    why = "its selection is 'oracle'. Take another selection" if recipe.selection.name == ORACLE else ""
    behind = {name for names in made_of_oracles(recipe).get(ORACLES, {}).values() for name in names}
    if behind:
        why = f"it is made of runs that they have selected: {', '.join(sorted(behind))}. Take other models"
    if why:
        raise RecipeError(
            [Problem(f"strategies are compared without target labels, but {why} ({label}).", "compare.strategies")]
        )


def run_all(
    planned: Sequence[Member],
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    methods: Known = METHODS,
    reuse: Sequence[Path] = (),
    needed: str | None = None,
) -> None:
    """Run what is not done yet; wait for what other processes work on.

    What has failed in an earlier call is tried again, once; what fails in this one, or in another process meanwhile, is
    left to :attr:`Member.failure`.

    Args:
        planned: The runs.
        data: Data sets in place of files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told.
        methods: The methods that may be named.
        reuse: Folders of other runs, whose finished stages are copied where settings and data are the same.
        needed: The strategy without which the others say nothing.

    Raises:
        TrainingError: A run of that strategy has failed.
    """
    reporter = Reporter() if reporter is None else reporter
    earlier = {member.folder: member.failures for member in planned}

    def is_over(member: Member) -> bool:
        return member.done or member.failures > earlier.get(member.folder, 0)

    twins = {member.seed: member for member in planned if member.strategy == needed}

    def lacks_twin(member: Member) -> bool:
        twin = twins.get(member.seed, member)
        return twin is not member and not is_over(twin)

    left = [member for member in planned if not member.done]
    places = [*(member.folder for member in planned), *reuse]
    waiting: set[Path] = set()
    while left:
        before, untried = len(left), list(left)
        while untried:
            member = min(untried, key=lacks_twin)  # the first of several
            untried.remove(member)
            if not is_over(member):
                if member.folder not in waiting:
                    reporter.say(f"── {member}")
                ready = all(map(is_over, member.others))
                if not ready or not _run_one(member.settled(), places, data, reporter, methods):
                    if member.folder not in waiting:
                        whom = "it" if ready else "what it is made of"
                        reporter.say(f"another process is busy with {whom}")
                    waiting.add(member.folder)
                    continue
            if member.strategy == needed and member.failure is not None:
                raise TrainingError(
                    f"{member}: training has failed, and nothing can be compared without it. {member.failure}"
                )
            left.remove(member)
        if left and len(left) == before:
            time.sleep(WAIT)


def _run_one(
    member: Member, places: Sequence[Path], data: dict[str, Any] | None, reporter: Reporter, methods: Known
) -> bool:
    """Run one member; return whether it is over, done or failed (another process may hold its folder)."""
    others = [place for place in places if place != member.folder]
    try:
        result = run(
            member.recipe,
            data=own_data(member.recipe, data),
            reporter=reporter,
            methods=methods,
            reuse=others,
            checked=False,
        )
    except RunBusyError:
        return False
    except TrainingError as error:
        reporter.warn(f"{member}: training has failed. {error}")
        failed = {"error": str(error), "times": member.failures + 1}
        write_text(member.folder / FAILED, json.dumps(failed, ensure_ascii=False) + "\n")
        return True
    path, keys = result.folder / "stages.jsonl", ["stage", "seconds", "steps"]
    facts = read_json_lines(path, rerun(result.folder), keys)
    learns_from_twin = any(methods[one.name].needs_teacher and not teachers_of(one) for one in member.recipe.methods)
    stages = [stage for stage in facts if learns_from_twin or not stage["stage"].startswith(TWIN)]
    if isinstance(member.recipe.stages[-1], SoupStage):
        stages = stages[-1:]  # what comes before is source-only's
    cost = {
        "peak_mib": max((stage.get("peak_mib") or 0 for stage in stages), default=0) or None,
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "steps": sum(stage["steps"] + stage.get("head_steps", 0) for stage in stages),
    }
    write_text(result.folder / COST, json.dumps(cost) + "\n")
    (result.folder / FAILED).unlink(missing_ok=True)
    return True


def failures_in(planned: Sequence[Member]) -> Failures:
    """Return why training has failed, by strategy and seed, for the runs that are not done because of that."""
    found: Failures = {}
    for member in planned:
        if member.failure is not None:
            found.setdefault(member.strategy, {})[str(member.seed)] = member.failure
    return found


def own_data(recipe: Recipe, data: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out the corpora of stages that a strategy has not."""
    if data is None:
        return None
    stages = enumerate(recipe.stages)
    corpora = {corpus_role(at) for at, stage in stages if getattr(stage, "corpus", None) is not None}
    return {role: rows for role, rows in data.items() if not role.startswith("stages.") or role in corpora}
