"""From the ``data`` section to checked splits and a task: everything a run reads before it builds a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import parts
from .data.canonical import Kind, column_names
from .data.corpus import Corpus, load_corpus
from .data.label_map import LabelMap, map_labels, unseen_names
from .data.load import Split, joined, load_split
from .data.split import distinct_labels, label_problems, normalise, one_class_problem, stratified_split
from .errors import DataError, Problem, nearest
from .recipe.schema import DataFile, Recipe, SourceData
from .recipe.shipped import resolve_path
from .recipe.stages import PretrainStage
from .reporter import Reporter
from .tasks.base import Task
from .tasks.sentiment import polarised

TARGET_ROLES = ("target.unlabelled", "target.train", "target.dev", "target.test")


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

    Training reads ``sources``, ``unlabelled`` and ``corpora`` only, unless ``selection: oracle`` is written out; and
    ``target_train`` in stages that say so.

    Args:
        sources: The source domains.
        train: Labelled rows of all source domains together. Of several, rows say which one they come from.
        dev: Labelled rows of all source domains that select the checkpoint.
        unlabelled: Target text, without labels whatever the file holds.
        target_train: Labelled target rows to train on.
        scored: Labelled target splits by name (``target.dev``, ``target.test``), for the final scores only.
        labels: Labels of the task in the order of the logits.
        notes: What the user should know about the data.
        corpora: Further unlabelled text of pretrain stages, by key path (``stages.0.corpus``).
    """

    sources: list[Source]
    train: Split
    dev: Split
    unlabelled: Split | None
    target_train: Split | None
    scored: dict[str, Split]
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    corpora: dict[str, Corpus] = field(default_factory=dict)

    @property
    def new_labels(self) -> list[str]:
        """Labels that ``target_train`` has and no source row has, sorted."""
        return [] if self.target_train is None else new_labels(self.train, self.target_train)

    def named(self) -> dict[str, Split | Corpus]:
        """Return each split and corpus by its role."""
        named: dict[str, Split | Corpus] = {f"{source.role}.train": source.train for source in self.sources}
        named |= {f"{source.role}.dev": source.dev for source in self.sources} | self.scored
        for name, split in (("target.unlabelled", self.unlabelled), ("target.train", self.target_train)):
            named |= {} if split is None else {name: split}
        return named | self.corpora

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
    files = {"train": target.train, "dev": target.dev, "test": target.test}
    scored = reader.labelled("target", files, target.label_map, kind)
    target_train = scored.pop("target.train", None)
    if unlabelled is None and target_train is not None:
        unlabelled = target_train.without_labels("target.unlabelled")
        notes.append("target.unlabelled: no file is named; the text of target.train is the target text.")
    train = joined([train for train, _ in read.values()], "source.train")
    trains = [train for train, _ in read.values()]
    if target_train is not None and recipe.uses_target_labels:
        trains.append(target_train)
    found = sorted({label for split in trains for label in distinct_labels(split, kind)})
    problems = _label_name_problems(recipe, found, trains)
    for split in [*(dev for _, dev in read.values()), *scored.values()]:
        problems += [] if split is None else label_problems(_known(recipe, found), split)
    problems += _class_weight_problems(recipe, found)
    problems += _one_class_problems(recipe, train, target_train)
    if problems:
        raise DataError(problems)
    sources = [reader.with_dev(role, str(domain.name), *read[role], kind) for role, domain in domains.items()]
    notes += _missing_labels(sources, distinct_labels(train, kind), kind)
    notes += [*_unscored_labels(scored, found, kind), *_repeated(train, unlabelled, scored)]
    notes += [] if target_train is None else _target_notes(recipe, train, target_train, scored)
    dev = joined([source.dev for source in sources], "source.dev")
    notes += _threshold_notes(recipe, dev, found)
    return Splits(
        sources,
        joined([source.train for source in sources], "source.train"),
        dev,
        unlabelled,
        target_train,
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


def _noun(kind: Kind) -> str:
    return "entity types" if kind == "ner" else "labels"


def _unscored_labels(scored: Mapping[str, Split], found: Sequence[str], kind: Kind) -> list[str]:
    """Say which labels are learned, but will be scored on nothing."""
    missing = {name: sorted(set(found) - set(distinct_labels(split, kind))) for name, split in scored.items()}
    return [
        f"{name}: no row has the {_noun(kind)} {labels}: no score of this split tells how well they are found."
        for name, labels in missing.items()
        if labels
    ]


def _missing_labels(sources: Sequence[Source], found: list[str], kind: Kind) -> list[str]:
    """Say which labels only other sources have."""
    missing = {source.role: sorted(set(found) - set(distinct_labels(source.train, kind))) for source in sources}
    return [
        f"{role}.train: no row has the {_noun(kind)} {labels}, which other sources have."
        for role, labels in missing.items()
        if labels
    ]


def _one_class_problems(recipe: Recipe, train: Split, target_train: Split | None) -> list[Problem]:
    """Say what cannot be learned from, as it holds one label only."""
    alone = any(stage.on == "target" for stage in recipe.finetunes)
    splits = [train, *([target_train] if target_train is not None and alone else [])]
    return [problem for split in splits if (problem := one_class_problem(split)) is not None]


def _target_notes(recipe: Recipe, train: Split, target_train: Split, scored: dict[str, Split]) -> list[str]:
    """Say what the labelled target rows are for, which labels only they have, and whether they are scored, too."""
    told = [
        f"target.train: {len(target_train)} labelled target rows are trained on (stages with on: target or both)."
        if recipe.uses_target_labels
        else "target.train: no stage trains on its labels (on: target or both)."
    ]
    new = new_labels(train, target_train)
    if new and recipe.uses_target_labels:
        told.append(f"target.train has labels that no source row has: {', '.join(new)}. The task has those of both.")
    texts = {normalise(text) for text in target_train.rows["text"][:]}
    for name, split in scored.items():
        shared = sum(normalise(text) in texts for text in split.rows["text"][:])
        if shared:
            told.append(f"{name}: {shared} of its texts are in target.train, too: its score is not one of unseen text.")
    return told


def _threshold_notes(recipe: Recipe, dev: Split, labels: Sequence[str]) -> list[str]:
    """Say of several labels which thresholds cannot be tuned, and where they are tuned on the other domain."""
    if not recipe.task.multi_label:
        return []
    missing = sorted(set(labels) - set(distinct_labels(dev)))
    told = f"source.dev: no row has the labels {missing}. Thresholds are tuned on these rows, so theirs stay 0.5."
    away = (
        "source.dev: thresholds are tuned on these rows, though the last 'finetune' trains on target rows alone; "
        "others may suit the target better."
    )
    return ([told] if missing else []) + ([away] if recipe.finetunes and recipe.finetunes[-1].on == "target" else [])


def new_labels(train: Split, target_train: Split) -> list[str]:
    """Return the labels that target rows have and source rows have not, sorted."""
    return sorted({*distinct_labels(target_train)} - {*distinct_labels(train)})


def _repeated(train: Split, unlabelled: Split | None, scored: dict[str, Split]) -> list[str]:
    """Say where target text is text that the task is trained on."""
    known = {normalise(text) for text in train.rows["text"][:]}

    def seen(split: Split) -> int:
        return sum(normalise(text) in known for text in split.rows["text"][:])

    notes = [
        f"{name}: {count} of {len(scored[name])} texts are those of source rows, too; they are scored as if unseen."
        for name, count in {name: seen(split) for name, split in scored.items()}.items()
        if count
    ]
    beside = set() if unlabelled is None else {normalise(text) for text in unlabelled.rows["text"][:]}
    for name, split in scored.items():
        count = sum(normalise(text) in beside for text in split.rows["text"][:])
        if count:
            notes.append(
                f"{name}: {count} of {len(split)} texts are in target.unlabelled, too: what adapts has read them, "
                "without labels."
            )
    if unlabelled is not None and seen(unlabelled) == len(unlabelled):
        notes.append("target.unlabelled: all texts are those of source rows; there is no other domain to adapt to.")
    return notes


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
        read = self.labelled(role, {"train": domain.train, "dev": domain.dev}, domain.label_map, kind)
        return read[f"{role}.train"], read.get(f"{role}.dev")

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

    def labelled(
        self, domain: str, files: dict[str, DataFile | None], names: LabelMap | None, kind: Kind
    ) -> dict[str, Split]:
        """Read the labelled splits of a domain, with its labels mapped, and stars to polarities.

        Args:
            domain: Key path of the domain: source (of several source.0 and so on) or target.
            files: By the split's key.
            names: The domain's ``label_map``.
            kind: What the rows hold.

        Raises:
            DataError: Bad rows; or the map names a label that no row has. Few target rows need not have every label,
                so without ``target.test`` this is only told.
        """
        read = {
            f"{domain}.{key}": split
            for key, file in files.items()
            if (split := self.read(file, f"{domain}.{key}", kind)) is not None
        }
        where = f"data.{domain}.label_map"
        unseen = [] if names is None else unseen_names(names, list(read.values()), where)
        if domain == "target" and "target.test" not in read:
            self.notes.extend(map(str, unseen))
        elif unseen:
            raise DataError(unseen)
        return {name: self._mapped(split, names, where) for name, split in read.items()}

    def _mapped(self, split: Split, names: LabelMap | None, where: str) -> Split:
        steps = ((map_labels, names, where), (polarised, self.recipe.task.polarity, "task.polarity"))
        for rename, mapping, path in steps:
            if mapping is None:
                continue
            mapped = rename(split, mapping)
            if not len(mapped.split):
                text = f"{path} maps the labels of all rows of {split.name} to null."
                raise DataError([Problem(text, split.origin)])
            if mapped.dropped:
                self.notes.append(f"{split.name}: {mapped.told} dropped, as {path} maps their label to null.")
            split = mapped.split
        return split


def say_notes(splits: Splits, reporter: Reporter) -> None:
    """Tell what was noticed while reading."""
    for note in splits.notes:
        reporter.say(note)
