"""Files that a command reads and writes: none is written that is read, and none is written twice."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError, Problem

STANDARD = "-"


def refuse_clashes(reads: Mapping[str, str | Path | None], writes: Mapping[str, str | Path | None]) -> None:
    """Refuse to write a file that is read: it would be lost, or be read while it grows, without end.

    Args:
        reads: Files by what they are called, such as ``input``; ``-`` for standard input, None for what is no file.
        writes: As well; ``-`` for standard output.

    Raises:
        DataError: A file is written that is read, or is written twice, whatever the paths to it.
    """
    taken = {_identity(place, 0): name for name, place in reads.items()}
    for name, place in writes.items():
        identity = _identity(place, 1)
        if identity is not None and identity in taken:
            raise DataError([Problem(f"the {name} is the {taken[identity]} file; name another one", str(place))])
        taken[identity] = name


def _identity(place: str | Path | None, standard: int) -> tuple[int, int] | Path | None:
    """Tell one file from another; None for devices and pipes, which may well be read and written."""
    if place is None:
        return None
    try:
        # A shell may have opened a file as standard input or output.
        found = os.fstat(standard) if str(place) == STANDARD else Path(place).stat()
    except OSError:
        return None if str(place) == STANDARD else Path(place).resolve()
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
