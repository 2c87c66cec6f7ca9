"""Data sets of a hub on loopback, loaded by the real ``datasets``: their revisions, faults, and without a network."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import hub_client
import pytest
from conftest import build_model
from hub_client import publish
from huggingface_hub import constants
from samples import recipe_values, write_data
from stand_in_hub import Fault, Hub, serving
from typer.testing import CliRunner

from nlp_transfer import cli
from nlp_transfer.data import hub as loading
from nlp_transfer.data.load import from_hub, load_split, why
from nlp_transfer.errors import DataError
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run

pytestmark = pytest.mark.slow


def jsonl(*texts: str, **columns: Any) -> bytes:
    return "".join(json.dumps({"text": text} | columns) + "\n" for text in texts).encode()


def parquet(*texts: str) -> bytes:
    file = io.BytesIO()
    datasets.Dataset.from_dict({"text": texts, "n": list(range(len(texts)))}).to_parquet(file)
    return file.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub, with ``datasets`` pointed at it and empty caches."""
    with serving() as server:
        hub_client.use(server.url, monkeypatch, tmp_path / "cache")
        hub_client.with_data_sets(monkeypatch, tmp_path / "cache")
        yield server
        hub_client.settle(server)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model") / "model", head="AutoModelForSequenceClassification")


def offline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def texts_of(name: str, split: str = "test", revision: str | None = None) -> list[str]:
    return list(from_hub(name, "data.target.test", split, None, revision)["text"])


def refused(name: str, split: str = "test", revision: str | None = None, seconds: float = 15.0) -> str:
    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        texts_of(name, split, revision)
    assert time.monotonic() - begun < seconds
    return str(caught.value)


def test_splits_of_both_formats_load(hub: Hub) -> None:
    names = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000.parquet")
    publish(hub, "a/tables", dict(zip(names, map(parquet, "adg"), strict=True)))
    publish(hub, "a/lines", {"train.jsonl": jsonl("a", "d"), "test.jsonl": jsonl("g"), "README.md": b"# Lines\n"})
    assert texts_of("a/tables", "train") == texts_of("a/lines", "train") == ["a", "d"]
    split = load_split("hub:a/lines", name="data.target.test", kind="text", hub_split="test")
    assert split.locate(0) == "hub:a/lines (test): row 1"


def test_a_configuration_of_the_card_is_found(hub: Hub) -> None:
    card = "---\nconfigs:\n- config_name: {}\n  data_files: {}.jsonl\n- config_name: {}\n  data_files: {}.jsonl\n---\n"
    files = {"README.md": card.format("de", "de", "en", "en").encode(), "de.jsonl": jsonl("ja"), "en.jsonl": jsonl("y")}
    publish(hub, "a/b", files)
    assert from_hub("a/b", "x", "train", "de", None)["text"][:] == ["ja"]
    with pytest.raises(DataError, match="Config name is missing"):
        from_hub("a/b", "x", "train", None, None)


def test_a_revision_keeps_its_rows(hub: Hub) -> None:
    first = publish(hub, "a/b", {"test.jsonl": jsonl("old")})
    publish(hub, "a/b", {"test.jsonl": jsonl("new")})
    hub.repos["datasets/a/b"].tags["v1"] = first
    assert texts_of("a/b", revision=first) == texts_of("a/b", revision="v1") == ["old"]
    assert texts_of("a/b") == ["new"]


