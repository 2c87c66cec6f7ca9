"""Pointing the real hub client at the stand-in, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import TOKEN, Hub, Repo
from stand_in_xet import XetStore


def use(hub_url: str, patch: pytest.MonkeyPatch, cache: Path, token: str | None = TOKEN) -> None:
    """Let huggingface_hub ask another server, with another token and an empty cache, by plain LFS."""
    from huggingface_hub import constants, hf_api

    settings = {
        "ENDPOINT": hub_url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub_url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(cache),
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cache / "no-token"),
        "HF_STORED_TOKENS_PATH": str(cache / "no-tokens"),
    }
    for name, value in settings.items():
        patch.setattr(constants, name, value)
    patch.setattr(hf_api.api, "endpoint", hub_url)
    # Read by hf_xet when it is first used: what it writes beside a store, and how long it waits to try again.
    patch.setenv("HF_XET_CACHE", str(cache / "xet"))
    patch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "10ms")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)


def by_xet(hub: Hub, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let large files go by Xet, to an empty store in a folder."""
    pytest.importorskip("hf_xet")
    patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    patch.setattr(hub, "xet", XetStore(folder))


def make(hub: Hub, repo: str, files: dict[str, bytes], public: bool = False) -> None:
    """Put a repository onto the hub."""
    hub.repos[repo] = Repo(not public)
    hub.repos[repo].commit(files)


def put(hub: Hub, repo: str, folder: Path) -> None:
    """Put a model folder onto the hub, for everyone."""
    make(hub, repo, {path.name: path.read_bytes() for path in folder.iterdir()}, public=True)


def meanwhile(hub: Hub, patch: pytest.MonkeyPatch, repo: str) -> None:
    """Let someone else push to a repository just before our commit arrives."""
    from huggingface_hub import HfApi

    commit = HfApi.create_commit

    def late(self: HfApi, *args: Any, **settings: Any) -> Any:
        hub.repos[repo].commit(hub.repos[repo].files | {"other.txt": b"theirs"})
        return commit(self, *args, **settings)

    patch.setattr(HfApi, "create_commit", late)


def with_data_sets(patch: pytest.MonkeyPatch, cache: Path) -> list[str]:
    """Let ``datasets`` ask the server of :func:`use`, with an empty cache; return the other hosts that it looks up."""
    import socket

    import datasets
    from huggingface_hub import constants

    settings = {
        "HF_ENDPOINT": constants.ENDPOINT,
        "HUB_DATASETS_URL": constants.ENDPOINT + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_OFFLINE": False,
        "HF_DATASETS_CACHE": cache / "tables",
        "DOWNLOADED_DATASETS_PATH": cache / "downloads",
        "HF_MODULES_CACHE": cache / "modules",
    }
    for name, value in settings.items():
        patch.setattr(datasets.config, name, value)
    patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 3)
    others: list[str] = []
    real = socket.getaddrinfo

    def guarded(host: Any, *args: Any, **options: Any) -> Any:
        if host in ("127.0.0.1", "localhost"):
            return real(host, *args, **options)
        others.append(str(host))
        raise socket.gaierror(-2, "Name or service not known")

    patch.setattr(socket, "getaddrinfo", guarded)
    return others


def publish(hub: Hub, repo: str, files: dict[str, bytes]) -> str:
    """Put a commit of a data set onto the hub, for everyone; return the commit."""
    return hub.repos.setdefault(f"datasets/{repo}", Repo(False)).commit(files)


def settle(hub: Hub) -> None:
    """Let the threads end that were left behind: one that finds no server closes the client that all of them share."""
    import threading

    hub.faults.clear()
    for thread in threading.enumerate():
        if thread.name.startswith(("stream ", "load ", "look up ")):
            thread.join(20)
