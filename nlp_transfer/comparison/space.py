"""The space of a search: which settings each strategy has of it, which values are tried, and what is wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..arguments import check_batches
from ..errors import Problem, RecipeError, nearest
from ..parts import TUNINGS, Known, settings_model
from ..recipe.comparing import CompareSpec, Range, SearchSpec, StrategySpec
from ..recipe.defaults import LEARNING_RATES, resolve
from ..recipe.messages import describe
from ..recipe.schema import Recipe, TrainSpec
from ..recipe.shape import Node, child, choices, follow, root
from ..strategies import allowed_names, is_made_of_others, strategy_recipe

SPREAD = (0.4, 4.0)
"""Ends of the default range, as multiples of the tuning's own learning rate."""


class Way(NamedTuple):
    """How far a key leads into the recipe of a strategy.

    Args:
        depth: Number of its words that are there.
        allowed: What may stand in place of the first word that is not.
        node: Schema of the setting; None where a word is missing.
    """

    depth: int
    allowed: list[str]
    node: Node | None


def default_space(tuning: str) -> dict[str, Range]:
    """Return the space where a recipe has none: learning rates around the tuning's own default.

    The same rates for all would be those of full fine-tuning, with which adapters and heads hardly learn.

    Args:
        tuning: Name of the tuning.
    """
    rate = LEARNING_RATES.get(tuning, LEARNING_RATES["full"])
    low, high = (float(f"{rate * times:.4g}") for times in SPREAD)
    return {"train.learning_rate": Range(low=low, high=high)}


def own_space(recipe: Recipe, strategy: StrategySpec, search: SearchSpec, methods: Known) -> dict[str, Range]:
    """Return the part of a space that a strategy has: settings of its recipe, and of the parts that it names.

    Args:
        recipe: The recipe that is compared upon.
        strategy: The strategy.
        search: The search; without a space, that of the strategy's tuning is meant.
        methods: The methods that may be named.
    """
    own = _recipe_of(recipe, strategy, methods)
    space = default_space(own.tuning.name) if search.space is None else search.space
    return {key: values for key, values in space.items() if _way(key, own, methods).node is not None}


def check_space(recipe: Recipe, spec: CompareSpec, methods: Known) -> None:
    """Refuse a space with settings that no strategy has, or with values that they do not take.

    Settings of strategies that the recipe lists and this comparison leaves out are left out, too.

    Args:
        recipe: The recipe that is compared upon.
        spec: What is compared.
        methods: The methods that may be named.

    Raises:
        RecipeError: Names all keys that are wrong, and what was probably meant.
    """
    if spec.tune is None:
        return
    searched = [one for one in spec.strategies if not is_made_of_others(one)]
    recipes = [_recipe_of(recipe, one, methods) for one in searched]
    problems: list[Problem] = []
    for key in spec.tune.space or {}:
        ways = [_way(key, own, methods) for own in recipes]
        if all(way.node is None for way in ways) and not _is_left_out(key, recipe, spec, methods):
            problems.append(_unknown(key, ways, methods))
    for one in searched:
        for key, values in own_space(recipe, one, spec.tune, methods).items():
            problems += _wrong_values(recipe, one, key, values, methods)
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))


def _is_left_out(key: str, recipe: Recipe, spec: CompareSpec, methods: Known) -> bool:
    """Whether a setting is that of a strategy that the recipe lists, but that is not compared this time."""
    for one in [] if recipe.compare is None else recipe.compare.strategies:
        with contextlib.suppress(RecipeError):  # perhaps it is not compared because it does not go with the recipe
            if one not in spec.strategies and _way(key, _recipe_of(recipe, one, methods), methods).node is not None:
                return True
    return False


def _recipe_of(recipe: Recipe, strategy: StrategySpec, methods: Known, *overrides: str) -> Recipe:
    changed = strategy.model_copy(update={"set": [*strategy.set, *overrides]})
    return strategy_recipe(recipe, changed, recipe.seed, str(recipe.output), methods)


