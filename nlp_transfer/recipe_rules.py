"""Which sections of a recipe go together; looked at on its plain data, so that all problems show at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from .fetching import password_of, without_user
from .recipe.schema import Logger
from .recipe.shipped import HUB

LONGEST_NAME = 100
"""Letters of a name that a folder is called by."""
PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Packages of loggers that any of several serve."""

Finding = tuple[tuple[str | int, ...], str]
"""A key path and what is wrong there."""


def stage_findings(data: dict[str, Any], moves: bool, methods: bool, has_target: bool) -> list[Finding]:
    """Check the stages of a recipe.

    Args:
        data: Keys and values of a recipe, of any shape.
        moves: The tuning changes features.
        methods: The recipe names methods.
        has_target: There is target text.
    """
    stages = data.get("stages")
    if not isinstance(stages, list):
        return []
    names = [name_of(stage) for stage in stages]
    found = [*_order_findings(names, stages), *_finetune_findings(data, names, stages)]
    labelled = any(_rows_of(stage) in ("target", "both") for stage in stages)
    if "self_train" in names and not (value_at(data, "data", "target", "unlabelled") or (has_target and not labelled)):
        text = "'self_train' labels target text. Set data.target.unlabelled, or drop the stage."
        found.append((("stages", names.index("self_train")), text))
    if methods and "finetune" in names and not any(_adapts(stage) for stage in stages):
        text = "no stage uses the methods (adapt: false). Let one of them adapt, or remove the methods."
        found.append((("methods",), text))
    for number, stage in enumerate(stages):
        if names[number] == "soup" and not moves:
            text = "'soup' averages encoders, but tuning 'frozen' never changes them. Use another tuning, or drop it."
            found.append((("stages", number), text))
        if names[number] == "soup" and value_at(stage, "twins") and data.get("source_only", True) is False:
            text = "'twins' are averaged with the source-only twin, which source_only: false leaves out. Drop one."
            found.append((("stages", number, "twins"), text))
        if names[number] == "pretrain":
            found += _pretrain_findings(number, stage if isinstance(stage, dict) else {}, moves, has_target)
    return found + _contrast_findings(stages, data.get("train"))


def _order_findings(names: Sequence[str | None], stages: Sequence[Any]) -> Iterator[Finding]:
    begin = names.index("finetune") if "finetune" in names else len(names)
    tail = list(names[begin:])
    for last in ("soup", "self_train"):
        tail = tail[:-1] if tail[-1:] == [last] else tail
    if set(tail) != {"finetune"} or not {*names[:begin]} <= {"pretrain"}:
        text = (
            "stages must be 'finetune' (several of them, if they train on other rows), with any 'pretrain' before it, "
            f"and at most one 'self_train' after it and one 'soup' at the end; here they are {list(names)}."
        )
        yield (("stages",), text)
    for number in range(1, len(names)):
        rows = _rows_of(stages[number])
        if names[number - 1] == names[number] == "finetune" and _rows_of(stages[number - 1]) == rows:
            text = f"this 'finetune' trains on the same rows as the one before it (on: {rows}). Join the two."
            yield (("stages", number), text)


def _finetune_findings(data: dict[str, Any], names: Sequence[str | None], stages: Sequence[Any]) -> Iterator[Finding]:
    for number, stage in enumerate(stages):
        rows = _rows_of(stage)
        if names[number] == "finetune" and rows in ("target", "both") and not value_at(data, "data", "target", "train"):
            text = f"on: {rows} trains on labelled target rows. Set data.target.train, or on: source."
            yield (("stages", number, "on"), text)


def _pretrain_findings(number: int, stage: dict[str, Any], moves: bool, has_target: bool) -> Iterator[Finding]:
    if not moves:
        text = "'pretrain' changes the encoder, but tuning 'frozen' never does. Use another tuning, or drop the stage."
        yield (("stages", number), text)
    wanted = stage.get("text") or ("none" if stage.get("corpus") else "target")
    if wanted in ("target", "both") and not has_target:
        yield (("stages", number), f"'pretrain' on {wanted} text needs data.target.unlabelled.")
    choice = value_at(stage, "corpus", "choose")
    if isinstance(choice, dict) and choice.get("like", "target") == "target" and not has_target:
        text = "rows like the target cannot be chosen without its text. Set data.target.unlabelled, or like: source."
        yield (("stages", number, "corpus", "choose"), text)


