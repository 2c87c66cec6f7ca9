"""What can go wrong only where large files go by Xet; the round trip by Xet is among the tests of the hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import hub_client
import pytest
from huggingface_hub import HfApi
from stand_in_hub import TOKEN, Fault, Hub, serving
from stand_in_xet import XetStore

from nlp_transfer import finding, pulling
from nlp_transfer.errors import HubError, ModelError
from nlp_transfer.hub import calls, xet
from nlp_transfer.hub.files import PushFile, list_files
from nlp_transfer.hub.remote import Wish, push_to_hub

PASS = "/xet-write-token/"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with an empty Xet store, with the client pointed at it; nothing waits long."""
    with serving() as server:
        hub_client.use(server.url, monkeypatch, tmp_path / "cache")
        hub_client.by_xet(server, monkeypatch, tmp_path / "xet")
        monkeypatch.setattr(calls, "WAITS", (0.01, 0.01, 0.01))
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(os.urandom(100_000))
    return made


@pytest.fixture
def files(folder: Path) -> list[PushFile]:
    return list_files(folder, [], [])


def send(files: list[PushFile]) -> str:
    return push_to_hub(HfApi(token=TOKEN), Wish("user/x"), files)


def is_pushed(hub: Hub, files: list[PushFile]) -> bool:
    """Whether the files are there, by one commit on top of the hub's own."""
    held = hub.repos["user/x"].files
    return len(hub.repos["user/x"].commits) == 2 and all(held[file.name] == file.path.read_bytes() for file in files)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401", "does not accept your token"),
        ("403", "may not write to 'user'"),
        ("404", r"^the hub at \S+ takes no files by Xet: HF_HUB_DISABLE_XET=1 sends large files by LFS"),
    ],
)
def test_a_refused_pass_is_told_at_once(status: str, message: str, hub: Hub, files: list[PushFile]) -> None:
    hub.faults.append(Fault(PASS, status, times=99))
    with pytest.raises(HubError, match=message):
        send(files)
    assert sum(PASS in line for line in hub.log) == 1
    assert len(hub.repos["user/x"].commits) == 1


def test_a_hub_that_gives_out_no_pass_is_told_and_the_push_can_be_repeated(hub: Hub, files: list[PushFile]) -> None:
    hub.faults.append(Fault(PASS, "503", times=99))
    with pytest.raises(HubError, match=r"pass to the store of large files: the server answers 503\)"):
        send(files)
    assert sum(PASS in line for line in hub.log) == 4
    hub.faults.clear()
    send(files)
    assert is_pushed(hub, files)


