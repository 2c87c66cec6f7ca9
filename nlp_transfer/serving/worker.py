"""A thread that computes, and that cannot keep the process from ending.

OpenMP gives each thread that computes a team of its own. Where all teams together have more threads than there are
cores, none of them spins any more, and every operation of a model waits for the scheduler, also where the other threads
have nothing to do. So one thread may last, that which answers; everything else computes in passing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class Worker:
    """One thread that runs what it is given, in order.

    It is a daemon, unlike those of ``concurrent.futures``: what hangs in it is left behind when the process ends.

    Args:
        name: What the thread is called.
    """

    def __init__(self, name: str):
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a function when everything before it is done."""
        future: Future[Any] = Future()
        self._tasks.put((future, function, args))
        return future

    def stop(self) -> None:
        """End the thread after what it has been given; nobody waits for that."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function, args = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)


def in_passing(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns; it runs in a thread that ends with it, and takes its OpenMP team along."""
    worker = Worker(getattr(function, "__name__", "passing"))
    worker.start()
    future = worker.submit(function, *args)
    worker.stop()
    return future.result()
