"""Peak memory of a part of this process: on the GPU where there is one, else in main memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Begin anew; where the system does not allow that, the peak is that of the whole process so far.

    What earlier parts have freed is handed back first: the C library keeps gigabytes of it, which would count as this
    part's.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def peak_mib() -> int | None:
    """Return the peak since :func:`reset_peak` in MiB, or None where the system does not tell."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() / 2**20)
    try:
        lines = _STATUS.read_text(encoding="utf8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), None)
