"""A push to a file system: what was there before, what lies beside it, and what others may read of the URL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from helpers import recipe_data

from nlp_transfer.errors import HubError
from nlp_transfer.fetching import password_of, without_user
from nlp_transfer.hub.files import PushFile, list_files
from nlp_transfer.hub.package import public_recipe
from nlp_transfer.hub.push import _private
from nlp_transfer.hub.storage import push_to_storage
from nlp_transfer.parts import recipe_from
from nlp_transfer.recipe import dump


def package(folder: Path, text: str) -> list[PushFile]:
    folder.mkdir()
    for name in ("config.json", "README.md", "metrics.json", "recipe.yaml"):
        (folder / name).write_text(text)
    return list_files(folder, [], [])


def test_what_lies_beside_the_place_is_not_touched(tmp_path: Path) -> None:
    place = tmp_path / "models/mine"
    for beside in ("mine.old", "mine.part", ".mine.part"):
        (tmp_path / "models" / beside).mkdir(parents=True)
        (tmp_path / "models" / beside / "precious.txt").write_text("")
    for number in range(2):
        push_to_storage(place.as_uri(), package(tmp_path / str(number), f"{number}"), replace=True)
    assert (place / "config.json").read_text() == "1"
    left = {path.relative_to(tmp_path / "models").as_posix() for path in (tmp_path / "models").rglob("*.*")}
    kept = {f"{beside}{end}" for beside in ("mine.old", "mine.part", ".mine.part") for end in ("", "/precious.txt")}
    assert left == kept | {f"mine/{name}" for name in ("config.json", "README.md", "metrics.json", "recipe.yaml")}


def test_what_is_no_pushed_model_is_not_replaced(tmp_path: Path) -> None:
    """The folder of a run's model/ holds only files that a push may hold, too."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text("precious")
    with pytest.raises(HubError, match=r"holds no pushed model \(no README\.md\)"):
        push_to_storage(place.as_uri(), package(tmp_path / "new", "new"), replace=True)
    assert (place / "config.json").read_text() == "precious"


@pytest.mark.parametrize("name", ["notes.txt", "checkpoint-1/model.safetensors"])
def test_what_no_push_has_written_is_not_replaced(name: str, tmp_path: Path) -> None:
    place = tmp_path / "models"
    push_to_storage(place.as_uri(), package(tmp_path / "first", "first"), replace=False)
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_text("precious")
    with pytest.raises(HubError, match=f"holds what no push has written \\({name.split('/')[0]}\\)"):
        push_to_storage(place.as_uri(), package(tmp_path / "second", "second"), replace=True)
    assert (place / name).read_text() == "precious"
    assert (place / "config.json").read_text() == "first"


