"""What can go wrong only where large files go by Xet; the round trip by Xet is among the tests of the hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hub_client
import pytest
from huggingface_hub import HfApi
from stand_in_hub import TOKEN, Fault, Hub, serving
from stand_in_xet import XetStore

from nlp_transfer.errors import HubError
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


def test_a_mute_store_holds_neither_the_push_nor_the_process(hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert hub.xet is not None
    hub.xet.url = f"{hub.url}/store"
    hub.faults.append(Fault(" /store/", "mute", times=99))
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    # hf_xet would ask the store for minutes.
    done = subprocess.run(
        [sys.executable, "-c", PUSHING, str(folder)],
        env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.search(r"HubError: .* does not answer \(upload and commit: .*no answer within 3 s", done.stderr)
    assert any(" /store/" in line for line in hub.log)
