"""How a recipe names a data file and its columns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Section


class Columns(Section):
    """Names (or, for CoNLL files, zero-based indexes) of the columns; ``None`` stands for the usual name.

    Attributes:
        text: Column of the text.
        label: Column of the label.
        labels: Column of the labels of a text, where it may have several.
        words: Column of the words; in a CoNLL file its index, 0 by default.
        tags: Column of the words' tags; in a CoNLL file its index, the last by default.
        entities: Column of the entities, as spans of characters.
    """

    text: str | None = None
    label: str | None = None
    labels: str | None = None
    words: str | int | None = None
    tags: str | int | None = None
    entities: str | None = None


class DataFile(Section):
    """One file, or one split of a hub data set.

    Attributes:
        path: File (relative to ``data.folder``), ``hub:owner/name``, or ``demo:…`` for the data shipped here.
        format: csv, tsv, jsonl, parquet, txt or conll; by default from the file's suffix.
        split: Split of a hub data set.
        config: Configuration of a hub data set.
        revision: Revision of a hub data set.
        columns: Column names of this file; ``data.columns`` otherwise.
    """

    shorthand = "path"

    path: str = Field(min_length=1)
    format: Literal["csv", "tsv", "jsonl", "parquet", "txt", "conll"] | None = None
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    columns: Columns | None = None
