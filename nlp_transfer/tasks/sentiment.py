"""Sentiment: classification whose raw labels (stars, scores) are mapped to polarities."""

from __future__ import annotations

from ..data.label_map import LabelMap, Mapped, map_labels
from ..data.load import Split
from ..errors import DataError, Problem


def polarised(split: Split, polarity: LabelMap) -> Mapped:
    """Return a split with polarities for its raw labels, without the rows whose label has none.

    Raises:
        DataError: Labels that ``polarity`` does not name.
    """
    unknown = sorted(set(split.rows["label"][:]) - set(polarity))
    if unknown:
        text = f"labels {unknown} are not in task.polarity, which maps {sorted(polarity)}."
        raise DataError([Problem(text, split.origin)])
    return map_labels(split, polarity)
