"""Models that lie in a folder of some file system of fsspec (``s3://``, ``memory://``, …), fetched to this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import ModelError


def is_url(place: str) -> bool:
    """Whether a place is a URL, no path and no hub id."""
    return "://" in place


def password_of(place: str) -> str | None:
    """Return the password that a URL holds."""
    return urlsplit(place).password if is_url(place) else None


def without_user(place: str) -> str:
    """Return a URL without user and password, as others may see it; any other place as it is."""
    if not is_url(place) or "@" not in urlsplit(place).netloc:
        return place
    parts = urlsplit(place)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def fetch(url: str, patterns: Sequence[str]) -> Path:
    """Copy the files of a folder to a cache, once for each state that the folder is in.

    Args:
        url: URL of the folder.
        patterns: Names of the files that are wanted.

    Returns:
        The copy; of ``file://`` the folder itself.

    Raises:
        ModelError: The file system is unknown or out of reach, or there is no such folder.
    """
    import fsspec
    from huggingface_hub import constants

    try:
        system, place = fsspec.core.url_to_fs(url)
        if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
            return Path(place)
        system.invalidate_cache()
        listed: list[Any] = [one for one in system.ls(place, detail=True) if one["type"] == "file"]
        wanted = {one["name"].rsplit("/", 1)[-1]: one for one in listed}
        wanted = {name: one for name, one in wanted.items() if any(fnmatchcase(name, each) for each in patterns)}
        state = json.dumps(
            [url, sorted((name, one["size"], str(system.ukey(one["name"]))) for name, one in wanted.items())]
        )
        folder = Path(constants.HF_HOME) / "nlp_transfer" / hashlib.sha256(state.encode()).hexdigest()[:24]
        if not folder.is_dir():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for name, one in wanted.items():
                system.get_file(one["name"], str(part / name))
            part.replace(folder)
    except (OSError, ImportError, ValueError) as error:
        raise ModelError(f"model '{url}' cannot be fetched: {error or type(error).__name__}") from error
    return folder