def _contrast_findings(stages: list[Any], shared: Any) -> list[Finding]:
    """Say which training settings leave the contrastive objective without noise or without negatives."""
    found: list[Finding] = []
    for number, stage in enumerate(stages):
        if not isinstance(stage, dict) or stage.get("objective") != "simcse":
            continue
        train: dict[str, Any] = {}
        for section in (shared, stage.get("train")):
            train |= section if isinstance(section, dict) else {}
        reasons = {
            "accumulation": (train.get("accumulation", 1) != 1, "its negatives are the other texts of a forward pass"),
            "batch_size": (train.get("batch_size") == 1, "its negatives are the other texts of the batch"),
            "dropout": (train.get("dropout") == 0, "it tells the two passes of a text apart by dropout"),
        }
        found += [
            (("stages", number), f"'simcse' cannot work with train.{key}: {train[key]}, as {reason}.")
            for key, (wrong, reason) in reasons.items()
            if wrong
        ]
    return found


def label_findings(data: dict[str, Any]) -> list[Finding]:
    """Check what label maps say of entities: a tag is not a type."""
    if name_of(data.get("task")) != "ner":
        return []
    source = value_at(data, "data", "source")
    several = isinstance(source, list)
    domains = [(("source", number), one) for number, one in enumerate(source)] if several else [(("source",), source)]
    found: list[Finding] = []
    for path, domain in [*domains, (("target",), value_at(data, "data", "target"))]:
        names = value_at(domain, "label_map")
        for label, new in names.items() if isinstance(names, dict) else ():
            if new == "O":
                text = "'O' is what words outside of entities are tagged with. To drop an entity type, write null."
                found.append((("data", *path, "label_map", label), text))
    return found


def name_of(part: Any) -> str | None:
    """Return the name of a part or stage, written out or in short."""
    name = part.get("name") if isinstance(part, dict) else part
    return name if isinstance(name, str) else None


def value_at(data: Any, *path: str) -> Any:
    """Return what stands at a key path, None where there is nothing."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _rows_of(stage: Any) -> Any:
    """Return whose rows a 'finetune' trains on."""
    return stage.get("on", "source") if isinstance(stage, dict) else "source"


def _adapts(stage: Any) -> bool:
    """Whether a stage uses the recipe's methods."""
    switched_off = isinstance(stage, dict) and stage.get("adapt") is False
    return name_of(stage) not in ("pretrain", "soup") and not switched_off


def _makes_adapted(stage: Any) -> bool:
    """Whether a stage, without methods, makes something else than a source-only model."""
    return name_of(stage) != "finetune" and not (name_of(stage) == "soup" and value_at(stage, "adapt") is False)


def trust_findings(data: dict[str, Any], methods: bool, has_target: bool) -> list[Finding]:
    """Say what the selection, label-free scores and the guard lack.

    Args:
        data: Keys and values of a recipe, of any shape.
        methods: The recipe names methods.
        has_target: There is target text.
    """
    found: list[Finding] = []
    selection, guard = name_of(data.get("selection", "source_dev")), data.get("guard")
    if selection == "oracle" and not value_at(data, "data", "target", "dev"):
        text = (
            "'oracle' selects with labels of the target. Set data.target.dev to labelled rows that are not those of "
            "data.target.test, or select without labels: source_dev, bnm or class_ami."
        )
        found.append((("selection",), text))
    elif selection not in (None, "source_dev", "oracle") and not has_target:
        text = f"'{selection}' scores unlabelled target text. Set data.target.unlabelled, or use source_dev."
        found.append((("selection",), text))
    if value_at(data, "evaluate", "label_free") and not has_target:
        text = "label-free scores read unlabelled target text. Set data.target.unlabelled, or leave this out."
        found.append((("evaluate", "label_free"), text))
    if guard is True or isinstance(guard, dict):
        stages = data.get("stages")
        staged = isinstance(stages, list) and any(map(_makes_adapted, stages))
        missing = [
            *([] if methods or staged or selection != "source_dev" else ["a method or stage that adapts"]),
            *([] if data.get("source_only", True) else ["source_only: true"]),
            *([] if has_target else ["data.target.unlabelled"]),
        ]
        if missing:
            text = f"the guard compares an adapted model with its twin; this recipe lacks: {', '.join(missing)}."
            found.append((("guard",), f"{text} Add it, or leave the guard out."))
    return found


def name_findings(data: dict[str, Any]) -> list[Finding]:
    """Refuse names that no folder can have."""
    strategies = value_at(data, "compare", "strategies")
    named: dict[tuple[str | int, ...], Any] = {("name",): data.get("name")}
    for number, strategy in enumerate(strategies if isinstance(strategies, list) else []):
        named["compare", "strategies", number, "title"] = value_at(strategy, "title")
    long = [path for path, name in named.items() if isinstance(name, str) and len(name) > LONGEST_NAME]
    return [(path, f"a folder is called so: take {LONGEST_NAME} letters at most.") for path in long]


def logger_findings(data: dict[str, Any]) -> list[Finding]:
    """Say which loggers are not installed."""
    named = data.get("report_to")
    missing = [
        (number, name)
        for number, name in enumerate(named if isinstance(named, list) else [])
        if name in get_args(Logger) and not any(map(importlib.util.find_spec, PACKAGES.get(name, (name,))))
    ]
    return [
        (("report_to", number), f"'{name}' is not installed: pip install {name}, or remove it.")
        for number, name in missing
    ]


