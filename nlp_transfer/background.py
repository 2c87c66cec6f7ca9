"""Work in a thread that is waited for, and left behind when it takes too long: it does not keep the process alive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


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
