"""Work of many clients, done together: a queue, a small wait, and one thread that computes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

logger = logging.getLogger("uvicorn.error")

LONGEST_RETRY = 60
"""Seconds that a client is asked to wait at most."""


class Overloaded(Exception):
    """So much is waiting that no more is taken.

    Args:
        retry_after: Seconds after which it is worth asking again.
    """

    def __init__(self, retry_after: int):
        super().__init__("overloaded")
        self.retry_after = retry_after


class Failed(Exception):
    """The computation of this job failed; details are in the log."""


class Observer(Protocol):
    """What is told of each batch."""

    def batch(self, items: int, seconds: float) -> None:
        """A batch of some items took so long."""


@dataclass(eq=False)
class _Job:
    items: list[Any]
    cost: int
    answer: asyncio.Future[list[Any]]


class Batcher:
    """Collects jobs of any number of clients, and computes them in batches in a thread of its own.

    Jobs are answered in the order of their arrival. A job that is given up (its client has waited too long) is dropped
    before it is computed. Where a batch fails, each of its jobs is computed alone, so that only the guilty one fails.

    Args:
        name: What the thread is called.
        compute: Takes items, returns as many answers in the same order. Called in one thread only.
        budget: Cost up to which jobs are computed together; a single job may cost more.
        most: Cost up to which jobs may wait; a single job may always.
        wait: Seconds that a batch below the budget waits for more jobs.
        observer: Told of each batch.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[list[Any]], Sequence[Any]],
        *,
        budget: int,
        most: int,
        wait: float = 0.0,
        observer: Observer | None = None,
    ):
        self._compute = compute
        self._budget, self._most, self._wait = budget, most, wait
        self._observer = observer
        self._jobs: deque[_Job] = deque()
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._runner: asyncio.Task[None] | None = None
        self._seconds_per_cost = 0.0
        self._begun: float | None = None

    @property
    def waiting(self) -> int:
        """Number of items that wait."""
        return sum(len(job.items) for job in self._jobs)

    @property
    def busy_seconds(self) -> float:
        """How long the batch that is being computed has taken so far; 0 where there is none."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def start(self) -> None:
        """Begin to compute. Called once, in the event loop that the jobs come from."""
        self._runner = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Finish what waits, then stop."""
        while self._runner is not None and not self._runner.done() and (self._jobs or self._begun is not None):
            await asyncio.sleep(0.01)
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def submit(self, items: Sequence[Any], cost: int, timeout: float) -> list[Any]:
        """Compute the answers to some items, together with whatever else is waiting.

        Args:
            items: The items of one job.
            cost: Its cost, in the unit of the budget.
            timeout: Seconds.

        Raises:
            Overloaded: Too much is waiting.
            TimeoutError: There was no answer in time.
            Failed: The computation raised an error.
        """
        waiting = sum(job.cost for job in self._jobs)
        if self._jobs and waiting + cost > self._most:
            raise Overloaded(min(LONGEST_RETRY, max(1, math.ceil(waiting * self._seconds_per_cost))))
        job = _Job(list(items), cost, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._changed.set()
        try:
            return await asyncio.wait_for(job.answer, timeout)
        finally:
            # Given up while it waited: nobody needs it any more.
            with contextlib.suppress(ValueError):
                self._jobs.remove(job)

    async def _run(self) -> None:
        while True:
            await self._filled()
            batch = self._next()
            if not batch:
                continue
            self._begun = time.monotonic()
            await self._answer(batch)
            seconds, cost = self.busy_seconds, max(1, sum(job.cost for job in batch))
            self._begun = None
            recent = seconds / cost
            self._seconds_per_cost = 0.7 * self._seconds_per_cost + 0.3 * recent if self._seconds_per_cost else recent
            if self._observer is not None:
                self._observer.batch(sum(len(job.items) for job in batch), seconds)

    async def _filled(self) -> None:
        """Wait for a job, and then a little for others."""
        while not self._jobs:
            self._changed.clear()
            await self._changed.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                while sum(job.cost for job in self._jobs) < self._budget:
                    self._changed.clear()
                    await self._changed.wait()

    def _next(self) -> list[_Job]:
        batch: list[_Job] = []
        cost = 0
        while self._jobs and (not batch or cost + self._jobs[0].cost <= self._budget):
            job = self._jobs.popleft()
            cost += job.cost
            batch.append(job)
        return batch

    async def _answer(self, batch: Sequence[_Job]) -> None:
        """Compute a batch, and hand its answers to the jobs that still want them."""
        items = [item for job in batch for item in job.items]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, items)
            if len(answers) != len(items):
                raise RuntimeError("not as many answers as items")
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    if not job.answer.done():
                        await self._answer([job])
                return
            # Without its message, which may quote a text.
            logger.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            if not batch[0].answer.done():
                batch[0].answer.set_exception(Failed())
            return
        rest = iter(answers)
        for job in batch:
            own = [next(rest) for _ in job.items]
            if not job.answer.done():
                job.answer.set_result(own)
