"""Predictions over many rows: every source and output, resumed and shared without a row lost, repeated or moved."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import shared_prediction
from conftest import build_model, wordpiece_tokenizer
from launching import ACCELERATE, HERE, launch
from samples import plain_classifier
from typer.testing import CliRunner

from nlp_transfer import cli, predict_file, streaming
from nlp_transfer.bulk import job, source
from nlp_transfer.bulk.job import Job
from nlp_transfer.bulk.source import TextSource
from nlp_transfer.errors import DataError, RunBusyError

TEXTS = [f"good film {number}" for number in range(23)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("bulk") / "model", head="AutoModelForSequenceClassification")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tags = ["O", "B-PER", "I-PER"]
    folder = tmp_path_factory.mktemp("bulk-tags")
    return plain_classifier(folder, wordpiece_tokenizer(), "AutoModelForTokenClassification", tags)


@pytest.fixture
def input(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [json.dumps({"text": text}) for text in TEXTS]
    rows[9] = '{"text": '
    path.write_text("\n".join(rows))
    return path


class Stub:
    """Stands for a loaded model: answers with the text, and counts."""

    def __init__(self, stop_at: str = "") -> None:
        self.seen: list[str] = []
        self.stop_at = stop_at

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        if self.stop_at in texts:
            raise KeyboardInterrupt
        self.seen += texts
        return [{"text": text} for text in texts]


def predict(
    stub: Stub, input: Path | TextSource, output: Path | None = None, *, weights: str = "same", **settings: Any
) -> dict[str, Any]:
    """Predict by a model that a path stands for."""
    with (
        mock.patch.object(streaming, "find", lambda model: Path(model)),
        mock.patch.object(streaming, "load_found", lambda model, batch_tokens: stub),
        mock.patch.object(streaming, "answering", lambda model: weights),
    ):
        if output is None:
            assert isinstance(input, Path)
            output = input.with_name("out.jsonl")
        return predict_file("a/model", input, output, **{"chunk": 4} | settings)


def answers(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Sources


def test_parquet_keeps_bad_rows_in_their_place(tmp_path: Path) -> None:
    broken = pyarrow.array([b"one", b"caf\xe9", None, b"last"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"body": broken}), tmp_path / "in.parquet")
    summary = predict_file(Stub(), tmp_path / "in.parquet", tmp_path / "out.jsonl", text_column="body")
    found = answers(tmp_path / "out.jsonl")
    assert [answer.get("text") for answer in found] == ["one", None, None, "last"]
    assert f"{tmp_path / 'in.parquet'}: row 2: byte 0xe9 at column 4 is not UTF-8" in found[1]["error"]
    assert "row 3: the text is null" in found[2]["error"]
    assert (summary["rows"], summary["errors"]) == (4, 2)


def test_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*args: Any) -> datasets.Dataset:
        asked.append(args)
        return datasets.Dataset.from_dict({"text": [*TEXTS, None]})

    monkeypatch.setattr(source, "from_hub", load)
    given = TextSource("hub:owner/name", split="test", revision="v1")
    predict_file(Stub(), given, tmp_path / "out.jsonl", chunk=5)
    found = answers(tmp_path / "out.jsonl")
    assert [answer.get("text") for answer in found] == [*TEXTS, None]
    assert "hub:owner/name (test): row 24" in found[-1]["error"]
    assert asked[0] == ("owner/name", "--input", "test", None, "v1")
    assert given.identity() == given.identity() != TextSource("hub:owner/name", split="train").identity()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (TextSource("hub:owner/name"), "--split"),
        (TextSource("in.txt", split="test"), "--split is for data sets of the hub"),
        (TextSource("in.parquet"), "not a readable Parquet file"),
        (TextSource("whole.parquet"), "no column 'text'; there are: body"),
        (TextSource("-", format="parquet"), "standard input"),
        (TextSource("pipe", format="parquet"), "or a pipe"),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, given: TextSource, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("x\n")
    (tmp_path / "in.parquet").write_text("x\n")
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), "whole.parquet")
    os.mkfifo("pipe")
    with pytest.raises(DataError, match=told):
        predict_file(Stub(), given, "out.jsonl")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("format", ["txt", "jsonl", "tsv"])
def test_a_pipe_with_a_path_is_read_as_standard_input_is(format: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = {"txt": "one\ntwo\n", "jsonl": '{"text": "one"}\n{"text": "two"}\n', "tsv": "text\none\ntwo\n"}[format]
    writer = threading.Thread(target=pipe.write_text, args=(content,), daemon=True)
    writer.start()
    given = TextSource(str(pipe), format=format)
    summary = predict(Stub(), given, tmp_path / "out.jsonl")
    writer.join(10)
    assert [answer["text"] for answer in answers(tmp_path / "out.jsonl")] == ["one", "two"]
    assert (summary["rows"], summary["kept"]) == (2, 0)
    assert given.is_read_once and not given.is_standard_input


# Parquet output


def test_parquet_output_has_typed_columns(classifier: Path, input: Path) -> None:
    predict_file(classifier, input, input.with_name("out.jsonl"), chunk=10)
    predict_file(classifier, input, input.with_name("out.parquet"), chunk=10)
    table = pyarrow.parquet.read_table(input.with_name("out.parquet"))
    assert str(table.schema.field("probabilities").type) == "struct<LABEL_0: double, LABEL_1: double>"
    expected = answers(input.with_name("out.jsonl"))
    assert len(expected) == len(TEXTS)
    plain = [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]
    assert plain == expected


def test_parquet_output_of_entities_is_the_same_whatever_was_found(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "full.txt").write_text("Anna left Oslo\n\n")
    (tmp_path / "blank.txt").write_text("\n\n")
    for name in ("full", "blank"):
        predict_file(tagger, tmp_path / f"{name}.txt", tmp_path / f"{name}.parquet")
    full, blank = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("full", "blank"))
    assert full.schema == blank.schema
    assert [word["word"] for word in full["words"].to_pylist()[0]] == ["Anna", "left", "Oslo"]
    assert full["empty"].to_pylist() == [None, True]


def test_parquet_of_nothing_and_of_errors_alone(tmp_path: Path) -> None:
    for content, rows in (("", 0), ("oops\n", 1)):
        (tmp_path / "in.jsonl").write_text(content)
        predict_file(Stub(), tmp_path / "in.jsonl", tmp_path / "out.parquet", overwrite=True)
        table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
        assert (table.num_rows, table.column_names) == (rows, ["text", "empty", "error"])


# Resuming


def test_a_stopped_prediction_goes_on_where_it_stopped(input: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(Stub(stop_at=TEXTS[13]), input)
    assert not input.with_name("out.jsonl").exists()
    second = Stub()
    summary = predict(second, input)
    assert second.seen == TEXTS[12:]
    assert (summary["rows"], summary["errors"], summary["kept"]) == (23, 1, 12)
    assert [answer.get("text") for answer in answers(input.with_name("out.jsonl"))] == [
        None if number == 9 else text for number, text in enumerate(TEXTS)
    ]
    assert sorted(path.name for path in input.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_damaged_and_half_written_parts_are_computed_again(input: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(Stub(stop_at=TEXTS[20]), input)
    parts = input.with_name("out.jsonl.parts")
    (parts / "00000001.jsonl").write_text('{"text": "changed"}\n')
    (parts / "00000002.json").write_text('{"rows": 4')
    (parts / "00000003.json").unlink()
    second = Stub()
    assert predict(second, input)["kept"] == 8
    assert second.seen == [*TEXTS[4:9], *TEXTS[10:16], *TEXTS[20:]]


@pytest.mark.parametrize("change", ["input", "model", "column"])
def test_another_input_or_model_is_refused(change: str, input: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(Stub(stop_at=TEXTS[13]), input)
    settings: dict[str, Any] = {"model": {"weights": "other"}, "column": {"text_column": "body"}}.get(change, {})
    if change == "input":
        input.write_text(input.read_text() + '\n{"text": "more"}')
    with pytest.raises(DataError, match=f"the {'model' if change == 'model' else 'input'} is not what it was begun"):
        predict(Stub(), input, **settings)
    summary = predict(Stub(), input, overwrite=True, **settings)
    assert summary["kept"] == 0


def test_overwrite_goes_on_with_the_same_prediction(input: Path) -> None:
    input.with_name("out.jsonl").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        predict(Stub(stop_at=TEXTS[13]), input, overwrite=True)
    assert input.with_name("out.jsonl").read_text() == "old"
    assert predict(Stub(), input, overwrite=True)["kept"] == 12


def test_an_input_that_changes_meanwhile_gives_no_output(input: Path) -> None:
    class Changing(Stub):
        def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
            input.write_text("{}")
            return super().__call__(texts)

    with pytest.raises(DataError, match="changed while it was read"):
        predict(Changing(), input)
    assert not input.with_name("out.jsonl").exists()


@pytest.mark.parametrize("given", ["object", "pipe"])
def test_what_cannot_be_resumed_leaves_the_parts_of_what_can(given: str, input: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(Stub(stop_at=TEXTS[13]), input)
    output = input.with_name("out.jsonl")
    pipe = input.with_name("pipe.jsonl")
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # so that opening the pipe does not wait for a writer
    with pytest.raises(DataError, match=r"lies here.*--overwrite"):
        predict_file(Stub(), input if given == "object" else pipe, output)
    os.close(descriptor)
    assert predict(Stub(), input)["kept"] == 12


def test_lost_parts_at_the_end_give_no_output_and_are_computed_again(input: Path) -> None:
    write = Job.write

    def losing(self: Job, number: int, found: Sequence[dict[str, Any]]) -> None:
        if number < 4:
            write(self, number, found)

    with (
        mock.patch.object(Job, "write", losing),
        pytest.raises(DataError, match=r"of the 6 parts .* 2 are missing .*\(4, 5\)"),
    ):
        predict(Stub(), input)
    assert not input.with_name("out.jsonl").exists()
    second = Stub()
    assert predict(second, input)["kept"] == 16
    assert second.seen == TEXTS[16:]


def test_one_prediction_at_a_time_writes_an_output(input: Path) -> None:
    with (
        Job(input.with_name("out.jsonl")).claimed(None, overwrite=False),
        pytest.raises(RunBusyError, match="in use by another process"),
    ):
        predict(Stub(), input)


def test_a_folder_of_the_user_is_left_alone(input: Path) -> None:
    mine = input.with_name("out.jsonl.parts")
    mine.mkdir()
    (mine / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is in the way"):
        predict(Stub(), input, overwrite=True)
    assert (mine / "mine.txt").read_text() == "mine"


def test_a_prediction_killed_in_the_middle_of_a_part_loses_and_repeats_nothing(input: Path) -> None:
    def deadly(path: Path, text: str) -> None:
        path.with_name(path.name + ".part").write_text(text[:7])
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write = job.write_text
        texts = iter([*[write] * 3, deadly])
        job.write_text = lambda path, text: next(texts)(path, text)
        predict(Stub(), input)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not input.with_name("out.jsonl").exists()
    second = Stub()
    assert predict(second, input)["kept"] == 12
    assert second.seen == TEXTS[12:]
    assert [answer.get("text") for answer in answers(input.with_name("out.jsonl"))] == [
        None if number == 9 else text for number, text in enumerate(TEXTS)
    ]
    assert sorted(path.name for path in input.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


# Several processes


@pytest.mark.parametrize("places", [("-", "out.jsonl"), ("in.jsonl", "-"), ("pipe", "out.jsonl")])
def test_several_processes_share_files_only(
    places: tuple[str, str], monkeypatch: pytest.MonkeyPatch, input: Path
) -> None:
    monkeypatch.chdir(input.parent)
    os.mkfifo("pipe")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="several processes"):
        predict_file(Stub(), *places)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_go_on_with_what_one_began_and_give_what_one_gives(classifier: Path, input: Path) -> None:
    whole, output = input.with_name("whole.jsonl"), input.with_name("out.jsonl")
    predict_file(classifier, input, whole, chunk=shared_prediction.CHUNK)
    write = Job.write

    def stopping(self: Job, number: int, found: Sequence[dict[str, Any]]) -> None:
        if number == 2:
            raise KeyboardInterrupt
        write(self, number, found)

    with mock.patch.object(Job, "write", stopping), pytest.raises(KeyboardInterrupt):
        predict_file(classifier, input, output, chunk=shared_prediction.CHUNK)
    line = [*ACCELERATE, "--multi_gpu", "--main_process_port", "0"]
    said = launch([*line, str(HERE / "shared_prediction.py"), str(classifier), str(input), str(output)])
    assert said.split() == ["2", "23", "8"] * 2
    assert output.read_bytes() == whole.read_bytes()
    assert not output.with_name("out.jsonl.parts").exists()


def test_each_process_computes_a_share_of_what_is_missing(input: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for rank in (0, 1):
        share = Job(input.with_name(f"out-{rank}.jsonl"))
        share.folder.mkdir()
        monkeypatch.setattr(streaming, "place", lambda rank=rank: (rank, 2))
        with TextSource(str(input)).rows() as rows:
            streaming._compute(Stub(), rows, share, {1}, 4)
        seen.append(sorted(share.complete()))
    assert seen == [[0, 3, 5], [2, 4]]


# The command


def test_the_command_exits_with_1_for_bad_rows_and_tells_what_was_kept(classifier: Path, input: Path) -> None:
    output = input.with_name("out.parquet")
    result = CliRunner().invoke(cli.app, ["predict", str(classifier), "--input", str(input), "--output", str(output)])
    assert result.exit_code == 1
    assert "rows: 23" in result.stderr and "rows that could not be read: 1" in result.stderr
    assert pyarrow.parquet.read_metadata(output).num_rows == 23
