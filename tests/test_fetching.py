"""Folders of other file systems: fetched once for each state, whole or not at all, and given up when they are mute."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import constants

from nlp_transfer import fetching
from nlp_transfer.errors import ModelError
from nlp_transfer.fetching import fetch

URL = "memory://shelf/model"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a folder on a shelf with three files, two of which are wanted."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    system = fsspec.filesystem("memory")
    for name, content in (("config.json", b"{}"), ("model.safetensors", b"weights"), ("notes.txt", b"")):
        system.pipe_file(f"/shelf/model/{name}", content)
    yield tmp_path / "nlp_transfer"
    system.rm("/shelf", recursive=True)


def wanted() -> Path:
    return fetch(URL, ["*.json", "*.safetensors"])


def test_a_folder_is_fetched_once_for_each_state(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = wanted()
    assert {path.name for path in first.iterdir()} == {"config.json", "model.safetensors"}
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", None)
        assert wanted() == first
    fsspec.filesystem("memory").pipe_file("/shelf/model/model.safetensors", b"other weights")
    second = wanted()
    assert second != first
    assert (second / "model.safetensors").read_bytes() == b"other weights"
    assert sorted(cache.iterdir()) == sorted([first, second]), "nothing half fetched"


def test_what_another_process_has_fetched_meanwhile_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.replace

    def late(self: Path, target: Path) -> Any:
        target.mkdir()
        (target / "theirs").write_text("")
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", late)
    found = wanted()
    assert [path.name for path in found.iterdir()] == ["theirs"]
    assert list(cache.iterdir()) == [found]


def test_a_broken_fetch_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **settings: Any) -> None:
        raise OSError("the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", broken)
        with pytest.raises(ModelError, match=f"model '{URL}' cannot be fetched: the line is dead"):
            wanted()
    assert not list(cache.iterdir())
    assert wanted().is_dir()


@pytest.mark.parametrize(("call", "file"), [("ls", "its list of files"), ("get_file", "config.json")])
def test_a_mute_store_is_given_up(cache: Path, call: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(MemoryFileSystem, call, lambda *args, **settings: over.wait(60))
    monkeypatch.setattr(fetching, "QUIET", 0.2)
    try:
        with pytest.raises(ModelError, match=rf"cannot be fetched: nothing of {file} has arrived for 0 s\. Try again"):
            wanted()
        assert not [*cache.glob("*")], "nothing half fetched"
    finally:
        over.set()


@pytest.mark.parametrize("told", [False, True])
def test_a_slow_store_is_waited_for(cache: Path, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def trickling(self: Any, source: str, target: str, callback: Any, **settings: Any) -> None:
        content = self.cat_file(source)
        for at in range(1, 7):
            over.wait(0.3)
            if told:
                callback.relative_update(1)
            else:
                Path(target).write_bytes(content + b" " * at)
        Path(target).write_bytes(content)

    over = threading.Event()
    monkeypatch.setattr(MemoryFileSystem, "get_file", trickling)
    monkeypatch.setattr(fetching, "QUIET", 1.5)
    assert (wanted() / "model.safetensors").read_bytes() == b"weights"


def test_a_password_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems quote whole URLs in their errors."""
    url = "memory://ada:hunter2@shelf/model"

    def telling(*args: Any, **settings: Any) -> None:
        raise FileNotFoundError(f"{url}/config.json; hunter2")

    monkeypatch.setattr(MemoryFileSystem, "ls", telling)
    with pytest.raises(ModelError, match=r"memory://shelf/model/config\.json; …") as caught:
        fetch(url, ["*"])
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
