"""Corpora of a hub on loopback that are streamed: only tokens on disk, one commit a run, and faults on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import hub_client
import pytest
from helpers import Listener, data_of, make_recipe, read_lines, same_weights
from hub_client import publish
from stand_in_hub import Fault, Hub, serving
from test_corpus import TEXTS, stage, write_corpus
from test_hub_data import jsonl, parquet

from nlp_transfer import running
from nlp_transfer.checking import check
from nlp_transfer.data import hub as loading
from nlp_transfer.data import streamed
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.data.seen import Seen, look, opened
from nlp_transfer.data.streamed import Stream
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.preparing import reader
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.runfolder import write_seen
from nlp_transfer.running import run

CORPUS = {"path": "hub:a/b", "split": "train", "streaming": True}
FILES = {"data/train-0.jsonl": jsonl(*TEXTS[:30], n=1), "data/train-1.jsonl": jsonl(*TEXTS[30:], n=1)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with a corpus, with ``datasets`` pointed at it, empty caches, and short pauses between attempts."""
    with serving() as server:
        hub_client.use(server.url, monkeypatch, tmp_path / "cache")
        hub_client.with_data_sets(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0.1)
        publish(server, "a/b", FILES)
        yield server
        hub_client.settle(server)


def stream(rows: int | None = None, **changes: Any) -> Stream:
    values = {"name": "c", "hub_id": "a/b", "split": "train", "config": None, "revision": None, "column": "text"}
    return Stream(**values | {"rows": rows} | changes)


def fetched(hub: Hub) -> int:
    """How often a file of rows was asked for."""
    return sum("GET" in line and line.endswith((".jsonl", ".parquet")) for line in hub.log)


def recipe(folder: Path, model: Path, corpus: Any = CORPUS, **train: Any) -> Any:
    return make_recipe(folder, model, stages=[stage(corpus, **train), "finetune"], max_steps=1)


@pytest.mark.slow
def test_a_streamed_corpus_is_that_of_the_file(hub: Hub, tmp_path: Path) -> None:
    publish(hub, "a/table", {"data/train-0.parquet": parquet(*TEXTS[:9]), "data/train-1.parquet": parquet(*TEXTS[9:])})
    expected = load_corpus(write_corpus(tmp_path / "c.txt"), name="c")
    for name in ("a/b", "a/table"):
        corpus = opened(stream(hub_id=name), look(stream(hub_id=name)))
        assert list(corpus) == list(corpus) == TEXTS
        assert (len(corpus), corpus.fingerprint) == (len(TEXTS), expected.fingerprint)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".arrow", ".jsonl", ".parquet")]


def test_the_first_rows_of_any_corpus(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c.txt")
    assert list(load_corpus(path, name="c", rows=7)) == TEXTS[:7]
    assert list(load_corpus(datasets.Dataset.from_dict({"text": TEXTS}), name="c", rows=7)) == TEXTS[:7]
    assert len(load_corpus(path, name="c", rows=10**6)) == len(TEXTS)
    bad = tmp_path / "c.jsonl"
    bad.write_bytes(jsonl("fine") + b"oops\n")
    assert len(load_corpus(bad, name="c", rows=1)) == 1, "the rest is not read"


@pytest.mark.slow
def test_only_the_rows_that_are_asked_for_are_read(hub: Hub) -> None:
    corpus = opened(stream(5), look(stream(5)))
    assert list(corpus) == TEXTS[:5]
    assert "train-1" not in "".join(line for line in hub.log if line.startswith("GET"))


@pytest.mark.slow
def test_a_commit_is_checked_once(hub: Hub) -> None:
    first = look(stream())
    passes = fetched(hub)
    assert look(stream()) == look(stream(name="other")) == first
    assert fetched(hub) == passes
    publish(hub, "a/b", {"train.jsonl": jsonl("other")})
    assert look(stream()).rows == 1
    assert list(opened(stream(), first)) == TEXTS, "what was pinned is still read"


@pytest.mark.slow
def test_what_is_wrong_with_a_stream_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, "a/bad", {"train.jsonl": jsonl("a", " ", "c")})
    wrong = {
        "no data set of this name": stream(hub_id="a/none"),
        "say which split to stream: c.split": stream(split=None),
        "Bad split: tset. Available splits: ['train']": stream(split="tset"),
        "no column 'body'; there are: text, n": stream(column="body"),
        "row 2: the text is empty": stream(hub_id="a/bad"),
        "has no revision 'v9'": stream(revision="v9"),
    }
    for told, one in wrong.items():
        with pytest.raises(DataError) as caught:
            look(one)
        assert told in str(caught.value)
        assert "network" not in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(DataError, match=r"c cannot be streamed: OfflineMode.*without corpus\.streaming"):
            look(stream())


@pytest.mark.slow
def test_other_texts_than_were_checked_are_not_trained_on(hub: Hub) -> None:
    seen = look(stream())
    commits = hub.repos["datasets/a/b"].commits
    for rows in ([*TEXTS, "more"], TEXTS[:-1], [*TEXTS[:-1], "x"]):
        commits[0] = (commits[0][0], {"data/train-0.jsonl": jsonl(*rows)})
        from huggingface_hub import HfFileSystem

        HfFileSystem.clear_instance_cache()
        with pytest.raises(DataError, match=r"the hub gives other texts .* than when c was checked"):
            list(opened(stream(), seen))
    assert look(stream()).fingerprint != seen.fingerprint, "checked anew"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stall", "mute"])
