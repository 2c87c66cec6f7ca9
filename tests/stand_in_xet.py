"""The store of large files that the stand-in hub has in Xet mode: the local one that the client's own library brings.

The client cuts files into chunks and packs them just as it does for the real store, but writes to a folder. That this
folder can be named as ``local://`` is written nowhere but in the library, and may change with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

ENTRY = 48
"""Bytes of every entry of a shard."""
VERIFIED, WITH_SHA256 = 1 << 31, 1 << 30
"""Flags of a file: each of its segments has a hash of its own; its sha256 comes last."""
LIFETIME = 3600


class XetStore:
    """Files by their sha256, as a hub asks for them; the store itself knows only hashes of its own.

    Args:
        folder: What was uploaded lies here.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = f"local://{folder}"

    def token(self) -> tuple[dict[str, str | int], dict[str, str]]:
        """What a client needs to go to the store: as a body, for uploads, and as headers, for downloads."""
        expires = int(time.time()) + LIFETIME
        body: dict[str, str | int] = {"casUrl": self.url, "accessToken": "xet", "exp": expires}
        names = ("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration")
        return body, dict(zip(names, map(str, body.values()), strict=True))

    def hash_of(self, sha256: str) -> str | None:
        """The store's hash of a file; None of one that was never uploaded whole."""
        shards = (self.folder / "xet" / "xorbs" / "shards").glob("*.mdb")
        return next((found for shard in shards for known, found in files_of(shard) if known == sha256), None)

    def read(self, sha256: str) -> bytes | None:
        """A file, through the client's own download."""
        found = self.hash_of(sha256)
        if found is None:
            return None
        from hf_xet import XetFileInfo, XetSession

        target = self.folder / sha256
        settings = {"endpoint": self.url, "token": "xet", "token_expiry_unix_secs": int(time.time()) + LIFETIME}
        with XetSession().new_file_download_group(**settings) as group:
            group.start_download_file(XetFileInfo(found, None), str(target))
        return target.read_bytes()


def files_of(shard: Path) -> Iterator[tuple[str, str]]:
    """Sha256 and the store's hash of each file that a shard lists: its entries come first, up to one of all ones."""
    content = shard.read_bytes()
    at = ENTRY
    while (head := content[at : at + ENTRY])[:32] != b"\xff" * 32:
        flags, segments = (int.from_bytes(head[start : start + 4], "little") for start in (32, 36))
        at += ENTRY * (1 + segments * (2 if flags & VERIFIED else 1))
        if flags & WITH_SHA256:
            yield as_hex(content[at : at + 32]), as_hex(head[:32])
            at += ENTRY


def as_hex(stored: bytes) -> str:
    """A hash as it is written: four numbers of eight bytes, of which the lowest is stored first."""
    return "".join(stored[start : start + 8][::-1].hex() for start in range(0, 32, 8))
