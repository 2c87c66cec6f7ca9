"""Which files may leave this machine, and what must not be in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import HubError

MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", "nlp_transfer.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
)
"""Of a model folder: weights, configuration, tokenizer and label names. No pickles, no states of an optimizer."""

RECORD = ("recipe.yaml", "metrics.json", "README.md")
"""Of the run: every push holds these."""

ALLOWED = (*MODEL_FILES, *RECORD, "report.html")
"""All that a push may hold."""

CHUNK = 1 << 22


@dataclass(frozen=True)
class PushFile:
    """A file of a push.

    Args:
        name: Its path in the repository.
        path: Where it lies here.
        size: In bytes.
        sha256: By which large files are known.
        blob: Git's own hash, by which small ones are.
    """

    name: str
    path: Path
    size: int
    sha256: str
    blob: str

    @property
    def checksums(self) -> tuple[str, str]:
        """What a repository may call this content."""
        return self.sha256, self.blob


def allowed(name: str) -> bool:
    """Whether a push may hold a file of this name, which is in no folder."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in ALLOWED)


def list_files(folder: Path, secrets: Sequence[str], private: Sequence[str]) -> list[PushFile]:
    """List and hash the files of a push, sorted by name.

    Args:
        folder: Folder that holds exactly what is to be pushed.
        secrets: Tokens; none may occur in any file.
        private: Paths of this machine; none may occur in any text.

    Raises:
        HubError: A file is of a kind that is never pushed, or holds what must not leave this machine.
    """
    found = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        name = path.relative_to(folder).as_posix()
        if not allowed(name):
            raise HubError(f"'{name}' is of a kind that is never pushed. Allowed: {', '.join(ALLOWED)}.")
        if any(_holds(path, secret) for secret in secrets):
            raise HubError(
                f"'{name}' holds your hub token, so nothing is pushed. Remove it there, and make a new token."
            )
        leaks = [place for place in private if not _learned(name) and _names(path, place)]
        if leaks:
            raise HubError(f"'{name}' names the path '{leaks[0]}' of this machine, so nothing is pushed.")
        found.append(hash_file(name, path))
    return found


def hash_file(name: str, path: Path) -> PushFile:
    """Return a file with its checksums.

    Args:
        name: Its path in a repository.
        path: Where it lies here.
    """
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    for chunk in _chunks(path):
        sha256.update(chunk)
        blob.update(chunk)
    return PushFile(name, path, size, sha256.hexdigest(), blob.hexdigest())


def same_content(files: Sequence[PushFile], remote: Mapping[str, str]) -> bool:
    """Whether a repository holds these files, and none beside them that a push would remove.

    Args:
        files: Of a push.
        remote: Checksum of each file in the repository.
    """
    whole = all(remote.get(file.name) in file.checksums for file in files)
    return whole and not leftovers(files, remote)


def leftovers(files: Sequence[PushFile], remote: Mapping[str, str]) -> list[str]:
    """Return the files of an earlier push that this one does not hold: old weights beside new ones would be loaded."""
    own = {file.name for file in files}
    return sorted(name for name in remote if name not in own and allowed(name))


def _learned(name: str) -> bool:
    """Whether a file holds numbers, or pieces of any words that there are."""
    return name.endswith((".safetensors", ".model")) or name.startswith(("tokenizer.json", "vocab.", "merges."))


def _names(path: Path, place: str) -> bool:
    """Whether a file holds a path, as it is or as JSON writes it."""
    return any(_holds(path, text) for text in {place, json.dumps(place)[1:-1]})


def _holds(path: Path, text: str) -> bool:
    wanted, before = text.encode(), b""
    for chunk in _chunks(path):
        if wanted in before + chunk:
            return True
        before = chunk[-len(wanted) :]
    return False


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
