"""A random sample of a stream whose length is not known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class Reservoir(Generic[Item]):
    """A uniform sample of all items that were added, of bounded size (Vitter 1985, algorithm R).

    The same items give the same sample.

    Args:
        size: Most items that are kept.
        kept: The sample; all items as long as they fit.
        seen: Number of items that were added.
    """

    size: int
    kept: list[Item] = field(default_factory=list)
    seen: int = 0
    _draw: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    def add(self, item: Item) -> None:
        """Keep an item, perhaps in the place of another."""
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append(item)
        elif (place := self._draw.randrange(self.seen)) < self.size:
            self.kept[place] = item
