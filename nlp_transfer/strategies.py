"""Strategies by name: each is the recipe with other methods, stages or tuning, and the same training settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import Problem, RecipeError, nearest
from .parts import METHODS, TUNINGS, Known, recipe_from
from .recipe.comparing import ENSEMBLE, SOUP, SOURCE_ONLY, StrategySpec
from .recipe.schema import Recipe

TEACHING = "anchor"
"""The method by which an ensemble's student learns their answers."""
STAGES = ("pretrain", "self_train")
OWN_TRAINING = {
    "frozen": ("epochs", "max_steps", "batch_size", "learning_rate", "head_learning_rate"),
    "lora": ("learning_rate", "head_learning_rate"),
    "top_layers": ("learning_rate", "head_learning_rate"),
    "full": ("learning_rate", "head_learning_rate"),
}
"""Training settings that carry over neither from a tuning nor to it: those of the new tuning are its defaults."""


def allowed_names(methods: Known = METHODS) -> list[str]:
    """Return the names that a strategy may be made of."""
    return [SOURCE_ONLY, ENSEMBLE, SOUP, *TUNINGS, *STAGES, *methods]


def is_ensemble(spec: StrategySpec) -> bool:
    """Whether a strategy learns from the others of its comparison."""
    return ENSEMBLE in spec.name.split("+")


def is_made_of_others(spec: StrategySpec) -> bool:
    """Whether a strategy is made of the models of the others of its comparison: a student of them, or their mean."""
    return is_ensemble(spec) or SOUP in spec.name.split("+")


def name_problems(spec: StrategySpec, where: str, methods: Known = METHODS) -> list[Problem]:
    """Return what is wrong with a strategy's name.

    Args:
        spec: The strategy.
        where: Its key path.
        methods: The methods that may be named.
    """
    allowed = allowed_names(methods)
    found = [
        Problem(f"there is no strategy part '{part}'. Allowed: {', '.join(allowed)}.{nearest(part, allowed)}", where)
        for part in spec.name.split("+")
        if part not in allowed
    ]
    names = spec.name.split("+")
    if is_ensemble(spec) and TEACHING in names:
        found.append(Problem(f"'{spec.name}': an ensemble teaches by '{TEACHING}'; name one of the two.", where))
    if is_ensemble(spec) and "self_train" in names:
        found.append(Problem(f"'{spec.name}': an ensemble teaches in 'finetune' only; leave out self_train.", where))
    alone = next((name for name in (SOURCE_ONLY, SOUP) if name in names and len(names) > 1), None)
    if alone is not None:
        found.append(Problem(f"'{spec.name}': {alone} stands alone; leave it out.", where))
    tunings = [part for part in spec.name.split("+") if part in TUNINGS]
    if len(tunings) > 1:
        found.append(Problem(f"'{spec.name}' names two tunings ({', '.join(tunings)}); name one.", where))
    return found


def other_tokens(recipe: Recipe, strategies: Sequence[StrategySpec]) -> bool:
    """Whether some strategies of a comparison may read texts by another tokenizer than the others.

    Args:
        recipe: The recipe that is compared upon.
        strategies: The strategies.
    """
    settings = [text for one in strategies for text in one.set]
    return recipe.model.extend_vocabulary is not None or any(text.startswith("model") for text in settings)


