"""What the first pass over a streamed corpus has found, kept: a commit never changes, so one pass over it is enough."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import constants

from ..whole import write_text
from .corpus import Corpus, check_corpus
from .streamed import Stream


@dataclass(frozen=True)
class Seen:
    """A streamed corpus as it was checked.

    Args:
        asked: What was asked for, as :func:`asked` returns it.
        commit: The commit that was read.
        rows: Number of its texts.
        fingerprint: SHA-256 (hex) over them.
    """

    asked: dict[str, Any]
    commit: str
    rows: int
    fingerprint: str


def asked(stream: Stream) -> dict[str, Any]:
    """Return what a corpus follows from: everything but its place in the recipe."""
    return {key: value for key, value in asdict(stream).items() if key != "name"}


def look(stream: Stream) -> Seen:
    """Pin the commit of a corpus, and check and count its rows, unless another run on this machine has done it.

    Raises:
        DataError: The stream breaks off, or rows in it are bad: the first 20 are shown.
    """
    commit = stream.commit()
    note = _note(stream, commit)
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Seen(asked(stream), commit, **json.loads(note.read_text(encoding="utf8")))
    found = check_corpus(_corpus(stream, lambda: stream.read(commit)))
    with contextlib.suppress(OSError):  # a cache that cannot be written: the next run looks again
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps({"rows": found.rows, "fingerprint": found.fingerprint}))
    return Seen(asked(stream), commit, found.rows, found.fingerprint)


def probe(stream: Stream, rows: int) -> tuple[str, int]:
    """Check the first rows of a corpus; return its commit and how many were read."""
    commit = stream.commit()
    return commit, len(check_corpus(_corpus(stream, lambda: stream.read(commit, rows))))


def opened(stream: Stream, seen: Seen) -> Corpus:
    """Return a corpus that was checked; nothing is read before its texts are."""
    corpus = _corpus(stream, lambda: stream.read(seen.commit))
    forget = partial(_forget, _note(stream, seen.commit))
    return replace(corpus, rows=seen.rows, fingerprint=seen.fingerprint, streamed=True, changed=forget)


def _forget(note: Path) -> None:
    with contextlib.suppress(OSError):  # of a cache that cannot be written
        note.unlink(missing_ok=True)


def _corpus(stream: Stream, read: Callable[[], Any]) -> Corpus:
    return Corpus(stream.name, stream.origin, read)


def _note(stream: Stream, commit: str) -> Path:
    # Another version of the library may read the same files in another order.
    values = asked(stream) | {"revision": commit, "hub": constants.ENDPOINT, "datasets": datasets.__version__}
    key = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]
    return Path(constants.HF_HOME) / "nlp_transfer" / "corpora" / f"{key}.json"
