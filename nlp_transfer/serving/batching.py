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
from dataclasses import dataclass, field
from typing import Any, Protocol

from .worker import Worker

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
    """What one client waits for.

    Args:
        items: Items that are still to be computed, each with its cost.
        answer: The answers to all items.
        done: Answers so far.
    """

    items: deque[tuple[Any, int]]
    answer: asyncio.Future[list[Any]]
    done: list[Any] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """Cost of what is still to be computed."""
        return sum(cost for _, cost in self.items)


@dataclass(frozen=True)
class _Slice:
    """Items of a job that are computed in one go."""

    job: _Job
    items: list[Any]
    cost: int


class Batcher:
    """Collects jobs of any number of clients, and computes them in batches in a thread of its own.

    Jobs take turns: where one costs more than a batch may, a slice of it is computed, and the others come before its
    next one. A job that is given up (its client has waited too long) is dropped before its next slice. Where a batch
    fails, the slice of each job is computed alone, so that only the guilty job fails.

    Args:
        name: What the thread is called.
        compute: Takes items, returns as many answers in the same order. Called in one thread only.
        budget: Cost up to which items are computed together; a single item may cost more.
        most: Cost up to which work may come before the end of a job, its own included; a single job may always wait.
        wait: Seconds that a batch below the budget waits for more jobs; not where the one before had a single job, as
            a lone client asks again only when it has its answer.
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
        self.name = name
        self._compute = compute
        self._budget, self._most, self._wait = budget, most, wait
        self._observer = observer
        self._jobs: deque[_Job] = deque()
        self._changed = asyncio.Event()
        self._worker = Worker(name)
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        self._alone = False
        self._seconds_per_cost = 0.0
        self._begun: float | None = None

    @property
    def waiting(self) -> int:
        """Number of items that wait."""
        return sum(len(job.items) for job in self._jobs)

    @property
    def busy_seconds(self) -> float:
        """How long what is being computed has taken so far; 0 where there is nothing."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    @property
    def ended(self) -> bool:
        """Whether nothing is computed any more."""
        return self._runner is not None and self._runner.done()

    def start(self) -> None:
        """Begin to compute. Called once, in the event loop that the jobs come from."""
        self._worker.start()
        self._runner = asyncio.get_running_loop().create_task(self._run())

    async def close(self, timeout: float) -> None:
        """Finish what waits, then stop; what is not finished in time is left behind, and the log says so.

        Args:
            timeout: Seconds.
        """
        self._closing = True
        self._changed.set()
        if self._runner is not None:
            _, late = await asyncio.wait({self._runner}, timeout=timeout)
            if late:
                logger.error("%s: what is computed has not ended within %g s; it is left behind.", self.name, timeout)
                self._runner.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._runner
        self._worker.stop()

    async def submit(self, items: Sequence[Any], costs: Sequence[int], timeout: float) -> list[Any]:
        """Compute the answers to some items, together with whatever else is waiting.

        Args:
            items: The items of one job.
            costs: The cost of each, in the unit of the budget.
            timeout: Seconds.

        Raises:
            Overloaded: Too much is waiting.
            TimeoutError: There was no answer in time.
            Failed: The computation raised an error.
        """
        cost = sum(costs)
        # As jobs take turns, none is computed much further than this one before it is done.
        before = sum(min(job.cost, max(cost, self._budget)) for job in self._jobs)
        if self._jobs and before + cost > self._most:
            raise Overloaded(min(LONGEST_RETRY, max(1, math.ceil(before * self._seconds_per_cost))))
        pairs = deque(zip(items, costs, strict=True))
        job = _Job(pairs, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._changed.set()
        try:
            return await asyncio.wait_for(job.answer, timeout)
        finally:
            # Given up while it waited: nobody needs it any more.
            with contextlib.suppress(ValueError):
                self._jobs.remove(job)

    async def _run(self) -> None:
        while await self._filled():
            batch = self._next()
            if not batch:
                continue
            self._alone = len(batch) == 1 and not self._jobs
            begun = time.monotonic()
            await self._answer(batch)
            seconds, cost = time.monotonic() - begun, max(1, sum(part.cost for part in batch))
            recent = seconds / cost
            self._seconds_per_cost = 0.7 * self._seconds_per_cost + 0.3 * recent if self._seconds_per_cost else recent
            if self._observer is not None:
                self._observer.batch(sum(len(part.items) for part in batch), seconds)

    async def _filled(self) -> bool:
        """Wait for a job, and then a little for others, if there were some; False where nothing waits at last."""
        while not self._jobs:
            if self._closing:
                return False
            self._changed.clear()
            await self._changed.wait()
        if self._alone:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                while sum(job.cost for job in self._jobs) < self._budget:
                    self._changed.clear()
                    await self._changed.wait()
        return True

    def _next(self) -> list[_Slice]:
        """Return what is computed next: as much of each job in turn as there is room for."""
        batch: list[_Slice] = []
        room = self._budget
        for _ in range(len(self._jobs)):
            job = self._jobs[0]
            if job.answer.done():
                self._jobs.popleft()
                continue
            part = _cut(job, room, whatever=not batch)
            if not part.items:
                break
            batch.append(part)
            room -= part.cost
            self._jobs.popleft()
            if job.items:
                self._jobs.append(job)  # behind those that came meanwhile
                break
        return batch

    async def _answer(self, batch: Sequence[_Slice]) -> None:
        """Compute a batch, and hand the answers to the jobs that still want them."""
        items = [item for part in batch for item in part.items]
        self._begun = time.monotonic()
        try:
            answers = await asyncio.wrap_future(self._worker.submit(self._compute, items))
            if len(answers) != len(items):
                raise RuntimeError("not as many answers as items")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # A panic of compiled code is no Exception, and must not end this lane.
            if len(batch) > 1:
                for part in batch:
                    if not part.job.answer.done():
                        await self._answer([part])
                return
            # Without its message, which may quote a text.
            logger.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            if not batch[0].job.answer.done():
                batch[0].job.answer.set_exception(Failed())
            return
        finally:
            self._begun = None
        rest = iter(answers)
        for part in batch:
            part.job.done += [next(rest) for _ in part.items]
            if not part.job.items and not part.job.answer.done():
                part.job.answer.set_result(part.job.done)


def _cut(job: _Job, room: int, whatever: bool) -> _Slice:
    """Take items from a job as long as there is room for them; the first one ``whatever`` it costs."""
    items: list[Any] = []
    cost = 0
    while job.items and (cost + job.items[0][1] <= room or (whatever and not items)):
        item, own = job.items.popleft()
        items.append(item)
        cost += own
    return _Slice(job, items, cost)