@pytest.mark.parametrize("kind", ["503", "lost"])
def test_a_pass_that_the_client_has_to_ask_for_again_changes_nothing(
    kind: str, hub: Hub, files: list[PushFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xet, "check_pass", lambda *args: None)
    hub.faults.append(Fault(PASS, kind))
    send(files)
    assert sum(PASS in line for line in hub.log) == 2
    assert is_pushed(hub, files)


def test_a_store_out_of_reach_is_told_and_the_push_can_be_repeated(
    hub: Hub, files: list[PushFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "WAITS", ())
    assert hub.xet is not None
    monkeypatch.setattr(hub.xet, "url", NOBODY)
    with pytest.raises(HubError, match=r"does not answer \(upload and commit: .*; HF_HUB_DISABLE_XET=1 sends"):
        send(files)
    hub.xet.url = f"local://{hub.xet.folder}"
    send(files)
    assert is_pushed(hub, files)


def test_files_that_cannot_be_written_on_this_machine_are_told(hub: Hub, files: list[PushFile], tmp_path: Path) -> None:
    (tmp_path / "no-folder").touch()
    hub.xet = XetStore(tmp_path / "no-folder" / "xet")
    with pytest.raises(HubError, match=r"cannot be sent to 'user/x': .*[Nn]ot a directory.*; HF_HUB_DISABLE_XET=1"):
        send(files)


def test_by_lfs_no_pass_is_asked_for(hub: Hub, files: list[PushFile], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.xet = None
    send(files)
    assert not [line for line in hub.log if PASS in line]
    assert is_pushed(hub, files)


PUSHING = """
import sys
from pathlib import Path
from huggingface_hub import HfApi
from nlp_transfer.hub import calls
from nlp_transfer.hub.files import list_files
from nlp_transfer.hub.remote import Wish, push_to_hub

calls.DEADLINE, calls.WAITS = 2, ()
push_to_hub(HfApi(), Wish("user/x"), list_files(Path(sys.argv[1]), [], []))
"""


def in_a_process(script: str, hub: Hub, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script that uses the stand-in; hf_xet would ask a mute store for minutes."""
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | settings | more, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_mute_store_holds_neither_the_push_nor_the_process(hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert hub.xet is not None
    hub.xet.url = f"{hub.url}/store"
    hub.faults.append(Fault(" /store/", "mute", times=99))
    done = in_a_process(PUSHING, hub, tmp_path / "home", str(folder))
    assert done.returncode == 1, done.stderr
    assert re.search(r"HubError: .* does not answer \(upload and commit: .*no answer within 3 s", done.stderr)
    assert any(" /store/" in line for line in hub.log)


@pytest.mark.slow
def test_a_mute_store_of_several_files_by_lfs_holds_neither(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_bytes(os.urandom(1000))
    hub.faults.append(Fault("PUT /lfs/", "mute", times=99))
    done = in_a_process(PUSHING, hub, tmp_path / "home", str(folder), HF_HUB_DISABLE_XET="1")
    assert done.returncode == 1, done.stderr
    assert re.search(r"HubError: .* does not answer \(upload and commit: .*no answer within 3 s", done.stderr)
    assert any("PUT /lfs/" in line for line in hub.log)


PULLING = """
import sys
from nlp_transfer import pulling

pulling.QUIET = 3
pulling.pull(pulling.Wanted("user/x", None, sys.argv[1], ["model.safetensors"], 5.0))
"""


@pytest.mark.slow
def test_a_mute_store_holds_neither_the_pull_nor_the_process(hub: Hub, files: list[PushFile], tmp_path: Path) -> None:
    assert hub.xet is not None
    send(files)
    hub.xet.url = f"{hub.url}/store"
    hub.faults.append(Fault(" /store/", "mute", times=99))
    done = in_a_process(PULLING, hub, tmp_path / "home", hub.repos["user/x"].head)
    assert done.returncode == 1, done.stderr
    assert "StalledError: nothing of model.safetensors has arrived for 3 s; HF_HUB_DISABLE_XET=1 fetches" in done.stderr
    assert any(" /store/" in line for line in hub.log)


def test_a_stalled_pull_is_told_with_the_model(
    hub: Hub, files: list[PushFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stalled(wanted: pulling.Wanted) -> Path:
        raise pulling.StalledError(f"nothing of {', '.join(sorted(wanted.files))} has arrived")

    send(files)
    monkeypatch.setattr(finding, "pull", stalled)
    told = (
        r"^model 'user/x' cannot be fetched from http\S+: nothing of config.json, model.safetensors has arrived\. Try"
    )
    with pytest.raises(ModelError, match=told):
        finding.resolve("user/x")


@pytest.mark.parametrize("revision", [None, "main"])
def test_what_is_pulled_is_what_was_pushed(revision: str | None, hub: Hub, files: list[PushFile]) -> None:
    send(files)
    found = finding.resolve("user/x", revision)
    assert found.commit == hub.repos["user/x"].head == found.folder.name
    assert all((found.folder / file.name).read_bytes() == file.path.read_bytes() for file in files)
    begun = len(hub.log)
    assert finding.resolve("user/x", revision).folder == found.folder
    assert not [line for line in hub.log[begun:] if "/resolve/" in line], "nothing is fetched twice"
    hub.faults.append(Fault("", "503", times=99))
    offline = finding.resolve("user/x", revision)
    assert (offline.folder, offline.commit) == (found.folder, found.commit), "the cache answers"


class Slow:
    """A pull of a file that arrives piece by piece, or not at all."""

    def __init__(self, wanted: pulling.Wanted, pieces: int) -> None:
        self.file, self.heard, self.pieces = "model.safetensors", 0.0, pieces

    def run(self) -> Path:
        for _ in range(self.pieces):
            time.sleep(0.2)
            self.heard += 1
        time.sleep(0.2 if self.pieces else 5)
        return Path("done")

    def seen(self) -> tuple[float, str]:
        return self.heard, self.file


@pytest.mark.parametrize("pieces", [8, 0])
def test_a_pull_goes_on_for_as_long_as_something_arrives(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "QUIET", 1.0)
    monkeypatch.setattr(pulling, "_Pull", partial(Slow, pieces=pieces))
    wanted = pulling.Wanted("user/x", None, "0" * 40, [], 5.0)
    if pieces:
        assert pulling.pull(wanted) == Path("done")
    else:
        with pytest.raises(pulling.StalledError, match=r"nothing of model\.safetensors has arrived for 1 s"):
            pulling.pull(wanted)


def test_what_another_process_fetches_arrives_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    work = pulling._Pull(pulling.Wanted("user/x", None, "0" * 40, [], 5.0))
    before = work.seen()
    assert work.seen() == before
    blob = tmp_path / "models--user--x" / "blobs" / "abc.incomplete"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 10_000)
    assert work.seen() != before
