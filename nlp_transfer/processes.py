"""Several processes that train together: waiting for each other, and agreeing on what one of them decided.

torch is loaded when there are several: one process that predicts with an export does without it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from .hardware import is_main_process, world_size


def place() -> tuple[int, int]:
    """Return this process's number and how many there are; (0, 1) while there is no process group."""
    # Who has begun a process group has loaded torch.
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def wait_for_all() -> None:
    """Wait until every process is here."""
    if place()[1] > 1:
        import torch

        torch.distributed.barrier()


def agree(value: Any) -> Any:
    """Return what the first process holds, in all processes."""
    if place()[1] == 1:
        return value
    import torch

    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Return what every process holds, in order, in all processes."""
    _, world = place()
    shares: list[Any] = [value]
    if world > 1:
        import torch

        shares = [None] * world
        torch.distributed.all_gather_object(shares, value)
    return shares


def join(patience: timedelta | None = None) -> None:
    """Start the process group that a launcher (accelerate launch, torchrun) has prepared, if there is one.

    Args:
        patience: How long one process waits for another, where their work is long and unequal; by default that of
            torch, half an hour at most. A launcher ends those that wait for one that has died.
    """
    if world_size() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), **({} if patience is None else {"timeout": patience}))


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process run the block before the others, so that they find what it made or deleted."""
    join()
    if not is_main_process():
        wait_for_all()
    yield
    if is_main_process():
        wait_for_all()
