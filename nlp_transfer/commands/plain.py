"""Errors of a command as one line and an exit code."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from ..errors import UserError


def plain(resumes: bool | Callable[..., bool] = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn what a user can mend into a line on standard error and an exit code, without a traceback.

    Args:
        resumes: The same command, given again, goes on where it was stopped; or what tells so from its settings.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def guarded(*args: Any, **settings: Any) -> None:
            goes_on = resumes(**settings) if callable(resumes) else resumes
            without = " without --fresh" if settings.get("fresh") else ""
            again = f" Run the same command again{without} to resume where it stopped." if goes_on else ""
            try:
                command(*args, **settings)
            except UserError as error:
                raise _stop(str(error), 2) from None
            except KeyboardInterrupt:
                raise _stop(f"\nStopped.{again}", 130) from None
            except BrokenPipeError:
                # The reader, such as `head`, has seen enough. Nothing may be flushed into the pipe at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(141) from None
            except (PermissionError, OSError) as error:
                message = _disk_message(error)
                if message is None:
                    raise
                raise _stop(message + again, 2) from None

        return guarded

    return decorate


def _stop(message: str, code: int) -> typer.Exit:
    if talks():
        print(message, file=sys.stderr)
    return typer.Exit(code)


def talks() -> bool:
    """Whether this process prints: of several that train together, the first one only."""
    return os.environ.get("RANK", "0") == "0"


def _disk_message(error: OSError) -> str | None:
    """Word the errors of the file system that a user can mend; None for any other."""
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{place}. What was complete is kept; free some space."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission{place}: {error.strerror}."
    return None
