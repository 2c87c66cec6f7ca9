"""The runs of a comparison: one for each strategy and seed, each in a run folder of its own.

Finished runs are kept, so a comparison can be stopped, extended by strategies or seeds, and worked on by several
processes at once: a run whose folder another process holds is left to it. Stages that two runs have in common (the
source-only twin above all) are trained once and copied.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RunBusyError
from ..guard import TWIN, has_collapsed
from ..parts import METHODS, Known
from ..prepare import corpus_role
from ..recipe.comparing import StrategySpec
from ..recipe.defaults import resolve
from ..recipe.schema import Recipe
from ..recipe.stages import SoupStage
from ..records import read_json, read_json_lines, rerun
from ..reporter import Reporter
from ..running import run
from ..strategies import is_made_of_others, made_of, strategy_recipe
from ..whole import write_text
from .memory import peak_mib, reset_peak

COST = "cost.json"
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
    """

    strategy: str
    seed: int
    recipe: Recipe
    others: tuple[Member, ...] = ()

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
    def collapsed(self) -> bool:
        """Whether the run is done, and its guard has found the strategy's own model collapsed."""
        path = self.folder / "metrics.json"
        return path.is_file() and has_collapsed(read_json(path, rerun(self.folder)))

    @property
    def ready(self) -> bool:
        """Whether all runs that it is made of are done."""
        return all(other.done for other in self.others)

    def settled(self) -> Member:
        """Return the run without those of the others that have collapsed by now."""
        if not self.others:
            return self
        sound = [str(other.own_model) for other in self.others if not other.collapsed]
        return replace(self, recipe=made_of(self.recipe, sound))

    @property
    def trained(self) -> bool:
        """Whether anything has been trained in its folder, be it for this recipe or another one."""
        return (self.folder / "stages").is_dir()

    @property
    def done(self) -> bool:
        """Whether the run and everything that the comparison reads of it are there."""
        return (self.folder / COST).is_file()


def members(
    recipe: Recipe, strategies: Sequence[StrategySpec], seeds: Sequence[int], folder: Path, methods: Known = METHODS
) -> list[Member]:
    """Return the runs of a comparison, seed by seed, so that an interrupted one has whole seeds.

    Args:
        recipe: The recipe that is compared upon.
        strategies: What is compared, last what is made of the others: of their runs with the same seed, but of none
            that is known to have collapsed.
        seeds: Seeds.
        folder: The comparison's folder.
        methods: The methods that may be named.

    Raises:
        RecipeError: A strategy is unknown, or does not go with the recipe.
    """
    made: list[Member] = []
    for seed in seeds:
        others: list[Member] = []
        for strategy in strategies:
            place = str(folder / "runs" / strategy.label / str(seed))
            made_of_them = tuple(others) if is_made_of_others(strategy) else ()
            models = [str(other.own_model) for other in made_of_them]
            own = strategy_recipe(recipe, strategy, seed, place, methods, models)
            made.append(Member(strategy.label, seed, resolve(own), made_of_them).settled())
            others += [] if is_made_of_others(strategy) else made[-1:]
    return made


def run_all(
    planned: Sequence[Member],
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    methods: Known = METHODS,
    reuse: Sequence[Path] = (),
) -> None:
    """Run what is not done yet; wait for what other processes work on.

    Args:
        planned: The runs.
        data: Data sets in place of files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told.
        methods: The methods that may be named.
        reuse: Folders of other runs, whose finished stages are copied where settings and data are the same.
    """
    reporter = Reporter() if reporter is None else reporter
    left = [member for member in planned if not member.done]
    places = [*(member.folder for member in planned), *reuse]
    waiting: set[Path] = set()
    while left:
        before = len(left)
        for member in list(left):
            if not member.done:
                if member.folder not in waiting:
                    reporter.say(f"── {member.strategy}, seed {member.seed}")
                if not member.ready or not _run_one(member.settled(), places, data, reporter, methods):
                    if member.folder not in waiting:
                        whom = "it" if member.ready else "what it is made of"
                        reporter.say(f"another process is busy with {whom}")
                    waiting.add(member.folder)
                    continue
            left.remove(member)
        if left and len(left) == before:
            time.sleep(WAIT)


def _run_one(
    member: Member, places: Sequence[Path], data: dict[str, Any] | None, reporter: Reporter, methods: Known
) -> bool:
    """Run one member; return whether it is done (another process may hold its folder)."""
    others = [place for place in places if place != member.folder]
    reset_peak()
    try:
        result = run(
            member.recipe,
            data=_own_data(member.recipe, data),
            reporter=reporter,
            methods=methods,
            reuse=others,
            checked=False,
        )
    except RunBusyError:
        return False
    path, keys = result.folder / "stages.jsonl", ["stage", "seconds", "steps"]
    facts = read_json_lines(path, rerun(result.folder), keys)
    stages = [stage for stage in facts if not stage["stage"].startswith(TWIN)]
    if isinstance(member.recipe.stages[-1], SoupStage):
        stages = stages[-1:]  # what comes before is source-only's
    cost = {
        "peak_mib": peak_mib(),
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "steps": sum(stage["steps"] for stage in stages),
    }
    write_text(result.folder / COST, json.dumps(cost) + "\n")
    return True


def _own_data(recipe: Recipe, data: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out the corpora of stages that a strategy has not."""
    if data is None:
        return None
    stages = enumerate(recipe.stages)
    corpora = {corpus_role(at) for at, stage in stages if getattr(stage, "corpus", None) is not None}
    return {role: rows for role, rows in data.items() if not role.startswith("stages.") or role in corpora}
