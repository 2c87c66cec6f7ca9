"""What a comparison of a recipe trains and judges, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..errors import Problem, RecipeError, RunError
from ..parts import METHODS, Known
from ..recipe.comparing import ENSEMBLE, SOUP, SOURCE_ONLY, CompareSpec, Judge, StrategySpec
from ..recipe.messages import reword
from ..recipe.schema import Recipe
from ..recipe.trust import GuardSpec
from ..strategies import is_made_of_others, name_problems, other_tokens
from .ensemble import FEWEST
from .runs import Member, members
from .space import check_space
from .summary import lone_judge

CUTS = ("data.max_length", "data.stride", "data.long_texts", "data.target", "data.folder")
"""Settings by which taggers see other words of the target, or other rows."""

FEWEST_OTHERS = 3
"""Strategies, source-only among them, that a student or a soup is made of at least."""


def spec_of(
    recipe: Recipe, strategies: Sequence[str] | None, seeds: Sequence[int] | None, methods: Known
) -> CompareSpec:
    """Return what is compared: the recipe's section, under what is given instead, with its defaults filled in.

    Raises:
        RecipeError: A strategy is unknown, or does not go with the recipe or the others.
    """
    named, problems = _named(recipe, strategies, methods)
    problems += _problems_of_others(recipe, named)
    if problems:
        raise RecipeError(problems)
    values = {} if recipe.compare is None else recipe.compare.model_dump(exclude={"strategies"})
    values |= {"strategies": [one.model_dump() for one in named]} | ({} if seeds is None else {"seeds": list(seeds)})
    found = _checked(values)
    problems = _problems_of_judges(recipe, found)
    if problems:
        raise RecipeError(problems)
    if not recipe.data.target.has_text:
        # Nothing else can be had without target text.
        return found.model_copy(update={"picks_by": ["source_dev"]})
    return found.model_copy(update={"picks_by": found.picks_by or [_usual_judge(recipe, found)]})


def _named(
    recipe: Recipe, strategies: Sequence[str] | None, methods: Known
) -> tuple[list[StrategySpec], list[Problem]]:
    """Return the strategies that are asked for, source-only first, and what is wrong with their names."""
    given = recipe.compare
    if given is None and strategies is None:
        text = "nothing says what to compare. Add a compare section, or give --strategies, such as source_only,dann."
        raise RecipeError([Problem(text, "compare")])
    listed = {} if given is None else {one.label: one for one in given.strategies}
    names = listed if strategies is None else strategies
    if not all(names) or not names:
        text = f"a strategy without a name in {','.join(names)!r}: remove the comma that is too many"
        raise RecipeError([Problem(text if names else "no strategy is named", "--strategies")])
    named = [listed.get(name) or StrategySpec(name=name) for name in names]
    places = [f"compare.strategies.{number}" if strategies is None else "--strategies" for number in range(len(named))]
    problems = [
        problem for one, place in zip(named, places, strict=True) for problem in name_problems(one, place, methods)
    ]
    if all(one.name != SOURCE_ONLY or one.set for one in named):
        named.insert(0, StrategySpec(name=SOURCE_ONLY))
    # The twins of the others are copied from it; what is made of all others comes last.
    named.sort(key=lambda one: (one.name != SOURCE_ONLY or bool(one.set), is_made_of_others(one)))
    return named, problems


def _problems_of_others(recipe: Recipe, named: Sequence[StrategySpec]) -> list[Problem]:
    """Return what keeps a student or a soup from being made of the others."""
    if not any(map(is_made_of_others, named)):
        return []
    problems = []
    if sum(not is_made_of_others(one) for one in named) < FEWEST_OTHERS:
        text = (
            f"'{ENSEMBLE}' and '{SOUP}' are made of at least two strategies beside source_only, such as "
            f"source_only,dann,mcc,{SOUP}."
        )
        problems.append(Problem(text, "compare.strategies"))
    if other_tokens(recipe, named):
        text = (
            f"'{ENSEMBLE}' and '{SOUP}' need models that read the same tokens, but not all strategies would cut texts "
            "alike. Leave out model.extend_vocabulary and strategies that set `model`, or these two."
        )
        problems.append(Problem(text, "compare.strategies"))
    return problems


def _problems_of_judges(recipe: Recipe, spec: CompareSpec) -> list[Problem]:
    """Return what keeps strategies from being judged as the recipe says."""
    problems = []
    if not recipe.data.target.has_text and spec.tune is not None and spec.tune.objective != "source_dev":
        text = f"'{spec.tune.objective}' scores unlabelled target text. Set data.target.unlabelled, or source_dev."
        problems.append(Problem(text, "compare.tune.objective"))
    if "ensemble" in (spec.picks_by or ()) and _other_words(recipe, spec.strategies):
        text = (
            "'ensemble' compares answers word by word, but not all strategies would cut sentences alike. Leave out "
            "strategies that set `model` or data.max_length, or 'ensemble'."
        )
        problems.append(Problem(text, "compare.picks_by"))
    if recipe.selection.name == "oracle":
        text = "strategies are compared without target labels, but selection is 'oracle'. Take another selection."
        problems.append(Problem(text, "selection"))
    return problems


def _checked(values: dict[str, Any]) -> CompareSpec:
    """Validate a compare section that was put together."""
    try:
        return CompareSpec.model_validate(values)
    except ValidationError as error:
        errors = [{**one, "loc": ("compare", *one["loc"])} for one in error.errors(include_url=False)]
        found = reword(cast(list[ErrorDetails], errors), {"compare": values})
        raise RecipeError([Problem(message, ".".join(map(str, path))) for path, message in found]) from None


def _other_words(recipe: Recipe, strategies: Sequence[StrategySpec]) -> bool:
    """Whether taggers may see other words of the same sentences, which are cut off at another place."""
    keys = [text.partition("=")[0] for one in strategies for text in one.set]
    cut = other_tokens(recipe, strategies) or any(key == "data" or key.startswith(CUTS) for key in keys)
    return recipe.task.labels_words and cut


def judged(recipe: Recipe) -> Recipe:
    """Let runs keep what the judges look at; which strategy is better is not theirs to say, only what has collapsed."""
    if not recipe.data.target.has_text:
        return recipe
    rows = recipe.guard.max_rows if isinstance(recipe.guard, GuardSpec) else recipe.evaluate.label_free_rows
    looked = {"label_free": True, "label_free_rows": rows}
    changes: dict[str, Any] = {"evaluate": recipe.evaluate.model_copy(update=looked)}
    if recipe.guard is not False:
        own = recipe.guard.model_dump(exclude_unset=True) if isinstance(recipe.guard, GuardSpec) else {}
        changes["guard"] = GuardSpec(**own | {"evidence": False})
    return recipe.model_copy(update=changes)


def folder_of(recipe: Recipe, given: str | Path | None = None) -> Path:
    """Return where the runs and results of a recipe's comparison go.

    Args:
        recipe: The recipe.
        given: The folder, where one is asked for.

    Raises:
        RunError: It is a file.
    """
    place = Path(f"{recipe.output or f'runs/{recipe.name}'}-comparison" if given is None else given)
    if place.exists() and not place.is_dir():
        raise RunError(f"comparison folder '{place}' is a file. Give another folder (--output).")
    return place


def planned_runs(recipe: Recipe, methods: Known = METHODS) -> list[Member]:
    """Return the runs of a recipe's ``compare`` section, none without one; nothing is trained.

    Args:
        recipe: The recipe.
        methods: The methods that may be named.

    Raises:
        RecipeError: A strategy is unknown, or does not go with the recipe, or a range of the search is of a setting
            that none of them has.
    """
    if recipe.compare is None:
        return []
    spec = spec_of(recipe, None, None, methods)
    check_space(recipe, spec, methods)
    return members(judged(recipe), spec.strategies, spec.seeds, folder_of(recipe), methods)


def _usual_judge(recipe: Recipe, spec: CompareSpec) -> Judge:
    """Return what picks where nothing is said.

    Taggers are picked by source dev: from news to politics and science most strategies hurt, and in the same way, so
    that their ensemble is no judge of them, while the seven that were worse beyond chance had lost 0.2 to 4.4 points on
    source dev, too. (One that was worse, by 2.4 points, was 0.0001 better there: a gain on source dev must be more than
    chance.) Where they learn labels of the target, source dev tells what they have forgotten, and their
    ensemble is asked.
    """
    if recipe.task.labels_words and not recipe.uses_target_labels:
        return "source_dev"
    several = len(spec.strategies) * len(spec.seeds) >= FEWEST and not _other_words(recipe, spec.strategies)
    return "ensemble" if several else lone_judge(recipe)
