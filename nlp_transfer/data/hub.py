"""One split of a data set of the hub, at one commit, given up when nothing arrives any more."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import datasets

from ..background import QUIET, NotYet, Pending, wait_while_heard

MAIN = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class RefusedError(Exception):
    """The hub has answered, and says no: there is nothing to wait for."""


def load_hub_split(hub_id: str, config: str | None, split: str, revision: str | None) -> Any:
    """Load a split by ``datasets``, which waits without end for a server that says nothing.

    The commit is asked for first: ``datasets`` is then given that, all its requests are about one state of the data
    set, and it asks no other server (for ``main`` it asks datasets-server, up to 100 s).

    Args:
        hub_id: Hub id of the data set.
        config: Its configuration.
        split: Its split.
        revision: Branch, tag or commit.

    Returns:
        What ``datasets.load_dataset`` returns; where the hub cannot be reached, what an earlier call left in its cache.

    Raises:
        RefusedError: The hub has no such data set or revision, or none that may be read.
        TimeoutError: For :data:`~nlp_transfer.background.QUIET` seconds nothing has arrived in the caches.
        FileNotFoundError: The hub cannot be reached, and the cache holds another commit than the revision that was
            asked for, which ``datasets`` would give all the same.
    """
    try:
        commit = commit_of(hub_id, revision)
    except Exception as error:
        if not unreachable(error):
            raise
        commit = None

    def load() -> Any:
        return datasets.load_dataset(hub_id, config, split=split, revision=revision if commit is None else commit)

    try:
        loaded = wait_while_heard(Pending(f"load {hub_id}", load), lambda: _held(hub_id), QUIET)
    except NotYet:
        raise TimeoutError(f"nothing has arrived for {QUIET:.0f} s") from None
    # Whatever goes wrong, `datasets` falls back to the commit that was loaded last, of any revision.
    expected = _noted(hub_id, revision or MAIN) if commit is None else commit
    held = _commit_held(loaded)
    if expected is not None and held is not None and held != expected:
        raise FileNotFoundError(
            f"the hub does not give commit {expected[:12]}, and the cache gives what was loaded last, {held[:12]}"
        )
    return loaded


def commit_of(hub_id: str, revision: str | None) -> str:
    """Return the commit of a data set that a revision stands for, as the hub says now.

    Args:
        hub_id: Hub id of the data set.
        revision: Branch, tag or commit; None for the main branch.

    Raises:
        RefusedError: The hub has no such data set or revision, or none that may be read.
        TimeoutError: It does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    def ask() -> str:
        try:
            return str(HfApi().dataset_info(hub_id, revision=revision, timeout=QUIET).sha)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            # The client keeps connections; one that was closed meanwhile shows only when it is used.
            return str(HfApi().dataset_info(hub_id, revision=revision, timeout=QUIET).sha)

    try:
        commit = Pending(f"look up {hub_id}", ask).wait(QUIET)
    except NotYet:
        raise TimeoutError(f"no answer within {QUIET:.0f} s") from None
    except GatedRepoError:
        raise RefusedError("it is gated: ask for access on its page, then log in (hf auth login)") from None
    except RepositoryNotFoundError:
        why = "the hub has no data set of this name, or none that you may read (a private one needs hf auth login)"
        raise RefusedError(why) from None
    except RevisionNotFoundError:
        raise RefusedError(f"the data set has no revision '{revision}'") from None
    if revision != commit:
        _note(hub_id, revision or MAIN, commit)
    return commit


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, whose files never change, and no branch or tag."""
    return _COMMIT.fullmatch(revision) is not None


def unreachable(error: Exception) -> bool:
    """Whether an error is that of a network, or of a server in trouble, and not an answer."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, httpx.TransportError | ConnectionError | TimeoutError)


def _folder(hub_id: str) -> Path:
    """Where the hub's client keeps what it has fetched of a data set."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="dataset")


def _note(hub_id: str, revision: str, commit: str) -> None:
    """Keep what a branch or tag stands for where the hub's client keeps it, too: it is not told, but given the commit.

    Without a network it tells which commit of the cache is the one that is asked for.
    """
    path = _folder(hub_id) / "refs" / revision
    with contextlib.suppress(OSError):  # a cache that cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit, encoding="utf8")


def _noted(hub_id: str, revision: str) -> str | None:
    if is_commit(revision):
        return revision
    with contextlib.suppress(OSError):
        return (_folder(hub_id) / "refs" / revision).read_text(encoding="utf8").strip()
    return None


def _commit_held(loaded: Any) -> str | None:
    """Return the commit of what ``datasets`` loaded, which is in the path of its cache; None where it is not."""
    files = getattr(loaded, "cache_files", None) or []
    folder = Path(files[0]["filename"]).parent.name if files else ""
    return folder if is_commit(folder) else None


def _held(hub_id: str) -> int:
    """Blocks on the disk of what is downloaded, and of the tables that are made of it (and of other data sets)."""
    blocks = 0
    for root in (_folder(hub_id), Path(datasets.config.HF_DATASETS_CACHE)):
        # Path.rglob ends with an error where a folder is renamed meanwhile.
        for folder, _, names in os.walk(root):
            for name in names:
                with contextlib.suppress(OSError):
                    blocks += os.lstat(os.path.join(folder, name)).st_blocks  # noqa: PTH118
    return blocks