def test_no_other_host_is_waited_for(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``datasets`` asks datasets-server for ``main``, up to 100 s; the count of downloads it gives up after 3 s."""
    others = hub_client.with_data_sets(monkeypatch, tmp_path)
    publish(hub, "a/b", {"test.jsonl": jsonl("a")})
    assert texts_of("a/b") == ["a"]
    assert set(others) <= {"s3.amazonaws.com"}


def test_what_the_hub_does_not_have_is_said_at_once(hub: Hub) -> None:
    publish(hub, "a/b", {"train.jsonl": jsonl("a"), "test.jsonl": jsonl("b")})
    missing = refused("a/none")
    assert "hub:a/none: the data set could not be loaded" in missing
    assert "no data set of this name, or none that you may read" in missing
    assert "the data set has no revision 'v9'" in refused("a/b", revision="v9")
    split = refused("a/b", "tset")
    assert "Unknown split \"tset\". Should be one of ['train', 'test']" in split
    assert not any("Without a network" in told for told in (missing, split))
    publish(hub, "a/empty", {"README.md": b"nothing"})
    assert "hub:a/empty: the data set could not be loaded" in refused("a/empty")
    publish(hub, "a/broken", {"test.parquet": b"no table"})
    assert "hub:a/broken: the data set could not be loaded" in refused("a/broken")


def test_files_that_do_not_go_together_are_told_as_such(hub: Hub) -> None:
    """``datasets`` reads all splits of a configuration, and only says that "an error occurred"."""
    publish(hub, "a/b", {"train.jsonl": jsonl("a"), "test.jsonl": jsonl("b", stars=3)})
    told = refused("a/b")
    assert "CastError: Couldn't cast text: string stars: int64" in told and "column names don't match" in told


def test_what_was_loaded_once_is_there_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = publish(hub, "a/b", {"test.jsonl": jsonl("old")})
    hub.repos["datasets/a/b"].tags["v1"] = first
    assert texts_of("a/b", revision="v1") == ["old"]
    with monkeypatch.context() as patch:
        wait = time.sleep
        patch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))  # between the client's attempts
        hub.faults.append(Fault(".", "503", times=10**6))
        assert texts_of("a/b", revision="v1") == texts_of("a/b") == ["old"]
    with monkeypatch.context() as patch:
        offline(patch)
        hub.log.clear()
        assert texts_of("a/b", revision="v1") == texts_of("a/b", revision=first) == texts_of("a/b") == ["old"]
        assert "Without a network" in refused("a/other")
        assert not hub.log


def test_another_commit_of_the_cache_is_not_taken_for_the_revision(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` itself gives what was loaded last, whatever revision it is asked for."""
    first = publish(hub, "a/b", {"test.jsonl": jsonl("old")})
    hub.repos["datasets/a/b"].tags["v1"] = first
    assert texts_of("a/b", revision="v1") == ["old"]
    second = publish(hub, "a/b", {"test.jsonl": jsonl("new")})
    assert texts_of("a/b") == ["new"]
    with monkeypatch.context() as patch:
        offline(patch)
        told = refused("a/b", revision="v1")
        assert f"commit {first[:12]}, and the cache gives what was loaded last, {second[:12]}" in told
        assert texts_of("a/b", revision=second) == ["new"]
    hub.repos["datasets/a/c"] = hub.repos["datasets/a/b"]
    assert (texts_of("a/c"), texts_of("a/c", revision="v1")) == (["new"], ["old"])
    with monkeypatch.context() as patch:
        offline(patch)
        assert f"the cache gives what was loaded last, {first[:12]}" in refused("a/c"), "not that of the main branch"


def test_addresses_are_told_without_their_signatures() -> None:
    error = ConnectionError("403 for 'https://cdn.example/x/y.parquet?Signature=SECRET&Key=K' (twice)")
    assert why(error, "Wait.") == "ConnectionError: 403 for 'https://cdn.example/x/y.parquet' (twice). Wait."


def test_a_file_that_stops_is_given_up_and_one_that_breaks_off_goes_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/b", "a/c"):
        publish(hub, name, {"test.jsonl": jsonl(*["word " * 50] * 200)})
    with monkeypatch.context() as patch:
        patch.setattr(loading, "QUIET", 2.0)
        hub.faults.append(Fault(r"GET .*\.jsonl", "stall"))
        assert "TimeoutError: nothing has arrived for 2 s. Without a network" in refused("a/b", seconds=30)
    hub.faults.append(Fault(r"GET .*\.jsonl", "cut"))
    assert len(texts_of("a/c")) == 200
    assert not hub.faults[-1].times


def test_a_mute_hub_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "QUIET", 0.5)
    hub.faults.append(Fault(".", "mute", times=10**6))
    assert "TimeoutError" in refused("a/b", seconds=30)


def test_predictions_for_a_data_set(hub: Hub, classifier: Path, tmp_path: Path) -> None:
    publish(hub, "a/b", {"train.jsonl": jsonl("no"), "test.jsonl": jsonl("good film", "bad plot")})
    output = tmp_path / "out.jsonl"
    command = ["predict", str(classifier), "--input", "hub:a/b", "--output", str(output)]
    done = CliRunner().invoke(cli.app, [*command, "--split", "test"])
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["text"] for line in output.read_text().splitlines()] == ["good film", "bad plot"]
    assert CliRunner().invoke(cli.app, [*command, "--split", "tset", "--overwrite"]).exit_code != 0


def test_a_run_with_data_and_corpus_of_the_hub(hub: Hub, tiny_bert: Path, tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data")
    publish(hub, "a/b", {"test.jsonl": (folder / "test.jsonl").read_bytes()})
    publish(hub, "a/corpus", {"train.jsonl": jsonl(*["fine film"] * 40)})
    values = recipe_values(folder, tiny_bert)
    values["data"]["target"]["test"] = {"path": "hub:a/b", "split": "test"}
    stage = {"name": "pretrain", "corpus": {"path": "hub:a/corpus", "split": "train"}, "train": {"max_steps": 1}}
    result = run(recipe_from(values | {"stages": [stage, "finetune"]}))
    assert json.loads((result.folder / "stages.jsonl").read_text().splitlines()[0])["texts"] == 40
