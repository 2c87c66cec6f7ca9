"""Models that lie in a folder of some file system of fsspec (``s3://``, ``memory://``, …), fetched to this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .background import QUIET, NotYet, Pending, wait_while_heard
from .errors import ModelError

_USER = re.compile(r"://[^/?#@\s:]*(?::(?P<password>[^/?#\s]*))?@")
"""User and password in a URL, wherever it stands."""


def is_url(place: str) -> bool:
    """Whether a place is a URL, no path and no hub id."""
    return "://" in place


def password_of(place: str) -> str | None:
    """Return the password that a URL holds, or one inside another text, such as a chain of file systems."""
    found = _USER.search(place)
    return unquote(found["password"]) if found and found["password"] else None


def without_user(place: str) -> str:
    """Return a URL without user and password, as others may see it; any other place as it is."""
    return _USER.sub("://", place)


def without_password(text: str, url: str) -> str:
    """Return a text that may quote a URL, without the URL's user and password."""
    secret = password_of(url)
    text = text.replace(url, without_user(url))
    return text.replace(secret, "…") if secret else text


def told(error: Exception, url: str) -> str:
    """Return what an error says, without user and password: there are file systems whose paths hold them.

    Args:
        error: Of a file system.
        url: The URL that it was about.
    """
    return without_password(str(error) or type(error).__name__, url)


def fetch(url: str, patterns: Sequence[str]) -> Path:
    """Copy the files of a folder to a cache, once for each state that the folder is in.

    Args:
        url: URL of the folder.
        patterns: Names of the files that are wanted.

    Returns:
        The copy; of ``file://`` the folder itself.

    Raises:
        ModelError: The file system is unknown, out of reach or silent, or there is no such folder.
    """
    work = _Fetch(url, patterns)
    own = without_user(url)
    try:
        return wait_while_heard(Pending(f"fetch {own}", work.run), work.seen, QUIET)
    except NotYet:
        why = f"nothing of {work.file} has arrived for {QUIET:.0f} s"
        advice = "Try again, or copy the folder to this machine and name the copy."
        raise ModelError(f"model '{own}' cannot be fetched: {why}. {advice}") from None
    except Exception as error:  # Every file system has errors of its own.
        raise ModelError(f"model '{own}' cannot be fetched: {told(error, url)}") from None
    finally:
        # The thread that writes may have been left behind.
        work.clean()


class _Fetch:
    """One folder that is fetched."""

    def __init__(self, url: str, patterns: Sequence[str]):
        self.url, self.patterns = url, patterns
        self.file = "its list of files"
        self.part: Path | None = None
        self.heard = 0

    def run(self) -> Path:
        """Fetch."""
        import fsspec
        from huggingface_hub import constants

        system, place = fsspec.core.url_to_fs(self.url)
        if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
            return Path(place)
        system.invalidate_cache()
        listed: list[Any] = [one for one in system.ls(place, detail=True) if one["type"] == "file"]
        wanted = {one["name"].rsplit("/", 1)[-1]: one for one in listed}
        wanted = {name: one for name, one in wanted.items() if any(fnmatchcase(name, each) for each in self.patterns)}
        state = json.dumps(
            [self.url, sorted((name, one["size"], str(system.ukey(one["name"]))) for name, one in wanted.items())]
        )
        folder = Path(constants.HF_HOME) / "nlp_transfer" / hashlib.sha256(state.encode()).hexdigest()[:24]
        if not folder.is_dir():
            # A name of its own: what was given up may still be written to, and another process may fetch the same.
            part = folder.with_name(f"{folder.name}-{uuid.uuid4().hex}.part")
            part.mkdir(parents=True)
            self.part = part
            try:
                for self.file, one in wanted.items():
                    system.get_file(one["name"], str(part / self.file), callback=_telling(self))
                part.replace(folder)
            except OSError:
                # Another process may have been faster; whatever else it is, the folder is not there.
                if not folder.is_dir():
                    raise
        return folder

    def seen(self) -> tuple[str, int, int]:
        """What changes when something arrives: not every file system tells of it, nor writes as it reads."""
        held = 0
        with contextlib.suppress(OSError):  # renamed meanwhile
            held = sum(path.stat().st_size for path in ([] if self.part is None else self.part.iterdir()))
        return self.file, self.heard, held

    def clean(self) -> None:
        """Delete what is half fetched."""
        if self.part is not None:
            shutil.rmtree(self.part, ignore_errors=True)


def _telling(fetch: _Fetch) -> Any:
    """Return a callback of fsspec that tells a fetch what arrives."""
    from fsspec.callbacks import Callback

    class Telling(Callback):
        def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
            fetch.heard += 1

    return Telling()