def strategy_recipe(
    recipe: Recipe,
    spec: StrategySpec,
    seed: int,
    output: str,
    methods: Known = METHODS,
    others: Sequence[str] = (),
) -> Recipe:
    """Return the recipe of one strategy.

    Args:
        recipe: The recipe that is compared upon, as written (not resolved).
        spec: The strategy.
        seed: Seed of the run.
        output: Run folder.
        methods: The methods that may be named.
        others: Models of the other strategies that this one is made of, that of source-only first.

    Raises:
        RecipeError: The name is unknown, or the strategy does not go with the rest of the recipe.
    """
    problems = name_problems(spec, "compare.strategies", methods)
    if problems:
        raise RecipeError(problems)
    data = recipe.model_dump(exclude_unset=True, exclude={"compare", "source_only", "hub"})
    names = spec.name.split("+")
    if not {*names} & {*methods, *STAGES, ENSEMBLE, SOUP}:
        # What selects or judges an adapted model has nothing to do here.
        data = {key: value for key, value in data.items() if key not in ("guard", "selection")}
    _set_tuning(data, [name for name in names if name in TUNINGS])
    if "pretrain" not in names or not TUNINGS[data.get("tuning", {"name": "full"})["name"]].trains_new_tokens:
        data["model"] = {key: value for key, value in data["model"].items() if key != "extend_vocabulary"}
    given = data.get("methods")
    data["methods"] = [_own(given, name) for name in names if name in methods]
    if is_ensemble(spec):
        # Where there are labels, they say more; and softened answers would no longer be the mean of probabilities.
        data["methods"].append({"name": TEACHING, "teacher": list(others), "on": "target", "temperature": 1.0})
    data["stages"] = _stages(data.get("stages"), names)
    if SOUP in names:
        data["stages"].append({"name": SOUP, "models": _in_soup(others)})
    data |= {"name": _file_name(spec.label), "seed": seed, "output": output}
    return recipe_from(data, [_in_place(text, data) for text in spec.set], methods)


def made_of(recipe: Recipe, others: Sequence[str]) -> Recipe:
    """Return the recipe of a strategy that is made of others with other ones in their place.

    Args:
        recipe: From :func:`strategy_recipe`.
        others: As there.
    """
    data = recipe.model_dump()
    for part in data["methods"]:
        part |= {"teacher": list(others)} if part["name"] == TEACHING else {}
    for stage in data["stages"]:
        stage |= {"models": _in_soup(others)} if stage["name"] == SOUP else {}
    return Recipe.model_validate(data)


def _in_soup(others: Sequence[str]) -> list[str]:
    """Return what is averaged with the model of source-only, which the stage before leaves; without any, itself."""
    return list(others[1:] or others[:1])


def _in_place(override: str, data: dict[str, Any]) -> str:
    """Write ``dann.max_lambda=0.1`` as ``methods.0.max_lambda=0.1``; leave what begins with a section as it is."""
    first, dot, rest = override.partition(".")
    for section in ("methods", "stages"):
        for number, part in enumerate(data[section]):
            if dot and part["name"] == first:
                return f"{section}.{number}.{rest}"
    return override


def _set_tuning(data: dict[str, Any], named: list[str]) -> None:
    tuning = data.get("tuning", {"name": "full"})
    if named and tuning["name"] != named[0]:
        data["tuning"] = {"name": named[0]}
        own = {*OWN_TRAINING[named[0]], *OWN_TRAINING.get(tuning["name"], ())}
        stages = data.get("stages", [])
        for holder in [data, *stages]:
            train = holder.get("train", {})
            # Frozen features are pretrained as any others. (The recipe itself has a name, too.)
            foreign = OWN_TRAINING["full"] if holder is not data and holder["name"] == "pretrain" else own
            holder["train"] = {key: value for key, value in train.items() if key not in foreign}


def _stages(given: list[dict[str, Any]] | None, names: list[str]) -> list[dict[str, Any]]:
    stages = given or [{"name": "finetune"}]
    before = [stage for stage in stages if stage["name"] == "pretrain"] or [{"name": "pretrain"}]
    return [
        *(before if "pretrain" in names else []),
        *([stage for stage in stages if stage["name"] == "finetune"] or [{"name": "finetune"}]),
        *([_own(stages, "self_train")] if "self_train" in names else []),
    ]


def _own(parts: list[dict[str, Any]] | None, name: str) -> dict[str, Any]:
    """Return a method or stage with the settings that the recipe gives it, else with its defaults."""
    return next((part for part in parts or [] if part["name"] == name), {"name": name})


def _file_name(label: str) -> str:
    """Return a label as a folder is called: ``pretrain+dann`` is ``pretrain-dann``."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in label)
