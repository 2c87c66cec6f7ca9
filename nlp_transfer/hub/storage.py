"""A push to any file system of fsspec: ``file://``, ``memory://``, ``s3://`` with the user's own s3fs.

No such place has commits. So everything is written beside the target first, read back and compared, and only then put
in its place; what was there before is deleted last.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import HubError, listing
from ..fetching import told, without_user
from . import calls
from .files import RECORD, PushFile, allowed


def push_to_storage(url: str, files: Sequence[PushFile], replace: bool) -> str:
    """Write files to a folder of a file system.

    Args:
        url: URL of the folder.
        files: All of them.
        replace: Replace the model that the folder holds.

    Returns:
        The URL.

    Raises:
        HubError: The file system is unknown or cannot be written, or the folder holds something else.
    """
    system, place = open_storage(url)
    shown = without_user(url)
    size = sum(file.size for file in files)
    try:
        calls.call(f"write to {shown}", lambda: _write(system, place, shown, files, replace), size)
    except HubError:
        raise
    except Exception as error:  # Every file system has errors of its own.
        raise HubError(f"'{shown}' cannot be written ({told(error, url)}). The run is as it was: push again.") from None
    return shown


def open_storage(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the place in it.

    Raises:
        HubError: The file system is unknown, refuses, or does not answer in time.
    """
    import fsspec

    shown = without_user(url)
    opened: tuple[Any, str]
    try:
        opened = calls.call(f"open {shown}", lambda: fsspec.core.url_to_fs(url))
    except Exception as error:  # Every file system has errors of its own; some connect here.
        raise HubError(f"'{shown}' cannot be opened: {told(error, url)}") from None
    return opened


def _write(system: Any, place: str, url: str, files: Sequence[PushFile], replace: bool) -> None:
    place = place.rstrip("/")
    system.invalidate_cache()
    taken = system.exists(place) and bool(system.ls(place, detail=False))
    if taken and _holds(system, place, files):
        return
    if taken and not replace:
        raise HubError(f"'{url}' exists and holds something else. Use --replace to replace it, or name another place.")
    if taken:
        _check_ours(url, system.ls(place, detail=True))
    # Names that nobody else has: whatever lies beside the place is not ours to touch.
    above, _, name = place.rpartition("/")
    part, old = (f"{above}/.{name}-{uuid.uuid4().hex}{kind}" for kind in (".part", ".old"))
    try:
        system.makedirs(part, exist_ok=True)
        for file in files:
            system.put_file(str(file.path), f"{part}/{file.name}")
        if not _holds(system, part, files):
            raise HubError(f"'{url}' gives back other bytes than were written. Nothing was replaced; push again.")
        if taken:
            _move(system, place, old)
        else:
            _remove(system, place)
        _put_in_place(system, part, place, old if taken else None, files)
    except BaseException:
        with contextlib.suppress(Exception):
            _remove(system, part)
        raise
    if taken:
        _remove(system, old)


def _check_ours(url: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to replace, and so to delete, anything but what a push has written: its files, and all of them."""
    kinds = {str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]: entry["type"] for entry in entries}
    others = sorted(name for name, kind in kinds.items() if kind != "file" or not allowed(name))
    missing = sorted({*RECORD} - kinds.keys())
    if others or missing:
        what = f"what no push has written ({listing(others, 3)})" if others else f"no pushed model (no {missing[0]})"
        raise HubError(f"'{url}' holds {what}, and replacing would delete it. Name a folder of the model's own.")


def _put_in_place(system: Any, part: str, place: str, old: str | None, files: Sequence[PushFile]) -> None:
    """Move the new folder to its place; where that fails, what was there is put back."""
    try:
        _move(system, part, place)
        # Object stores move by copying; and listings of before are not to be believed.
        system.invalidate_cache()
        if not _holds(system, place, files):
            raise HubError("other bytes arrived than were moved there; push again.")
    except BaseException:
        _remove(system, place)
        if old is not None:
            _move(system, old, place)
        raise


def _move(system: Any, source: str, target: str) -> None:
    """Move a folder that holds files alone; where that fails, what has gone already comes back.

    On this machine at once. Elsewhere file by file: object stores have no folders, and moving one recursively asks
    fsspec to copy a key that is not there.
    """
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        system.mv(source, target, recursive=True)
        return
    system.makedirs(target, exist_ok=True)
    names = [path.rstrip("/").rsplit("/", 1)[-1] for path in system.ls(source, detail=False)]
    moved: list[str] = []
    try:
        for name in names:
            system.mv(f"{source}/{name}", f"{target}/{name}")
            moved.append(name)
    except BaseException:
        for name in moved:
            system.mv(f"{target}/{name}", f"{source}/{name}")
        raise
    _remove(system, source)


def _remove(system: Any, place: str) -> None:
    if system.exists(place):
        system.rm(place, recursive=True)


def _holds(system: Any, place: str, files: Sequence[PushFile]) -> bool:
    """Whether a folder holds these files, byte for byte, and no others."""
    names = {path.rsplit("/", 1)[-1] for path in system.ls(place, detail=False)}
    if names != {file.name for file in files}:
        return False
    return all(_sha256(system, f"{place}/{file.name}") == file.sha256 for file in files)


def _sha256(system: Any, path: str) -> str:
    with system.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