def file_findings(data: dict[str, Any]) -> list[Finding]:
    """Say which keys of data files have no effect: splits, revisions and streams are of data sets of a hub."""
    text = "only data sets of the hub ('hub:owner/name') have one. Leave it out."
    local = [(path, file) for path, file in _files(data) if not str(value_at(file, "path")).startswith(HUB)]
    found = [
        ((*path, key), text)
        for path, file in local
        for key in ("split", "config", "revision")
        if value_at(file, key) is not None
    ]
    unstreamed = "only data sets of the hub ('hub:owner/name') are streamed; a file is read row by row. Leave it out."
    return [
        *found,
        *(((*path, "streaming"), unstreamed) for path, file in local if value_at(file, "streaming") is True),
    ]


def _files(data: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the key path of every data file, and what stands there."""
    source, stages = value_at(data, "data", "source"), data.get("stages")
    domains: list[tuple[tuple[str | int, ...], Any]] = [
        *(((number,), one) for number, one in enumerate(source if isinstance(source, list) else [])),
        ((), source),
    ]
    for path, domain in domains:
        yield from ((("data", "source", *path, key), value_at(domain, key)) for key in ("train", "dev"))
    for key in ("unlabelled", "train", "dev", "test"):
        yield ("data", "target", key), value_at(data, "data", "target", key)
    for number, stage in enumerate(stages if isinstance(stages, list) else []):
        yield ("stages", number, "corpus"), value_at(stage, "corpus")


def hub_findings(data: dict[str, Any]) -> list[Finding]:
    """Ask for what a push at the end of the run needs, and nobody can guess."""
    hub, card = data.get("hub"), data.get("card") or {}
    if not isinstance(hub, dict) or not isinstance(card, dict):
        return []
    asked = {"license": "such as apache-2.0, mit or other", "language": "such as en"}
    to_hub = "://" not in str(hub.get("repo"))
    found: list[Finding] = [
        (("card", key), f"a model card on the hub needs the {key} of the model, {example}; no run knows it. Set it.")
        for key, example in asked.items()
        if to_hub and card.get(key) is None
    ]
    for key in ("merged", "base"):
        if hub.get(key) and name_of(data.get("tuning", "full")) != "lora":
            found.append((("hub", key), "only tuning 'lora' gives an adapter. Leave this out."))
    return found


def _reads_target(stage: Any) -> bool:
    """Whether a pretrain stage reads target text, or rows of a corpus that were chosen for being like it."""
    text, corpus = value_at(stage, "text"), value_at(stage, "corpus")
    if text is None:
        choice = value_at(corpus, "choose")
        return corpus is None or (choice is not None and value_at(choice, "like") != "source")
    return text in ("target", "both")


def vocabulary_findings(
    data: dict[str, Any], tuning: str | None, able: Mapping[str, bool], has_target: bool
) -> list[Finding]:
    """Say what is missing for new tokens to be found and their vectors to be trained.

    Args:
        data: Keys and values of a recipe, of any shape.
        tuning: Name of the tuning.
        able: Of each tuning, whether it trains the vectors of new tokens.
        has_target: There is target text.
    """
    stages = data.get("stages")
    pretrains = isinstance(stages, list) and any(name_of(one) == "pretrain" and _reads_target(one) for one in stages)
    cut = name_of(data.get("task")) == "ner" and value_at(data, "data", "long_texts") == "truncate"
    others = " or ".join(name for name in able if able[name])
    reasons = {
        f"tuning '{tuning}' never trains their vectors. Use {others}": able.get(str(tuning)) is False,
        "only pretraining on target text trains their vectors. Add the stage pretrain, on text target or both": (
            not pretrains
        ),
        "they are found in target text. Set data.target.unlabelled": not has_target,
        "they move the place where long texts are cut off, so that the twin would tag other words. Use long_texts: "
        "windows": cut,
    }
    path = ("model", "extend_vocabulary")
    return [
        (path, f"new tokens do not go with the rest of this recipe: {reason}, or remove the setting.")
        for reason, wrong in reasons.items()
        if wrong
    ]


def password_findings(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[Finding]:
    """Refuse passwords in URLs: recipes are kept with each run, and pushed with its model."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from password_findings(value, (*path, key))
    elif isinstance(data, str) and password_of(data) is not None:
        text = (
            f"the URL '{without_user(data)}' is given with a password, which no recipe should hold. Leave user and "
            "password out; fsspec takes them from its configuration (FSSPEC_<PROTOCOL>_USERNAME and _PASSWORD, or "
            "~/.config/fsspec/)."
        )
        yield path, text
