"""Signals to a watch: Ctrl-C and SIGTERM end it as the end of the stream does, SIGUSR1 wishes for the page."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Wishes:
    """What was asked for since it was last looked at.

    Args:
        page: To write the page.
        stop: To read nothing more.
    """

    page: bool = False
    stop: bool = False

    def stopped(self) -> bool:
        """Whether nothing more is to be read."""
        return self.stop


@contextlib.contextmanager
def listening(wishes: Wishes) -> Iterator[None]:
    """Take signals inside the block; only the main thread of a process can.

    The first one to stop is a wish, as an exception would drop the texts that are being answered. The second one is a
    :class:`KeyboardInterrupt`: whoever insists does not wait for a model that loads or a source that is silent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def wish(*args: Any) -> None:
        wishes.page = True

    def stop(*args: Any) -> None:
        if wishes.stop:
            raise KeyboardInterrupt
        wishes.stop = True

    acts = {signal.SIGUSR1: wish, signal.SIGTERM: stop, signal.SIGINT: stop}
    before = {number: signal.signal(number, act) for number, act in acts.items()}
    try:
        yield
    finally:
        for number, act in before.items():
            signal.signal(number, act)
