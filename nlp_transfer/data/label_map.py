"""Label maps: other names for labels, so that label sets of different origin or granularity meet.

The labels are those of texts (one or several) or the entity types of words. A label that the map does not name stays as
it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from ..errors import Problem, nearest
from .load import Split
from .split import distinct_labels
from .tags import OUTSIDE, entity_type

LabelMap = Mapping[str, str | None]

DROPPED = {"classification": "rows", "multi_label": "labels", "ner": "entities"}
"""What is left out where the map says None, by the kind of the rows."""


@dataclass(frozen=True)
class Mapped:
    """A split with its labels renamed.

    Args:
        split: The split.
        dropped: Number of rows (one label a text), labels (several labels) or entities that were left out.
    """

    split: Split
    dropped: int

    @property
    def told(self) -> str:
        """What was left out, for messages: ``12 rows``."""
        return f"{self.dropped} {DROPPED[self.split.kind]}"


def map_labels(split: Split, names: LabelMap) -> Mapped:
    """Rename the labels of a split.

    Args:
        split: Labelled rows.
        names: New name by old one. None drops a label: the row of a text with this one label; of several labels this
            one; of words the entity, whose tags become ``O``. Entities keep their borders: two neighbours that come to
            have one type stay two.
    """
    if split.kind == "ner":
        return _map_tags(split, names)
    if split.kind == "multi_label":
        return _map_several(split, names)
    new = [names.get(label, label) for label in split.rows["label"][:]]
    kept = [row for row, label in enumerate(new) if label is not None]
    rows = _with_column(split.rows.select(kept), "label", [new[row] for row in kept])
    return Mapped(split.select(kept).with_rows(rows), len(split) - len(kept))


def _map_several(split: Split, names: LabelMap) -> Mapped:
    old = split.rows["labels"][:]
    # Two labels of a row may come to have one name.
    new = [list(dict.fromkeys(names.get(label, label) for label in labels)) for labels in old]
    dropped = sum(label in names and names[label] is None for labels in old for label in labels)
    kept = [[label for label in labels if label is not None] for labels in new]
    return Mapped(split.with_rows(_with_column(split.rows, "labels", kept)), dropped)


def _map_tags(split: Split, names: LabelMap) -> Mapped:
    old = split.rows["tags"][:]
    begun = [entity_type(tag) for tags in old for tag in tags if tag.startswith("B-")]
    rows = _with_column(split.rows, "tags", [[_map_tag(tag, names) for tag in tags] for tags in old])
    return Mapped(split.with_rows(rows), sum(kind in names and names[kind] is None for kind in begun))


def _map_tag(tag: str, names: LabelMap) -> str:
    kind = entity_type(tag)
    new = names.get(kind, kind)
    return f"{tag[:2]}{new}" if kind and new is not None else OUTSIDE


def _with_column(rows: Dataset, name: str, values: list[Any]) -> Dataset:
    columns = {column: values if column == name else rows[column][:] for column in rows.column_names}
    return Dataset.from_dict(columns, features=rows.features)


def unseen_names(names: LabelMap, splits: Sequence[Split], where: str) -> list[Problem]:
    """Return a problem for each label that a map names and no row has: most of these are misspelt.

    Args:
        names: The map.
        splits: All labelled splits that it is for, as they are before it; none say nothing.
        where: Its key path.
    """
    seen = sorted({label for split in splits for label in distinct_labels(split)})
    roles = ", ".join(split.name for split in splits)
    return [
        Problem(f"no row of {roles} has the label '{label}'. Labels: {', '.join(seen)}.{nearest(label, seen)}", where)
        for label in names
        if splits and label not in seen
    ]
