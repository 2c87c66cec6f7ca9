"""Hold out dev rows, and check labels across splits."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Hashable
from dataclasses import dataclass

from ..errors import DataError, Problem, listing, nearest
from .canonical import Kind
from .load import Split
from .tags import entity_type

_RARE = ("rare",)


@dataclass(frozen=True)
class _Group:
    """Rows of one text: they go to the same side."""

    rows: list[int]
    order: bytes
    labels: tuple[str, ...]


def normalise(text: str) -> str:
    """Return what makes two texts the same: case and the amount of space do not count."""
    return " ".join(text.casefold().split())


def row_labels(split: Split, kind: Kind | None = None) -> list[tuple[str, ...]]:
    """Return the distinct labels of every row: one, several, or the entity types in it.

    Args:
        split: The rows.
        kind: What they hold; by default what their columns say.

    Returns:
        A sorted tuple for each row; empty tuples where there are no labels.
    """
    kind = split.kind if kind is None else kind
    if kind == "classification":
        return [(label,) for label in split.rows["label"][:]]
    if kind == "multi_label":
        return [tuple(sorted(labels)) for labels in split.rows["labels"][:]]
    if kind == "ner":
        return [tuple(sorted({entity_type(tag) for tag in tags} - {""})) for tags in split.rows["tags"][:]]
    return [()] * len(split)


def distinct_labels(split: Split, kind: Kind | None = None) -> list[str]:
    """Return the labels that occur, sorted; for NER the entity types."""
    return sorted({label for labels in row_labels(split, kind) for label in labels})


def stratified_split(split: Split, share: float, seed: int, kind: Kind | None = None) -> tuple[Split, Split]:
    """Hold out a share of the rows for development.

    Each label (for multi-label and NER: each set of labels or entity types, rare sets taken together) gives
    the same share. Texts that are the same but for case and space stay together. Every label that occurs
    stays in training; so the share may be missed by a little.

    Which rows are held out is decided by SHA-256 over the seed and the text, so it depends on no library, no
    platform, and not on the order of the rows; other random choices cannot shift it.

    Args:
        split: Labelled rows.
        share: Share of the rows to hold out, between 0 and 1 (both excluded).
        seed: Another one holds out other rows.
        kind: What the rows hold; by default what their columns say.

    Returns:
        Training rows (under the split's name) and dev rows (the name with ``[held out]``), in their old
        order.

    Raises:
        ValueError: The share is out of range.
        DataError: There are too few rows to hold any out.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    kind = split.kind if kind is None else kind
    groups = _groups(split, row_labels(split, kind), seed)
    strata = _strata(groups, share, pool=kind in ("multi_label", "ner"))
    held = [group for chosen in _choose(strata, share, len(split)) for group in chosen]
    held = _return_last_of_label(groups, held)
    if not held:
        texts = f"{len(split)} rows with {len(groups)} distinct text{'s' if len(groups) > 1 else ''}"
        message = (
            f"too few rows to hold out {share:g} of them ({texts}; every label must stay in training, and rows of one "
            "text stay together); name dev data (data.source.dev), or raise data.dev_share"
        )
        raise DataError([Problem(message, split.origin)])
    dev = {row for group in held for row in group.rows}
    train = [row for row in range(len(split)) if row not in dev]
    return split.select(train), split.select(sorted(dev), f"{split.name} [held out]")


def _groups(split: Split, labels: list[tuple[str, ...]], seed: int) -> list[_Group]:
    """Group rows by text, in the order of their hash."""
    by_text: dict[str, list[int]] = {}
    for row, text in enumerate(split.rows["text"][:]):
        by_text.setdefault(normalise(text), []).append(row)
    groups = []
    for text, rows in by_text.items():
        order = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
        groups.append(_Group(rows, order, tuple(sorted({label for row in rows for label in labels[row]}))))
    return sorted(groups, key=lambda group: group.order)


def _strata(groups: list[_Group], share: float, pool: bool) -> list[list[_Group]]:
    """Gather groups with the same labels; pooled, sets too rare to give one row at this share go together."""
    sizes: Counter[Hashable] = Counter()
    for group in groups:
        sizes[group.labels] += len(group.rows)
    fewest = math.ceil(1 / share)
    strata: dict[Hashable, list[_Group]] = {}
    for group in groups:
        rare = pool and sizes[group.labels] < fewest
        strata.setdefault((_RARE, "") if rare else group.labels, []).append(group)
    return list(strata.values())


def _choose(strata: list[list[_Group]], share: float, rows: int) -> list[list[_Group]]:
    """Choose groups from each stratum, its share rounded so that the total fits (largest remainders)."""
    exact = [share * sum(len(group.rows) for group in stratum) for stratum in strata]
    quotas = [math.floor(quota) for quota in exact]
    missing = max(1, round(share * rows)) - sum(quotas)
    by_remainder = sorted(range(len(strata)), key=lambda i: (quotas[i] - exact[i], strata[i][0].order))
    for index in [i for i in by_remainder if len(strata[i]) > 1][: max(0, missing)]:
        quotas[index] += 1
    chosen = []
    for stratum, quota in zip(strata, quotas, strict=True):
        taken: list[_Group] = []
        for group in stratum[:-1]:  # the last one stays in training whatever the share
            if len(group.rows) <= quota:
                taken.append(group)
                quota -= len(group.rows)
        chosen.append(taken)
    return chosen


def _return_last_of_label(groups: list[_Group], held: list[_Group]) -> list[_Group]:
    """Give back to training a group of every label that would otherwise be held out entirely."""
    away = {group.order for group in held}
    trained = {label for group in groups if group.order not in away for label in group.labels}
    kept = []
    for group in held:
        if set(group.labels) <= trained:
            kept.append(group)
        trained.update(group.labels)  # of a group given back; the others add nothing new
    return kept


def label_problems(train_labels: Collection[str], split: Split) -> list[Problem]:
    """List labels of a dev or test split that training never saw.

    Args:
        train_labels: The labels of the training rows (for NER: entity types).
        split: The other rows.

    Returns:
        One problem for each such label, at its first occurrence.
    """
    known = set(train_labels)
    rows: Counter[str] = Counter()
    first: dict[str, int] = {}
    for row, labels in enumerate(row_labels(split)):
        for label in labels:
            if label not in known:
                rows[label] += 1
                first.setdefault(label, row)
    names = listing([f"'{name}'" for name in sorted(known)])
    noun = "entity type" if split.kind == "ner" else "label"
    return [
        Problem(
            f"the {noun} '{label}' ({rows[label]} row{'s' * (rows[label] != 1)} of {split.name}) does not "
            f"occur in the training data, which has {names}.{nearest(label, sorted(known))}",
            split.locate(row),
        )
        for label, row in first.items()
    ]


def one_class_problem(split: Split) -> Problem | None:
    """Return a problem if training rows hold too few labels to learn from, else ``None``.

    Classification needs two labels; multi-label needs a label that some rows have and others have not; NER
    needs an entity.
    """
    labels = row_labels(split)
    found = sorted({label for row in labels for label in row})
    if split.kind == "classification" and len(found) < 2:
        return Problem(f"every row has the label '{found[0]}'; two labels at least are needed", split.origin)
    if split.kind == "multi_label" and len(set(labels)) < 2:
        return Problem("every row has the same labels; there is nothing to tell apart", split.origin)
    if split.kind == "ner" and not found:
        return Problem("no word is tagged as part of an entity; every tag is O", split.origin)
    return None
