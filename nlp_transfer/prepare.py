"""From the ``data`` section to checked splits and a task: everything a run reads before it builds a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import parts
from .data.canonical import Kind, column_names
from .data.corpus import Corpus, load_corpus
from .data.load import Split, joined, load_split
from .data.split import distinct_labels, label_problems, one_class_problem, stratified_split
from .errors import DataError, Problem, nearest
from .recipe.schema import DataFile, PretrainStage, Recipe, SourceData
from .recipe.shipped import resolve_path
from .reporter import Reporter
from .tasks.base import Task
from .tasks.sentiment import polarised

TARGET_ROLES = ("target.unlabelled", "target.dev", "target.test")


@dataclass(frozen=True)
class Source:
    """One source domain.

    Args:
        role: Key path below ``data``: ``source``, or ``source.0`` and so on.
        name: What it is called.
        train: Its labelled rows.
        dev: Those that select the checkpoint.
    """

    role: str
    name: str
    train: Split
    dev: Split


@dataclass(frozen=True)
class Splits:
    """The data of a run, with target labels held apart.

    Training reads ``sources``, ``unlabelled`` and ``corpora`` only, unless ``selection: oracle`` is written out.

    Args:
        sources: The source domains.
        train: Labelled rows of all source domains together. Of several, rows say which one they come from.
        dev: Labelled rows of all source domains that select the checkpoint.
        unlabelled: Target text, without labels whatever the file holds.
        scored: Labelled target splits by name (``target.dev``, ``target.test``), for the final scores only.
        labels: Labels of the task in the order of the logits.
        notes: What the user should know about the data.
        corpora: Further unlabelled text of pretrain stages, by key path (``stages.0.corpus``).
    """

    sources: list[Source]
    train: Split
    dev: Split
    unlabelled: Split | None
    scored: dict[str, Split]
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    corpora: dict[str, Corpus] = field(default_factory=dict)

    def named(self) -> dict[str, Split | Corpus]:
        """Return each split and corpus by its role."""
        named: dict[str, Split | Corpus] = {f"{source.role}.train": source.train for source in self.sources}
        named |= {f"{source.role}.dev": source.dev for source in self.sources} | self.scored
        unlabelled = {} if self.unlabelled is None else {"target.unlabelled": self.unlabelled}
        return named | unlabelled | self.corpora

    def fingerprints(self) -> dict[str, str]:
        """Return the sha256 of the rows of each split and corpus."""
        return {name: split.fingerprint for name, split in self.named().items()}


def corpus_role(number: int) -> str:
    """Return the key path of the corpus of a stage, counted from 0."""
    return f"stages.{number}.corpus"


def load_splits(recipe: Recipe, given: dict[str, Any] | None = None) -> Splits:
    """Read and check all data of a recipe.

    Args:
        recipe: A resolved recipe.
        given: ``datasets.Dataset`` objects that stand in for files, by key path below ``data``: ``source.train`` (of
            several sources ``source.0.train``), ``target.test``, …

    Raises:
        DataError: With every bad row, by file and line.
    """
    kind = parts.row_kind(recipe.task)
    text_kind: Kind = "words" if kind == "ner" else "text"
    notes: list[str] = []
    given = {} if given is None else given
    wanted = {
        corpus_role(number): stage.corpus
        for number, stage in enumerate(recipe.stages)
        if isinstance(stage, PretrainStage) and stage.corpus is not None
    }
    domains, target = recipe.data.sources, recipe.data.target
    _check_roles(given, [*(f"{role}.{key}" for role in domains for key in ("train", "dev")), *TARGET_ROLES, *wanted])
    reader = _Reader(recipe, given, notes)
    read = {role: reader.source(domain, role, kind) for role, domain in domains.items()}
    unlabelled = reader.read(target.unlabelled, "target.unlabelled", text_kind)
    scored = {
        name: split
        for name, file in (("target.dev", target.dev), ("target.test", target.test))
        if (split := reader.labelled(file, name, kind)) is not None
    }
    train = joined([train for train, _ in read.values()], "source.train")
    found = distinct_labels(train, kind)
    problems = _label_name_problems(recipe, found, [train for train, _ in read.values()])
    for split in [*(dev for _, dev in read.values()), *scored.values()]:
        problems += [] if split is None else label_problems(_known(recipe, found), split)
    problems += _class_weight_problems(recipe, found)
    single = one_class_problem(train)
    if problems or single is not None:
        raise DataError([*problems, *([] if single is None else [single])])
    sources = [reader.with_dev(role, str(domain.name), *read[role], kind) for role, domain in domains.items()]
    notes += _missing_labels(sources, found, kind)
    return Splits(
        sources,
        joined([source.train for source in sources], "source.train"),
        joined([source.dev for source in sources], "source.dev"),
        unlabelled,
        scored,
        parts.label_names(recipe.task, found),
        notes,
        {name: reader.corpus(file, name) for name, file in wanted.items()},
    )


def build_task(recipe: Recipe, splits: Splits) -> Task:
    """Return the task with its labels, fitted to the training rows."""
    task = parts.build_task(recipe.task, splits.labels)
    task.fit(splits.train.rows)
    return task


def _check_roles(given: dict[str, Any], roles: list[str]) -> None:
    problems = [
        Problem(f"there is no role '{name}'. Allowed: {', '.join(roles)}.{nearest(name, roles)}", "data")
        for name in given
        if name not in roles
    ]
    if problems:
        raise DataError(problems)


def _known(recipe: Recipe, found: list[str]) -> list[str]:
    return found if recipe.task.labels is None else recipe.task.labels


def _label_name_problems(recipe: Recipe, found: list[str], trains: Sequence[Split]) -> list[Problem]:
    named = recipe.task.labels
    if named is None:
        return []
    missing = sorted(set(named) - set(found))
    problems = [
        Problem(f"label '{label}' is not one of task.labels {named}.{nearest(label, named)}", train.origin)
        for train in trains
        for label in sorted(set(distinct_labels(train)) - set(named))
    ]
    if missing:
        text = f"no training row has the label(s) {missing} that task.labels names."
        problems.append(Problem(text, ", ".join(train.origin for train in trains)))
    return problems


def _missing_labels(sources: Sequence[Source], found: list[str], kind: Kind) -> list[str]:
    """Say which labels only other sources have."""
    noun = "entity types" if kind == "ner" else "labels"
    missing = {source.role: sorted(set(found) - set(distinct_labels(source.train, kind))) for source in sources}
    return [
        f"{role}.train: no row has the {noun} {labels}, which other sources have."
        for role, labels in missing.items()
        if labels
    ]


def _class_weight_problems(recipe: Recipe, found: list[str]) -> list[Problem]:
    given = recipe.task.class_weights
    return [
        Problem(
            f"there is no label '{label}'. Labels: {', '.join(found)}.{nearest(label, found)}", "task.class_weights"
        )
        for label in (given if isinstance(given, dict) else {})
        if label not in found
    ]


@dataclass(frozen=True)
class _Reader:
    recipe: Recipe
    given: dict[str, Any]
    notes: list[str]

    def read(self, file: DataFile | None, name: str, kind: Kind) -> Split | None:
        """Read one split of any kind."""
        source = self.given.get(name)
        if source is None and file is None:
            return None
        data = self.recipe.data
        options: dict[str, Any] = {"columns": data.columns}
        if source is None:
            assert file is not None
            source = resolve_path(data, file.path)
            options = {
                "columns": data.columns if file.columns is None else file.columns,
                "format": file.format,
                "hub_split": file.split,
                "config": file.config,
                "revision": file.revision,
            }
        split = load_split(source, name=name, kind=kind, repair_tags=data.repair_tags, **options)
        if split.dropped_labels:
            self.notes.append(f"{name}: the file holds labels; they were dropped and are not used.")
        if split.skipped_blank:
            self.notes.append(f"{name}: {split.skipped_blank} blank lines were skipped.")
        if split.repaired:
            self.notes.append(f"{name}: {split.repaired} tags were repaired (data.repair_tags).")
        return split

    def source(self, domain: SourceData, role: str, kind: Kind) -> tuple[Split, Split | None]:
        """Read the training rows and, where there is such a file, the dev rows of a source domain."""
        train = self.labelled(domain.train, f"{role}.train", kind)
        assert train is not None
        return train, self.labelled(domain.dev, f"{role}.dev", kind)

    def with_dev(self, role: str, name: str, train: Split, dev: Split | None, kind: Kind) -> Source:
        """Return a source domain, with dev rows held out of its training rows where it has no others."""
        if dev is None:
            train, dev = stratified_split(train, self.recipe.data.dev_share, self.recipe.seed, kind)
            self.notes.append(f"{role}.dev: {len(dev.rows)} rows held out of {role}.train (data.dev_share).")
        return Source(role, name, train, dev)

    def corpus(self, file: DataFile, name: str) -> Corpus:
        """Open further unlabelled text, which is checked now and read when its stage begins."""
        data = self.recipe.data
        corpus = load_corpus(
            self.given.get(name, resolve_path(data, file.path)),
            name=name,
            column=column_names(data.columns if file.columns is None else file.columns)["text"],
            format=file.format,
            hub_split=file.split,
            config=file.config,
            revision=file.revision,
        )
        self.notes.append(f"{name}: {len(corpus)} texts, which are read again when they are used.")
        return corpus

    def labelled(self, file: DataFile | None, name: str, kind: Kind) -> Split | None:
        """Read a labelled split, with stars mapped to polarities where the recipe says so."""
        split = self.read(file, name, kind)
        polarity = self.recipe.task.polarity
        if split is None or polarity is None:
            return split
        mapped = polarised(split, polarity)
        if len(mapped) < len(split):
            dropped = len(split) - len(mapped)
            self.notes.append(f"{name}: {dropped} rows dropped, as task.polarity maps their label to null.")
        return mapped


def say_notes(splits: Splits, reporter: Reporter) -> None:
    """Tell what was noticed while reading."""
    for note in splits.notes:
        reporter.say(note)
