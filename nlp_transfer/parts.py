"""From names in a recipe to objects: the dictionaries of parts, their settings, and which combinations work.

The constructor of a part is its schema: keyword-only arguments are the recipe's keys, with their types and ranges.
To add a part, write its file and add its line here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from . import recipe as recipes
from .data.canonical import Kind
from .errors import Problem, RecipeError, nearest
from .methods.anchor import Anchor
from .methods.base import Method
from .methods.cdan import Cdan
from .methods.coral import Coral
from .methods.dann import Dann
from .methods.joint_mlm import JointMlm
from .methods.l2sp import L2sp
from .methods.mcc import Mcc
from .methods.mmd import Mmd
from .pretraining.base import Pretraining
from .pretraining.masked_lm import MaskedLM
from .pretraining.simcse import SimCse
from .pretraining.tsdae import Tsdae
from .recipe.documented import attributes_of, describe_keys
from .recipe.messages import describe
from .recipe.schema import Part, Recipe, TaskSpec, TrainSpec
from .recipe_rules import (
    Finding,
    file_findings,
    hub_findings,
    label_findings,
    logger_findings,
    name_findings,
    name_of,
    password_findings,
    stage_findings,
    trust_findings,
    value_at,
    vocabulary_findings,
)
from .tasks.base import Task
from .tasks.classification import Classification, MultiLabel
from .tasks.ner import Ner, tag_set
from .tuning import Frozen, Full, Lora, TopLayers, Tuning
from .units import Sizes

TUNINGS: dict[str, type[Tuning]] = {"full": Full, "lora": Lora, "frozen": Frozen, "top_layers": TopLayers}
METHODS: dict[str, type[Method]] = {
    "dann": Dann,
    "cdan": Cdan,
    "mmd": Mmd,
    "coral": Coral,
    "mcc": Mcc,
    "l2sp": L2sp,
    "anchor": Anchor,
    "joint_mlm": JointMlm,
}
PRETRAININGS: dict[str, type[Pretraining]] = {"mlm": MaskedLM, "tsdae": Tsdae, "simcse": SimCse}


Known = Mapping[str, type[Method]]


def load_recipe(path: str | Path, overrides: Sequence[str] = (), methods: Known = METHODS) -> Recipe:
    """Read a recipe and check everything that can be checked without data or a model.

    Args:
        path: YAML file.
        overrides: ``a.b=value`` strings that win over the file.
        methods: The methods a recipe may name; ``METHODS | {"mine": Mine}`` adds one of your own.

    Returns:
        The recipe as written; :func:`nlp_transfer.recipe.load.resolve` fills in the defaults.

    Raises:
        RecipeError: With all problems at once, each by file, line and key path.
    """
    return _checked(*recipes.load(path, overrides, check=partial(findings, known=methods)))


def recipe_from(data: dict[str, Any], overrides: Sequence[str] = (), methods: Known = METHODS) -> Recipe:
    """Check a recipe given as a dictionary, as a notebook would; see :func:`load_recipe`."""
    return _checked(*recipes.parse(data, overrides=overrides, check=partial(findings, known=methods)))


def _checked(recipe: Recipe | None, problems: list[Problem]) -> Recipe:
    if problems or recipe is None:
        raise RecipeError(problems)
    return recipe


def findings(data: dict[str, Any], known: Known = METHODS) -> list[Finding]:
    """Check names and settings of parts, and whether they go together.

    Works on a recipe's plain data, so that these problems show together with those of its shape.

    Args:
        data: Keys and values of a recipe, of any shape.
        known: The methods that may be named.

    Returns:
        Key paths with messages.
    """
    found: list[Finding] = []
    tuning, methods = data.get("tuning"), data.get("methods")
    if isinstance(tuning, dict):
        found += _settings_findings(tuning, ("tuning",), TUNINGS, "tuning")
    parts = [part for part in methods if isinstance(part, dict)] if isinstance(methods, list) else []
    names = [str(part.get("name")) for part in parts]
    for number, part in enumerate(parts):
        found += _settings_findings(part, ("methods", number), known, "method")
        if names.index(names[number]) < number:
            found.append((("methods", number), f"method '{names[number]}' is named twice."))
    for looked in (hub_findings, password_findings, name_findings, logger_findings, file_findings):
        found += looked(data)
    found += _stray_findings(data, known)
    return found + _combination_findings(data, [known.get(name) for name in names], names)


def _stray_findings(data: dict[str, Any], known: Known) -> list[Finding]:
    """Say of unknown keys of a recipe, or of its ``train``, which tuning or methods have a setting of that name."""
    found: list[Finding] = []
    kinds: dict[str, Mapping[str, type]] = {"tuning": TUNINGS, "method": known}
    for path, holder in (((), data), (("train",), data.get("train"))):
        for key in holder if isinstance(holder, dict) else ():
            if key in Recipe.model_fields or key in TrainSpec.model_fields:
                continue
            homes = [
                f"{kind} '{name}'"
                for kind, named in kinds.items()
                for name, part in named.items()
                if key in settings_model(part).model_fields
            ]
            if homes:
                found.append(
                    ((*path, key), f"'{key}' is a setting of {', '.join(homes)}: write it there, beside name.")
                )
    return found


def _settings_findings(
    part: dict[str, Any], path: tuple[str | int, ...], known: Mapping[str, Any], kind: str
) -> list[Finding]:
    name = part.get("name")
    if not isinstance(name, str):
        return []
    if name not in known:
        text = f"there is no {kind} '{name}'. Allowed: {', '.join(known)}.{nearest(name, known)}"
        return [((*path, "name"), text)]
    model = settings_model(known[name])
    settings = {key: value for key, value in part.items() if key != "name"}
    try:
        model.model_validate(settings)
    except ValidationError as error:
        worst = {detail["loc"][0]: detail for detail in reversed(error.errors(include_url=False))}
        return [((*path, str(key)), _message(str(key), detail, model, name)) for key, detail in worst.items()]
    return []


def _message(key: str, detail: Any, model: type[BaseModel], name: str) -> str:
    allowed = list(model.model_fields)
    if detail["type"] == "extra_forbidden":
        listing = f"Allowed: {', '.join(allowed)}." if allowed else "It has none."
        return f"'{name}' has no setting '{key}'. {listing}{nearest(key, allowed)}"
    schema = model.model_json_schema()
    return f"expected {describe(schema['properties'][key])}, but this is {detail['input']!r}."


def _combination_findings(
    data: dict[str, Any], methods: Sequence[type[Method] | None], names: Sequence[str]
) -> list[Finding]:
    found: list[Finding] = []
    tuning = name_of(data.get("tuning"))
    moves = TUNINGS[tuning].moves_features if tuning in TUNINGS else True
    has_target = any(value_at(data, "data", "target", key) for key in ("unlabelled", "train"))
    for number, (name, method) in enumerate(zip(names, methods, strict=True)):
        texts = () if method is None else _method_problems(data, name, method, moves, has_target)
        found += [(("methods", number), text) for text in texts]
    taught = [number for number, method in enumerate(methods) if method is not None and method.needs_teacher]
    for number in taught[1:]:
        text = (
            f"'{names[number]}' and '{names[taught[0]]}' each need a teacher, but a step has the answers of one only."
        )
        found.append((("methods", number), f"{text} Remove one of the two."))
    found += trust_findings(data, bool(names), has_target)
    if value_at(data, "model", "extend_vocabulary"):
        able = {name: one.trains_new_tokens for name, one in TUNINGS.items()}
        found += vocabulary_findings(data, tuning, able, has_target)
    return found + label_findings(data) + stage_findings(data, moves, bool(names), has_target)


def _method_problems(
    data: dict[str, Any], name: str, method: type[Method], moves: bool, has_target: bool
) -> Iterator[str]:
    """Yield what keeps a method from working in this recipe."""
    if method.moves_features and not moves:
        yield (
            f"'{name}' works by changing features, but tuning '{name_of(data.get('tuning'))}' never changes them. Use "
            "tuning full, lora or top_layers, or remove the method."
        )
    if method.reads_target(_settings(data, name)) and not has_target:
        yield f"'{name}' needs unlabelled target text. Set data.target.unlabelled, or remove the method."
    if method.needs_teacher and data.get("source_only") is False and not _settings(data, name).get("teacher"):
        yield (
            f"'{name}' learns from the source-only twin, which source_only: false leaves out. Set source_only: true, "
            "name another teacher, or remove the method."
        )
    if method.needs_teacher and value_at(data, "model", "extend_vocabulary"):
        yield (
            f"'{name}' compares with the twin unit by unit, but model.extend_vocabulary cuts texts into other tokens "
            "than the twin's. Use one of the two."
        )
    stages = data.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        adapts = stage.get("adapt", True) if isinstance(stage, dict) else True
        if name_of(stage) == "self_train" and adapts and not method.in_rounds:
            yield f"'{name}' works in 'finetune' only. Set adapt: false in the stage 'self_train'."


def _settings(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a method's settings as they are written."""
    return next(part for part in data["methods"] if isinstance(part, dict) and part.get("name") == name)


