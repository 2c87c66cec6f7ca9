"""What the user should know about data that can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from ..data.canonical import Kind
from ..data.load import Split
from ..data.split import distinct_labels, normalise
from ..recipe.schema import Recipe
from .splits import Source, Splits, new_labels


def notes_on(recipe: Recipe, splits: Splits, found: Sequence[str], kind: Kind) -> list[str]:
    """Return what the user should know about the rows of a run.

    Args:
        recipe: The recipe.
        splits: Its data.
        found: Labels of the rows that are trained on.
        kind: What the rows hold.
    """
    target_train = splits.target_train
    return [
        *_alike_labels(found, kind),
        *(_trained_dev(splits) if any(stage.on != "target" for stage in recipe.finetunes) else []),
        *_missing_labels(splits.sources, distinct_labels(splits.train, kind), kind),
        *_unscored_labels(splits.scored, found, kind),
        *_repeated([splits.train, splits.dev], splits.unlabelled, splits.scored),
        *([] if target_train is None else _target_notes(recipe, splits.train, target_train, splits.scored)),
        *_threshold_notes(recipe, splits.dev, found),
    ]


def _alike_labels(found: Sequence[str], kind: Kind) -> list[str]:
    """Say which labels may be meant to be one."""
    by_name: dict[str, list[str]] = {}
    for label in found:
        by_name.setdefault(normalise(label), []).append(label)
    return [
        f"the {_noun(kind)} {', '.join(map(repr, alike))} differ only in case or space; label_map can make them one."
        for alike in by_name.values()
        if len(alike) > 1
    ]


def _trained_dev(splits: Splits) -> list[str]:
    """Say where rows that select the checkpoint, and are scored as dev, are trained on."""
    count = _shared(splits.dev, _texts(splits.train))
    told = f"source.dev: {count} of {len(splits.dev)} texts are trained on, too: its score says less of unseen text."
    return [told] if count else []


def _missing_labels(sources: Sequence[Source], found: Sequence[str], kind: Kind) -> list[str]:
    """Say which labels only other sources have."""
    missing = {source.role: sorted(set(found) - set(distinct_labels(source.train, kind))) for source in sources}
    return [
        f"{role}.train: no row has the {_noun(kind)} {labels}, which other sources have."
        for role, labels in missing.items()
        if labels
    ]


def _unscored_labels(scored: Mapping[str, Split], found: Sequence[str], kind: Kind) -> list[str]:
    """Say which labels are learned, but will be scored on nothing."""
    missing = {name: sorted(set(found) - set(distinct_labels(split, kind))) for name, split in scored.items()}
    return [
        f"{name}: no row has the {_noun(kind)} {labels}: no score of this split tells how well they are found."
        for name, labels in missing.items()
        if labels
    ]


def _noun(kind: Kind) -> str:
    return "entity types" if kind == "ner" else "labels"


def _repeated(source: Sequence[Split], unlabelled: Split | None, scored: Mapping[str, Split]) -> list[str]:
    """Say where target text is text of the source, too."""
    known = set().union(*map(_texts, source))
    notes = [
        f"{name}: {count} of {len(split)} texts are those of source rows, too; they are scored as if unseen."
        for name, split in scored.items()
        if (count := _shared(split, known))
    ]
    beside = set() if unlabelled is None else _texts(unlabelled)
    for name, split in scored.items():
        count = _shared(split, beside)
        if count:
            notes.append(
                f"{name}: {count} of {len(split)} texts are in target.unlabelled, too: what adapts has read them, "
                "without labels."
            )
    if unlabelled is not None and _shared(unlabelled, known) == len(unlabelled):
        notes.append("target.unlabelled: all texts are those of source rows; there is no other domain to adapt to.")
    return notes


def _target_notes(recipe: Recipe, train: Split, target_train: Split, scored: Mapping[str, Split]) -> list[str]:
    """Say what the labelled target rows are for, which labels only they have, and whether they are scored, too."""
    told = [
        f"target.train: {len(target_train)} labelled target rows are trained on (stages with on: target or both)."
        if recipe.uses_target_labels
        else "target.train: no stage trains on its labels (on: target or both)."
    ]
    new = new_labels(train, target_train)
    if new and recipe.uses_target_labels:
        told.append(f"target.train has labels that no source row has: {', '.join(new)}. The task has those of both.")
    texts = _texts(target_train)
    for name, split in scored.items():
        shared = _shared(split, texts)
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


def _shared(split: Split, texts: Set[str]) -> int:
    """Return how many rows have a text among those given."""
    return sum(normalise(text) in texts for text in split.rows["text"][:])


def _texts(split: Split) -> set[str]:
    return {normalise(text) for text in split.rows["text"][:]}
