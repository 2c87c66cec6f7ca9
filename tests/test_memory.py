"""The peak memory of a run of a comparison is its own, not that of the runs before it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from nlp_transfer.memory import peak_mib, reset_peak

PIECE = 8_000
"""Numbers of a tensor that is too small for the system to get back by itself when it is freed."""

CUDA = torch.cuda.is_available()
TRIMS = platform.libc_ver()[0] == "glibc" and Path("/proc/self/clear_refs").exists()


@pytest.mark.skipif(CUDA or not TRIMS, reason="main memory is handed back, and its peak reset, on Linux with glibc")
def test_what_earlier_runs_have_freed_does_not_count() -> None:
    held = [torch.ones(PIECE) for _ in range(8_000)]  # 256 MB
    last = torch.ones(PIECE)  # keeps the heap from shrinking
    before = peak_mib()
    del held
    reset_peak()
    after = peak_mib()
    assert before is not None and after is not None
    assert after < before - 200
    assert last.sum() == PIECE


def test_the_peak_is_told_or_nothing() -> None:
    reset_peak()
    assert CUDA or not Path("/proc/self/status").exists() or (peak_mib() or 0) > 0
