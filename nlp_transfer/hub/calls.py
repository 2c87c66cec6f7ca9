"""Calls over a network: each has a deadline, and is repeated only where repeating can help.

``huggingface_hub`` waits without end for some answers (those to create_repo, create_commit and repo_info), and its
upload of large files is a library of its own. So a call runs in a thread that is waited for, and left behind when it
takes too long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from ..background import NotYet, Pending
from ..errors import HubError

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that an answer may take."""
SLOWEST = 100_000
"""Bytes a second below which an upload counts as stopped."""
WAITS = (1.0, 2.0, 4.0)
"""Seconds before the second, third and fourth attempt."""
AGAIN = {408, 429}
"""Answers that ask to be asked again, beside 5xx."""


class NoAnswer(Exception):
    """It is not known whether the other side has done what it was asked."""


class UploadRefused(Exception):
    """A large file was refused, by a store that need not be the hub's own; the answer is the cause."""


def call(what: str, function: Callable[[], T], size: int = 0) -> T:
    """Call once.

    Args:
        what: What is done, for messages: "create the repository".
        function: Does it.
        size: Bytes that are sent.

    Raises:
        NoAnswer: The connection failed, the deadline passed, or the server answered 408, 429 or 5xx.
        HubError: There is no network to be used (``HF_HUB_OFFLINE``).
        HfHubHTTPError: The server refused.
        UploadRefused: A server refused a large file.
    """
    try:
        return _within(DEADLINE + size / SLOWEST, what, function)
    except OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set, so nothing is pushed. Unset it and push again.") from error
    except Exception as error:
        meant = _meant(error)
        reason = _may_pass(meant)
        if reason is not None:
            raise NoAnswer(f"{what}: {reason}") from meant
        if meant is error:
            raise
        if isinstance(meant, HfHubHTTPError):
            raise UploadRefused(str(error)) from meant
        raise meant from None


def repeat(what: str, function: Callable[[], T], size: int = 0) -> T:
    """Call something that may be done twice; see :func:`call`.

    Raises:
        NoAnswer: Four times.
    """
    for wait in WAITS:
        try:
            return call(what, function, size)
        except NoAnswer:
            time.sleep(wait)
    return call(what, function, size)


def _meant(error: BaseException) -> BaseException:
    """Return what went wrong with the upload of a large file, which the client wraps; any other error as it is."""
    cause = error
    while isinstance(cause, RuntimeError) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause if isinstance(cause, httpx.TransportError | OSError | ValueError) else error


def _may_pass(error: BaseException) -> str | None:
    """Return what to tell of an error that asking again may mend; None of any other."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return f"the server answers {status}" if status in AGAIN or status >= 500 else None
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "the server's answer cannot be read"
    # RuntimeError without a cause: so Xet, and a client that was closed meanwhile, tell whatever went wrong.
    if isinstance(error, httpx.TransportError | ConnectionError | TimeoutError | RuntimeError):
        told = str(error).splitlines()
        return f"{type(error).__name__}: {told[0] if told else ''}"
    return None


def _within(seconds: float, what: str, function: Callable[[], T]) -> T:
    try:
        return Pending(what, function).wait(seconds)
    except NotYet:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
