"""Work in a thread that is waited for, and left behind when it takes too long: it does not keep the process alive."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

QUIET = 100.0
"""Seconds in which something must arrive of what is fetched, however large or slow it is."""
LOOKS = 20
"""How often in this time it is looked for."""


class NotYet(Exception):
    """What is waited for has not ended."""


class Pending(Generic[T]):
    """A call under way.

    Args:
        what: What is done, the name of the thread.
        function: Does it.
    """

    def __init__(self, what: str, function: Callable[[], T]):
        self._answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        self._function = function
        threading.Thread(target=self._work, daemon=True, name=what).start()

    def wait(self, seconds: float) -> T:
        """Return what the function returns, or raise what it raises.

        Raises:
            NotYet: It has done neither within these seconds; it may be waited for again.
        """
        try:
            answer, error = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise NotYet from None
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]

    def _work(self) -> None:
        try:
            self._answers.put((self._function(), None))
        except BaseException as error:
            self._answers.put((None, error))


def wait_while_heard(pending: Pending[T], seen: Callable[[], object], quiet: float) -> T:
    """Return what a call under way returns, or raise what it raises; give it up when nothing changes any more.

    Args:
        pending: The call.
        seen: Gives another value whenever something has arrived.
        quiet: Seconds without a change after which it is given up.

    Raises:
        NotYet: It was given up.
    """
    last, since = seen(), time.monotonic()
    while True:
        try:
            return pending.wait(quiet / LOOKS)
        except NotYet:
            now = seen()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > quiet:
                raise