def test_a_stream_that_stops_is_given_up(hub: Hub, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "QUIET", 2.0)
    hub.faults.append(Fault(r"GET .*train-1\.jsonl", kind, times=10**6))
    told = r"a/b \(train\): c cannot be streamed: nothing has arrived for 2 s\. .* the same command goes on"
    with pytest.raises(DataError, match=told):
        look(stream())
    monkeypatch.setattr(loading, "QUIET", 0.5)
    hub.faults.append(Fault(r"GET /api/datasets", "mute", times=10**6))
    with pytest.raises(DataError, match="c cannot be streamed: TimeoutError: no answer within"):
        look(stream())


@pytest.mark.slow
def test_a_connection_that_is_lost_once_is_made_again(hub: Hub) -> None:
    hub.faults.append(Fault(r"GET .*train-1\.jsonl", "cut"))
    assert look(stream()).rows == len(TEXTS)
    assert not hub.faults[0].times


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(hub: Hub, tiny_bert: Path, tmp_path: Path) -> None:
    """It keeps to its commit, though the data set moves on, and needs no network once its blocks are there."""
    whole, cut = (recipe(tmp_path / name, tiny_bert) for name in ("whole", "cut"))
    run(whole, data=data_of("classification"))
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=data_of("classification"), reporter=Listener("pretrain", 5))  # type: ignore[arg-type]
    publish(hub, "a/b", {"train.jsonl": jsonl("other")})
    hub.log.clear()
    listener = Listener()
    run(cut, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert any("resuming from" in line for line in listener.said)
    assert not hub.log
    assert same_weights(*(tmp_path / name / "stages/1-pretrain/model" for name in ("whole", "cut")))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")
    pinned = json.loads((tmp_path / "cut/corpora.json").read_text())["stages.0.corpus"]
    assert pinned["commit"] == hub.repos["datasets/a/b"].commits[0][0]


@pytest.mark.slow
def test_a_run_goes_on_after_a_fault_and_equals_one_with_the_file(
    hub: Hub, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(stream(20, name="stages.0.corpus"))
    streaming = recipe(tmp_path / "streamed", tiny_bert, CORPUS | {"rows": 20})
    with monkeypatch.context() as patch:
        patch.setattr(streamed, "QUIET", 2.0)
        hub.faults.append(Fault(r"GET .*jsonl", "mute", times=10**6))
        with pytest.raises(DataError, match=r"stages\.0\.corpus cannot be streamed: nothing has arrived"):
            run(streaming, data=data_of("classification"))
        hub.faults.clear()
    result = run(streaming, data=data_of("classification"))
    assert read_lines(result.folder / "stages.jsonl")[0]["texts"] == 20
    path = str(write_corpus(tmp_path / "c.jsonl"))
    run(recipe(tmp_path / "file", tiny_bert, {"path": path, "rows": 20}), data=data_of("classification"))
    assert same_weights(result.model, tmp_path / "file/model")


@pytest.mark.slow
def test_only_the_first_process_checks_a_stream(
    hub: Hub, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = look(stream(name="stages.0.corpus"))
    hub.log.clear()
    monkeypatch.setattr(reader, "place", lambda: (1, 2))
    monkeypatch.setattr(reader, "agree", lambda value: seen if value is None else pytest.fail("it has looked itself"))
    splits = load_splits(resolve(recipe(tmp_path / "run", tiny_bert)), data_of("classification"))
    assert splits.fingerprints()["stages.0.corpus"] == seen.fingerprint
    assert not hub.log


@pytest.mark.slow
def test_a_check_reads_the_first_rows_only(
    hub: Hub, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_transfer.preparing.reader.PROBED", 10)
    found = check(recipe(tmp_path / "run", tiny_bert), data=True, given=data_of("classification"))
    told = next(note for note in found["data"]["notes"] if "stages.0.corpus" in note)
    assert "the first 10 rows of hub:a/b (train) at commit" in told and "The rest was not looked at" in told
    assert "train-1" not in "".join(line for line in hub.log if line.startswith("GET"))


def test_a_file_is_not_streamed(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"stages\.0\.corpus\.streaming: only data sets of the hub"):
        recipe(tmp_path / "run", tiny_bert, {"path": "c.txt", "streaming": True})


def test_runs_that_share_stages_share_the_commit(tmp_path: Path) -> None:
    """The run's own pin first, then the nearest of the others'; a damaged one is not this run's to mend."""
    own, first, second, bad = (tmp_path / name for name in ("own", "first", "second", "bad"))
    for folder, commits in ((own, {"a": "1"}), (first, {"a": "2", "b": "3"}), (second, {"b": "4", "c": "5"})):
        folder.mkdir()
        write_seen(folder, {role: Seen({"hub_id": "x"}, commit, 7, "f") for role, commit in commits.items()})
    bad.mkdir()
    (bad / "corpora.json").write_text("{")
    found = running._pins(own, [first, bad, second])
    assert {role: seen.commit for role, seen in found.items()} == {"a": "1", "b": "3", "c": "5"}
