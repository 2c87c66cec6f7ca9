"""From the ``data`` section to checked splits and a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import parts
from ..data.canonical import Kind
from ..data.load import joined, missing_file
from ..data.seen import Seen
from ..data.split import distinct_labels
from ..errors import DataError, Problem, nearest
from ..recipe.schema import DataFile, Recipe
from ..recipe.shipped import HUB, resolve_path
from ..recipe.stages import PretrainStage
from ..reporter import Reporter
from ..tasks.base import Task
from .notes import notes_on
from .problems import problems_of_labels
from .reader import Reader
from .splits import Splits, corpus_role

TARGET_ROLES = ("target.unlabelled", "target.train", "target.dev", "target.test")


def load_splits(
    recipe: Recipe,
    given: dict[str, Any] | None = None,
    seen: Mapping[str, Seen] | None = None,
    probes: bool = False,
) -> Splits:
    """Read and check all data of a recipe.

    Args:
        recipe: A resolved recipe.
        given: ``datasets.Dataset`` objects that stand in for files, by key path below ``data``: ``source.train`` (of
            several sources ``source.0.train``), ``target.test``, …
        seen: What the run has seen of streamed corpora before, which it keeps to.
        probes: Look at the first rows of streamed corpora only.

    Raises:
        DataError: With every bad row, by file and line.
    """
    kind = parts.row_kind(recipe.task)
    text_kind: Kind = "words" if kind == "ner" else "text"
    given = {} if given is None else given
    corpora = {
        corpus_role(number): stage.corpus
        for number, stage in enumerate(recipe.stages)
        if isinstance(stage, PretrainStage) and stage.corpus is not None
    }
    domains, target = recipe.data.sources, recipe.data.target
    _check_roles(given, [*(f"{role}.{key}" for role in domains for key in ("train", "dev")), *TARGET_ROLES, *corpora])

    _check_files(recipe, given, corpora)
    notes: list[str] = []
    reader = Reader(recipe, given, notes, dict(seen or {}), probes)
    read = {role: reader.source(domain, role, kind) for role, domain in domains.items()}
    unlabelled = reader.read(target.unlabelled, "target.unlabelled", text_kind)
    files = {"train": target.train, "dev": target.dev, "test": target.test}
    scored = reader.labelled("target", files, target.label_map, kind)
    target_train = scored.pop("target.train", None)
    if unlabelled is None and target_train is not None:
        unlabelled = target_train.without_labels("target.unlabelled")
        notes.append("target.unlabelled: no file is named; the text of target.train is the target text.")

    trains = [train for train, _ in read.values()]
    learned = [*trains, *([] if target_train is None or not recipe.uses_target_labels else [target_train])]
    found = sorted({label for split in learned for label in distinct_labels(split, kind)})
    devs = [dev for _, dev in read.values() if dev is not None]
    problems = problems_of_labels(recipe, trains, learned, [*devs, *scored.values()], found)
    if problems:
        raise DataError(problems)
    sources = [reader.with_dev(role, str(domain.name), *read[role], kind) for role, domain in domains.items()]
    splits = Splits(
        sources,
        joined([source.train for source in sources], "source.train"),
        joined([source.dev for source in sources], "source.dev"),
        unlabelled,
        target_train,
        scored,
        parts.label_names(recipe.task, found),
        corpora={name: reader.corpus(file, name) for name, file in corpora.items()},
        seen=reader.seen,
    )
    return replace(splits, notes=notes + notes_on(recipe, splits, found, kind))


def _check_files(recipe: Recipe, given: dict[str, Any], corpora: Mapping[str, DataFile]) -> None:
    """Refuse files that are not there, all at once."""
    named = {role: file for role, file in {**recipe.data.files, **corpora}.items() if role not in given}
    places = {role: resolve_path(recipe.data, file.path) for role, file in named.items()}
    problems = [
        problem
        for role, place in places.items()
        if not place.startswith(HUB)
        for problem in missing_file(Path(place), role)
    ]
    if problems:
        raise DataError(problems)


def build_task(recipe: Recipe, splits: Splits) -> Task:
    """Return the task with its labels, fitted to the training rows."""
    task = parts.build_task(recipe.task, splits.labels)
    task.fit(splits.train.rows)
    return task


def say_notes(splits: Splits, reporter: Reporter) -> None:
    """Tell what was noticed while reading."""
    for note in splits.notes:
        reporter.say(note)


def _check_roles(given: dict[str, Any], roles: list[str]) -> None:
    problems = [
        Problem(f"there is no role '{name}'. Allowed: {', '.join(roles)}.{nearest(name, roles)}", "data")
        for name in given
        if name not in roles
    ]
    if problems:
        raise DataError(problems)
