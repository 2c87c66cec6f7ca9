"""Rows in memory, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Columns:
    """What prediction needs of a ``datasets.Dataset``, which takes milliseconds to make: longer than one short answer.

    Args:
        columns: Values by column, equally many.
    """

    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self.columns[name]

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self.columns)