@lru_cache(maxsize=64)
def settings_model(part: type) -> type[BaseModel]:
    """Make a pydantic model of a part's keyword-only constructor arguments.

    Args:
        part: A tuning or a method.

    Returns:
        A model that refuses unknown keys and wrong types; its docstring describes all of them.
    """
    fields: dict[str, Any] = {}
    told: list[str] = []
    for owner in part.__mro__:
        # A constructor that takes `**shared` hands them on: those of the base class are settings too.
        constructor = owner.__dict__.get("__init__")
        if constructor is None:
            continue
        told.append((inspect.getdoc(owner) or "").partition("\n\nAttributes:")[0])
        hints = get_type_hints(constructor, include_extras=True)
        parameters = inspect.signature(constructor).parameters.values()
        own = {p.name: (hints[p.name], p.default) for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        fields = own | fields
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(part.__name__, __config__=config, __doc__="\n\n".join(told), **fields)


def build_tuning(part: Part) -> Tuning:
    """Return the tuning that a recipe names."""
    return TUNINGS[part.name](**part.settings)


def build_methods(parts: Sequence[Part], sizes: Sizes, known: Known = METHODS) -> dict[str, Method]:
    """Return the methods that a recipe names, by name.

    Args:
        parts: Names with settings.
        sizes: Feature sizes of the model.
        known: Classes by name.
    """
    return {part.name: known[part.name](sizes, **part.settings) for part in parts}  # type: ignore[call-arg, arg-type]


def build_task(spec: TaskSpec, labels: Sequence[str]) -> Task:
    """Return the task that a recipe names.

    Args:
        spec: The ``task`` section.
        labels: Label names; for NER the tags.
    """
    if spec.name == "ner":
        return Ner(labels)
    if spec.multi_label:
        return MultiLabel(labels)
    return Classification(labels, class_weights=spec.class_weights)


def row_kind(spec: TaskSpec) -> Kind:
    """Return what labelled rows look like: classification, multi_label or ner."""
    return "ner" if spec.name == "ner" else "multi_label" if spec.multi_label else "classification"


def label_names(spec: TaskSpec, found: Sequence[str]) -> list[str]:
    """Return the labels in the order of the logits: those of the recipe, or the sorted ones of the training data.

    Args:
        spec: The ``task`` section.
        found: Labels of the training rows (entity types for NER).
    """
    names = sorted(found) if spec.labels is None else spec.labels
    return tag_set(names) if spec.name == "ner" else list(names)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, with the settings of every tuning and method, for editors to complete."""
    schema = recipes.json_schema()
    definitions = schema.setdefault("$defs", {})
    properties = schema["properties"]
    properties["tuning"] |= _any_part(TUNINGS, definitions)
    properties["tuning"].pop("$ref", None)
    properties["methods"]["items"] = _any_part(METHODS, definitions)
    return schema


def _any_part(known: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [{"enum": list(known)}]
    for name, part in known.items():
        own = settings_model(part).model_json_schema()
        describe_keys(own, attributes_of(own.get("description", "")))
        definitions |= own.pop("$defs", {})
        own["properties"] = {"name": {"const": name}} | own.get("properties", {})
        own["required"] = ["name", *own.get("required", [])]
        choices.append(own)
    return {"anyOf": choices}
