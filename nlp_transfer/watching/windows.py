"""How a stream is cut into windows: by a number of texts, or by the clock."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import DataError, Problem

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class WindowSize:
    """Size of a window: one of the two.

    Args:
        texts: Number of texts.
        seconds: Length of time; windows begin at its multiples, so that those of ``1h`` begin at full hours (UTC).
    """

    texts: int | None = None
    seconds: int | None = None

    def begins(self, time: float) -> float:
        """Return when the window of a moment begins."""
        assert self.seconds is not None
        return math.floor(time / self.seconds) * self.seconds


def read_size(text: str) -> WindowSize:
    """Read ``200`` (texts) or ``90s``, ``15m``, ``1h``, ``1d``.

    Raises:
        DataError: It is neither.
    """
    found = re.fullmatch(r"([1-9]\d{0,8})([smhd]?)", text.strip())
    if found is None:
        message = f"'{text}' is no window: give a number of texts (200), or a time (90s, 15m, 1h, 1d)"
        raise DataError([Problem(message, "--window")])
    number, unit = int(found[1]), found[2]
    return WindowSize(seconds=number * UNITS[unit]) if unit else WindowSize(texts=number)
