"""Files of the hub, fetched to its cache: given up when nothing arrives any more, however large or slow they are.

``huggingface_hub`` bounds what it fetches by HTTP. What it fetches by Xet, a library of its own, it waits for until
that gives up, which takes many minutes with a store that does not answer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .background import QUIET, NotYet, Pending, wait_while_heard

SHOWN = 10**7
"""Bytes from which on a file has a progress bar."""


class StalledError(Exception):
    """Nothing arrives any more; says of which file, and what may help."""


@dataclass(frozen=True)
class Wanted:
    """What is fetched.

    Args:
        model_id: Hub id.
        revision: Branch, tag or commit that was asked for; None for the main branch.
        commit: The commit that it is.
        files: Names of files of the commit.
        timeout: Seconds that the hub may take to tell where a file is.
    """

    model_id: str
    revision: str | None
    commit: str
    files: Sequence[str]
    timeout: float


def by_xet() -> bool:
    """Whether the client sends and fetches large files by Xet."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


def pull(wanted: Wanted) -> Path:
    """Fetch a model of the hub to the cache, as ``snapshot_download`` does, but give up when nothing arrives any more.

    Args:
        wanted: What is fetched.

    Returns:
        The folder in the cache.

    Raises:
        StalledError: For :data:`~nlp_transfer.background.QUIET` seconds nothing has arrived.
    """
    work = _Pull(wanted)
    pending = Pending(f"pull {wanted.model_id}", work.run)
    try:
        # By HTTP the client tells of 10 MB at a time: of 100 kB a second once in 100 seconds.
        return wait_while_heard(pending, work.seen, QUIET)
    except NotYet:
        raise StalledError(f"nothing of {work.file} has arrived for {QUIET:.0f} s{_advice()}") from None


def _advice() -> str:
    return "; HF_HUB_DISABLE_XET=1 fetches large files by plain HTTP, not by Xet" if by_xet() else ""


class _Pull:
    """One pull under way; the thread that runs it tells what arrives to the one that waits."""

    def __init__(self, wanted: Wanted):
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.wanted = wanted
        folder = repo_folder_name(repo_id=wanted.model_id, repo_type="model")
        self.blobs = Path(constants.HF_HUB_CACHE) / folder / "blobs"
        self.file, self.heard = "its files", 0.0

    def run(self) -> Path:
        """Fetch."""
        from huggingface_hub import hf_hub_download, snapshot_download

        wanted, bars = self.wanted, _bars(self)
        # One by one: the pool of threads of snapshot_download would keep the process alive.
        for name in wanted.files:
            self.file = name
            hf_hub_download(wanted.model_id, name, revision=wanted.commit, etag_timeout=wanted.timeout, tqdm_class=bars)
        # All files are there: this notes which commit the revision is, for when there is no network.
        folder = snapshot_download(
            wanted.model_id,
            revision=wanted.revision,
            allow_patterns=list(wanted.files),
            etag_timeout=wanted.timeout,
        )
        # If the revision has moved meanwhile, it is not the commit whose files these are.
        return Path(folder).with_name(wanted.commit)

    def seen(self) -> tuple[str, float, int]:
        """What changes when something arrives; on the disk also where another process fetches, and this one waits."""
        held = 0
        for path in self.blobs.glob("*"):
            try:
                # Blocks, as a file may have its length before it has its content.
                held += path.stat().st_blocks
            except OSError:
                continue  # renamed meanwhile
        return self.file, self.heard, held


def _bars(pull: _Pull) -> type[Any]:
    """Return the client's progress bar, which tells a pull what arrives; small files show none."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Telling(tqdm):
        def __init__(self, *args: Any, **settings: Any):
            if (settings.get("total") or 0) < SHOWN:
                settings["disable"] = True
            super().__init__(*args, **settings)

        def update(self, n: float | None = 1) -> bool | None:
            pull.heard += n or 0
            return super().update(n)

    return Telling
