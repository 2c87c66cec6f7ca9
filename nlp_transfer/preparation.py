"""What a training has to do before its first step, and how long that took.

A frozen encoder's features, a teacher's answers, pseudo-labels, a fresh masked-LM head: all of it is part of what a
strategy costs. It is remembered beside the checkpoints, since a resumed run does not do it again, or does it anew.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .hardware import is_main_process
from .memory import peak_mib, reset_peak
from .records import read_json
from .whole import write_text

PREPARED = "prepared.json"
MEND = "Delete it: only what is told of the time depends on it."


@dataclass(frozen=True)
class Prepared:
    """What was done for a training before it began.

    Args:
        seconds: How long it took.
        steps: Optimizer steps in it.
        peak_mib: Peak memory in MiB, 0 where it is not known.
    """

    seconds: float
    steps: int
    peak_mib: int


@dataclass
class Work:
    """Work that is measured.

    Attributes:
        seconds: How long it took, where the block knows better than the clock: over several starts.
    """

    seconds: float | None = None


@contextlib.contextmanager
def preparing(folder: Path, what: str, steps: int = 0) -> Iterator[Work]:
    """Measure the work inside the block.

    Args:
        folder: Folder of the training that it is for.
        what: Its name; done again, it counts once.
        steps: Optimizer steps in it.
    """
    reset_peak()
    begun, work = time.monotonic(), Work()
    yield work
    if is_main_process():
        path = folder / PREPARED
        known = read_json(path, MEND) if path.is_file() else {}
        seconds = time.monotonic() - begun if work.seconds is None else work.seconds
        known[what] = {"seconds": round(seconds, 2), "steps": steps, "peak_mib": peak_mib()}
        write_text(path, json.dumps(known) + "\n")


def prepared(folder: Path) -> Prepared:
    """Return what all that was done for a training before it began took.

    Args:
        folder: Its folder.
    """
    path = folder / PREPARED
    known = read_json(path, MEND) if path.is_file() else {}
    return Prepared(
        sum(one["seconds"] for one in known.values()),
        sum(one["steps"] for one in known.values()),
        max((one.get("peak_mib") or 0 for one in known.values()), default=0),
    )
