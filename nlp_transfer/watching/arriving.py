"""Lines of a pipe or file as they arrive: none waits for the next one, and none can fill the memory."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

LONGEST_LINE = 2**20
"""Bytes. What is longer is passed over, as an endless line would fill the memory."""
BLOCK = 2**16

Line = bytes | None
"""A line without its break; None for one that was too long."""


def arriving(
    descriptor: int, most: int, wait: float = 1.0, stopped: Callable[[], bool] = lambda: False
) -> Iterator[list[Line]]:
    """Yield the lines that are there.

    Args:
        descriptor: Of an open pipe or file.
        most: Lines given at a time.
        wait: Seconds after which an empty list is given when nothing arrives, so that the caller can look at the clock.
        stopped: Whether to read nothing more; whole lines that have been read are given all the same.
    """
    rest, dropping = b"", False
    while not stopped():
        if not select.select([descriptor], [], [], wait)[0]:
            yield []
            continue
        block = os.read(descriptor, BLOCK)
        if not block:
            if rest or dropping:
                yield [None if dropping else rest]
            return
        *lines, rest = (rest + block).split(b"\n")
        found: list[Line] = list(lines)
        if found and dropping:
            found[0], dropping = None, False
        if len(rest) > LONGEST_LINE:
            dropping = True
        if dropping:
            rest = b""
        found = [line if line is not None and len(line) <= LONGEST_LINE else None for line in found]
        for begin in range(0, len(found), most):
            yield found[begin : begin + most]