def test_what_arrives_in_the_end_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Object stores move by copying, and copying may lose bytes."""
    place = tmp_path / "models/mine"
    push_to_storage(place.as_uri(), package(tmp_path / "first", "first"), replace=False)
    plain = LocalFileSystem.mv

    def losing(self: Any, source: str, target: str, **settings: Any) -> None:
        plain(self, source, target, **settings)
        if source.endswith(".part"):
            Path(target, "config.json").write_text("half")

    monkeypatch.setattr(LocalFileSystem, "mv", losing)
    with pytest.raises(HubError, match="other bytes arrived"):
        push_to_storage(place.as_uri(), package(tmp_path / "second", "second"), replace=True)
    assert (place / "config.json").read_text() == "first"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]


def test_object_stores_have_no_folders_to_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MemoryFileSystem.mv

    def by_keys(self: Any, source: str, target: str, recursive: bool = False, **settings: Any) -> None:
        if recursive:
            raise FileNotFoundError("The specified key does not exist.")
        plain(self, source, target, **settings)

    monkeypatch.setattr(MemoryFileSystem, "mv", by_keys)
    for number in range(2):
        push_to_storage("memory://keys/mine", package(tmp_path / str(number), f"{number}"), replace=True)
    system = MemoryFileSystem()
    assert system.cat("/keys/mine/config.json") == b"1"
    assert [entry["name"] for entry in system.ls("/keys", detail=True)] == ["/keys/mine"]


def test_a_move_that_stops_half_way_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url, plain = "memory://halfway/mine", MemoryFileSystem.mv
    push_to_storage(url, package(tmp_path / "first", "first"), replace=False)

    def failing(self: Any, source: str, target: str, **settings: Any) -> None:
        if source.endswith("mine/metrics.json"):
            raise OSError("the network went away")
        plain(self, source, target, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "mv", failing)
        with pytest.raises(HubError, match="the network went away"):
            push_to_storage(url, package(tmp_path / "second", "second"), replace=True)
    held = {path.rsplit("/", 1)[-1] for path in MemoryFileSystem().ls("/halfway/mine", detail=False)}
    assert held == {"config.json", "README.md", "metrics.json", "recipe.yaml"}
    assert MemoryFileSystem().cat("/halfway/mine/config.json") == b"first"


def test_a_push_that_failed_to_arrive_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, plain = tmp_path / "models/mine", LocalFileSystem.mv

    def losing(self: Any, source: str, target: str, **settings: Any) -> None:
        plain(self, source, target, **settings)
        Path(target, "config.json").write_text("half")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "mv", losing)
        with pytest.raises(HubError, match="push again"):
            push_to_storage(place.as_uri(), package(tmp_path / "first", "first"), replace=False)
    push_to_storage(place.as_uri(), package(tmp_path / "again", "first"), replace=False)
    assert (place / "config.json").read_text() == "first"


def test_listings_of_before_the_move_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems keep what a folder held, and forget it only when they are told to."""
    place, held = tmp_path / "models/mine", {}
    plain = LocalFileSystem.ls

    def remembering(self: Any, path: str, detail: bool = False, **settings: Any) -> Any:
        return held.setdefault((path, detail), plain(self, path, detail=detail, **settings))

    monkeypatch.setattr(LocalFileSystem, "ls", remembering)
    monkeypatch.setattr(LocalFileSystem, "invalidate_cache", lambda self, path=None: held.clear())
    push_to_storage(place.as_uri(), package(tmp_path / "first", "first"), replace=False)
    files = package(tmp_path / "second", "second")
    (tmp_path / "second/vocab.txt").write_text("one more")
    files = list_files(tmp_path / "second", [], [])
    push_to_storage(place.as_uri(), files, replace=True)
    assert (place / "vocab.txt").read_text() == "one more"


def test_a_path_is_found_as_json_writes_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"from": "/home/müller/x"}))
    for private in ("/home/müller/", "/home/m"):
        with pytest.raises(HubError, match=f"names the path '{private}'"):
            list_files(tmp_path, [], [private])


def test_what_was_there_is_put_back_where_the_last_move_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "models/mine"
    push_to_storage(place.as_uri(), package(tmp_path / "first", "first"), replace=False)
    plain, moves = LocalFileSystem.mv, []

    def failing(self: Any, source: str, target: str, **settings: Any) -> None:
        moves.append(source)
        if source.endswith(".part"):
            raise OSError("the disk went away")
        plain(self, source, target, **settings)

    monkeypatch.setattr(LocalFileSystem, "mv", failing)
    with pytest.raises(HubError, match="the disk went away"):
        push_to_storage(place.as_uri(), package(tmp_path / "second", "second"), replace=True)
    assert any(source.endswith(".part") for source in moves)
    assert (place / "config.json").read_text() == "first"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]


def test_user_and_password_of_a_url_stay_here() -> None:
    assert without_user("ftp://me:secret@host:21/m") == "ftp://host:21/m"
    assert without_user("simplecache::ftp://me:secret@host/m") == "simplecache::ftp://host/m"
    assert without_user("s3://bucket/a@b:c") == "s3://bucket/a@b:c"
    assert password_of("model.id=ftp://me:a%40b@host/m") == "a@b" and password_of("odd://[b") is None
    assert password_of("ftp://me:secret@host:21/m") == "secret"
    for place in ("s3://bucket/m", "owner/name", "file:///models/m"):
        assert without_user(place) == place and password_of(place) is None


def test_a_published_recipe_names_no_place_of_this_machine() -> None:
    method = {"name": "anchor", "teacher": ["/home/me/runs/teacher", "~/other", "file:///models/third", "owner/fourth"]}
    recipe = recipe_from(recipe_data(Path("/home/me/run"), Path("/home/me/base"), methods=(method,)))
    published = public_recipe(recipe)
    assert published.methods[0].settings["teacher"] == ["teacher", "other", "third", "owner/fourth"]
    text = dump(published)
    assert "/home" not in text and "~" not in text and "file:" not in text


def test_a_home_folder_that_is_everything_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record: Any = type("Record", (), {"folder": tmp_path})()
    monkeypatch.setenv("HOME", "/")
    assert _private(record) == [str(tmp_path.resolve())]
    monkeypatch.setenv("HOME", "/home/me")
    assert _private(record) == [str(tmp_path.resolve()), "/home/me/"]
