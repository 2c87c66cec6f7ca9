"""Jobs of many clients, computed together: budget, order, waiting, and the end."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from nlp_transfer.serving.batching import Batcher, Overloaded
from nlp_transfer.serving.worker import in_passing


def batched(work: Any, compute: Any, **settings: Any) -> Any:
    async def whole() -> Any:
        batcher = Batcher("test", compute, **settings)
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await batcher.close(10)

    return asyncio.run(asyncio.wait_for(whole(), 20))


def test_batches_keep_their_budget_and_their_order() -> None:
    batches: list[list[int]] = []

    def compute(items: list[int]) -> list[int]:
        batches.append(items)
        return [-item for item in items]

    async def work(batcher: Batcher) -> list[list[int]]:
        jobs = [[1, 2], [3], [4, 5, 6, 7, 8], [9]]
        return await asyncio.gather(*(batcher.submit(job, [1] * len(job), 10) for job in jobs))

    assert batched(work, compute, budget=4, most=100) == [[-1, -2], [-3], [-4, -5, -6, -7, -8], [-9]]
    assert batches == [[1, 2, 3, 4], [9, 5, 6, 7], [8]], "what is left of a job comes after the others"


def test_a_batch_waits_for_others_and_no_longer_than_it_must() -> None:
    sizes: list[int] = []

    def compute(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    async def work(batcher: Batcher) -> float:
        first = asyncio.create_task(batcher.submit([1], [1], 10))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await asyncio.gather(first, batcher.submit([2], [1], 10))
        return time.monotonic() - begun

    assert batched(work, compute, budget=2, most=9, wait=15.0) < 10
    assert sizes == [2]


def test_a_lone_client_does_not_wait_for_others() -> None:
    async def work(batcher: Batcher) -> float:
        await batcher.submit([1, 2], [1, 1], 10)
        begun = time.monotonic()
        for item in range(3):
            await batcher.submit([item], [1], 10)
        return time.monotonic() - begun

    assert batched(work, list, budget=2, most=9, wait=15.0) < 10


def test_closing_finishes_what_waits() -> None:
    held = threading.Event()

    def compute(items: list[int]) -> list[int]:
        held.wait(10)
        return items

    async def work(batcher: Batcher) -> list[Any]:
        jobs = [asyncio.create_task(batcher.submit([number], [1], 10)) for number in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await batcher.submit([9], [9], 10)
        asyncio.get_running_loop().call_later(0.1, held.set)
        await batcher.close(10)
        return [await job for job in jobs]

    assert batched(work, compute, budget=1, most=3) == [[0], [1], [2]]


def test_a_wrong_number_of_answers_is_no_answer() -> None:
    async def work(batcher: Batcher) -> list[Any]:
        jobs = (batcher.submit([number], [1], 10) for number in range(2))
        return await asyncio.gather(*jobs, return_exceptions=True)

    found = batched(work, lambda items: [0] * 3, budget=2, most=9)
    assert [type(error).__name__ for error in found] == ["Failed", "Failed"]


def test_what_computes_in_passing_leaves_no_thread() -> None:
    """A thread that stays keeps a team of OpenMP threads."""
    worker, before = in_passing(threading.current_thread), threading.active_count()
    worker.join(10)
    assert worker is not threading.current_thread() and not worker.is_alive()
    assert threading.active_count() <= before
    with pytest.raises(ZeroDivisionError):
        in_passing(divmod, 1, 0)
