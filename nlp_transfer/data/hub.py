"""One split of a data set of the hub, given up when nothing arrives any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from ..background import QUIET, NotYet, Pending, wait_while_heard


def load_hub_split(hub_id: str, config: str | None, split: str, revision: str | None) -> Any:
    """Load a split by ``datasets``, which waits without end for a server that says nothing.

    Args:
        hub_id: Hub id of the data set.
        config: Its configuration.
        split: Its split.
        revision: Branch, tag or commit.

    Returns:
        What ``datasets.load_dataset`` returns.

    Raises:
        TimeoutError: For :data:`~nlp_transfer.background.QUIET` seconds nothing has arrived in the caches.
    """

    def load() -> Any:
        return datasets.load_dataset(hub_id, config, split=split, revision=revision)

    try:
        return wait_while_heard(Pending(f"load {hub_id}", load), lambda: _held(hub_id), QUIET)
    except NotYet:
        raise TimeoutError(f"nothing has arrived for {QUIET:.0f} s") from None


def _held(hub_id: str) -> int:
    """Blocks on the disk of what is downloaded, and of the tables that are made of it (and of other data sets)."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    downloads = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="dataset")
    blocks = 0
    for folder in (downloads, Path(datasets.config.HF_DATASETS_CACHE)):
        for path in folder.rglob("*"):
            try:
                blocks += path.lstat().st_blocks
            except OSError:
                continue  # renamed meanwhile
    return blocks
