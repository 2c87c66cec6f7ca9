"""Signals to a watch: SIGTERM ends it as Ctrl-C does, SIGUSR1 wishes for the page."""

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
    """

    page: bool = False


@contextlib.contextmanager
def listening(wishes: Wishes) -> Iterator[None]:
    """Take signals inside the block; only the main thread of a process can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def wish(*args: Any) -> None:
        wishes.page = True

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, act) for number, act in ((signal.SIGUSR1, wish), (signal.SIGTERM, stop))}
    try:
        yield
    finally:
        for number, act in before.items():
            signal.signal(number, act)
