"""Sentiment: classification whose raw labels (stars, scores) are mapped to polarities."""

from __future__ import annotations

from collections.abc import Mapping

import datasets

from ..data.load import Split
from ..errors import DataError, Problem


def map_polarity(rows: datasets.Dataset, polarity: Mapping[str, str | None]) -> tuple[datasets.Dataset, list[int], int]:
    """Replace raw labels by polarities.

    Args:
        rows: Rows with a ``label`` column.
        polarity: Polarity of each raw label; rows whose label maps to None are dropped.

    Returns:
        The mapped rows, the indices (into ``rows``) that were kept, and the number that was dropped.

    Raises:
        KeyError: A raw label that ``polarity`` does not name.
    """
    raw = list(rows["label"])
    kept = [number for number, label in enumerate(raw) if polarity[label] is not None]
    mapped = (
        rows.select(kept).remove_columns("label").add_column("label", [str(polarity[raw[number]]) for number in kept])
    )
    return mapped, kept, len(raw) - len(kept)


def polarised(split: Split, polarity: Mapping[str, str | None]) -> Split:
    """Return a split with polarities for its raw labels, without the rows whose label has none.

    Raises:
        DataError: Labels that ``polarity`` does not name.
    """
    unknown = sorted(set(split.rows["label"][:]) - set(polarity))
    if unknown:
        text = f"labels {unknown} are not in task.polarity, which maps {sorted(polarity)}."
        raise DataError([Problem(text, split.origin)])
    rows, kept, _ = map_polarity(split.rows, polarity)
    return split.select(kept).with_rows(rows)