def _wrong_values(recipe: Recipe, strategy: StrategySpec, key: str, values: Range, methods: Known) -> Iterator[Problem]:
    """Yield why a strategy cannot have the values of a range."""
    node = _way(key, _recipe_of(recipe, strategy, methods), methods).node
    kinds = {option.get("type") for option in choices(node or {})}
    if not kinds & {"integer", "number"}:
        yield _problem(key, f"a range gives numbers, but this takes {describe(node or {})}.")
    elif "number" not in kinds and not values.whole:
        yield _problem(key, "this takes whole numbers. Write low and high as such: 2, not 2.0.")
    else:
        # Of whole numbers the second, too: batches of some cannot be divided.
        for value in (values.low, *([values.low + 1] if values.whole else []), values.high):
            try:
                check_batches(resolve(_recipe_of(recipe, strategy, methods, f"{key}={value!r}")), methods)
            except RecipeError as error:
                yield from (_problem(key, problem.message) for problem in error.problems)


def _unknown(key: str, ways: Sequence[Way], methods: Known) -> Problem:
    """Say at which word a key leads nowhere, for the strategies in which it leads furthest."""
    words, depth = key.split("."), max(way.depth for way in ways)
    allowed = list(dict.fromkeys(word for way in ways if way.depth == depth for word in way.allowed))
    if depth == 0:
        return _problem(key, f"no strategy that is compared has '{words[0]}'.{_beginning(words[0], allowed, methods)}")
    listing = f"Allowed: {', '.join(allowed)}.{nearest(words[depth], allowed)}" if allowed else "It has none."
    return _problem(key, f"'{'.'.join(words[:depth])}' has no setting '{words[depth]}'. {listing}")


def _beginning(word: str, allowed: Sequence[str], methods: Known) -> str:
    """Say with what a key may begin, and what was probably meant."""
    if word in TUNINGS:
        return " Settings of a tuning begin with 'tuning', such as tuning.rank."
    if word in allowed_names(methods):
        return " Compare one that has it, or leave the range out."
    if word in TrainSpec.model_fields:
        return f" Did you mean 'train.{word}'?"
    parts = ", ".join(name for name in allowed if name not in Recipe.model_fields)
    return (
        f" Allowed: sections of a recipe, such as train, and what the strategies have: {parts}.{nearest(word, allowed)}"
    )


def _problem(key: str, message: str) -> Problem:
    return Problem(message, f"compare.tune.space.{key}")


def _way(key: str, recipe: Recipe, methods: Known) -> Way:
    """Follow a key, such as ``train.warmup`` or ``dann.max_lambda``, into the recipe of a strategy."""
    holder: Any = recipe.model_dump(exclude={"compare"})
    node, words = root(), key.split(".")
    parts = _parts(holder)
    for depth, word in enumerate(words):
        below = _settings(node, holder, methods)
        if depth == 0 and word in parts and len(words) > 1:
            node, holder = parts[word]
        elif word in below:
            node, holder = below[word], _value(holder, word)
        else:
            return Way(depth, [*(parts if depth == 0 else ()), *below], None)
    return Way(len(words), [], node)


def _parts(data: dict[str, Any]) -> dict[str, tuple[Node, dict[str, Any]]]:
    """Return the methods and stages of a recipe by name, each with its schema; of two stages the first."""
    found: dict[str, tuple[Node, dict[str, Any]]] = {}
    for section in ("methods", "stages"):
        for number, part in enumerate(data[section]):
            found.setdefault(part["name"], (child(child(root(), section), number), part))
    return found


def _settings(node: Node, holder: Any, methods: Known) -> dict[str, Node]:
    """Return what stands below a place of a recipe: settings of a section, those of a part, items of a list."""
    if isinstance(holder, list):
        return {str(number): child(node, number) for number in range(len(holder))}
    if follow(node).get("title") == "Part":
        part: type = {**TUNINGS, **methods}[holder["name"]]
        return dict(settings_model(part).model_json_schema().get("properties", {}))
    found: dict[str, Node] = {}
    for option in choices(node, holder):
        found |= option.get("properties", {})
        if isinstance(option.get("additionalProperties"), dict) and isinstance(holder, dict):
            found |= dict.fromkeys(holder, option["additionalProperties"])
    return found


def _value(holder: Any, word: str) -> Any:
    return holder[int(word)] if isinstance(holder, list) else holder.get(word) if isinstance(holder, dict) else None
