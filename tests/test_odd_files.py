"""Files of anything at all: every row is answered or told, in its place, without a crash or a hang."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import build_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp_transfer import load_predictor, predict_file
from nlp_transfer.errors import DataError
from nlp_transfer.watching.messages import BadLineError, Keys, read_line
from nlp_transfer.watching.watch import watch

QUICK = settings(max_examples=25, deadline=30_000, derandomize=True, database=None)
ODD = [
    "",
    " ",
    "\x00",
    "\ufeff",
    "\u2028",
    "\x85",
    "\x1a",
    "\ufdd0",
    "e\u0301" * 40,
    "👩‍💻",
    "مرحبا",
    "\u202e",
    "[MASK]",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(ODD)
LINE = (
    st.binary(max_size=30) | TEXT.map(str.encode) | st.sampled_from([b'{"text": "a"}', b'"', b"a,b", b"\xff\xfe", b"{"])
)


def echo(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts]


def predicted(content: bytes, format: str, model: Any = echo) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "in").write_bytes(content)
        summary = predict_file(model, place / "in", place / "out.jsonl", format=format, chunk=3)
        lines = (place / "out.jsonl").read_bytes().decode("utf-8").split("\n")
        assert lines.pop() == ""
        assert len(lines) == summary["rows"]
        return [json.loads(line) for line in lines]


@QUICK
@given(st.lists(LINE, max_size=8))
def test_every_line_of_a_txt_file_has_its_answer(lines: list[bytes]) -> None:
    content = b"\n".join(line.replace(b"\n", b"") for line in lines)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        with pytest.raises(DataError, match="UTF-16"):
            predicted(content, "txt")
        return
    body = content.removeprefix(b"\xef\xbb\xbf")
    whole = body.removesuffix(b"\n").split(b"\n") if content else []
    for line, answer in zip(whole, predicted(content, "txt"), strict=True):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            assert "is not UTF-8" in answer["error"]
        else:
            assert answer == {"text": text}


@QUICK
@given(st.lists(TEXT | st.none() | st.integers() | st.just("\ud800"), max_size=8))
def test_every_json_object_has_its_answer(texts: list[Any]) -> None:
    content = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    for text, answer in zip(texts, predicted(content, "jsonl"), strict=True):
        sound = isinstance(text, str) and text != "\ud800"
        assert (answer.get("text") == text) if sound else ("in:" in answer["error"])


@QUICK
@given(st.lists(TEXT | st.sampled_from(["text", "\ud800", "\udcff"]), max_size=8))
def test_every_key_of_a_json_object_has_its_answer(keys: list[str]) -> None:
    content = "\n".join(json.dumps({key: "x"}) for key in keys).encode()
    for key, answer in zip(keys, predicted(content, "jsonl"), strict=True):
        assert answer == {"text": "x"} if key == "text" else "there is no 'text'" in answer["error"]


def test_the_name_of_a_file_need_not_be_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"in-\xff.jsonl")
    (tmp_path / name).write_text("{\n")
    predict_file(echo, tmp_path / name, tmp_path / "out.jsonl")
    (line,) = (tmp_path / "out.jsonl").read_text(encoding="utf8").splitlines()
    assert "in-\\udcff.jsonl:1: invalid JSON" in json.loads(line)["error"]


@pytest.mark.parametrize("format", ["jsonl", "csv", "tsv", "parquet"])
@QUICK
@given(head=st.sampled_from([b"text\n", b"text,n\n", b"text\tn\n", b"PAR1", b""]), lines=st.lists(LINE, max_size=8))
def test_files_of_any_bytes_are_answered_or_refused(format: str, head: bytes, lines: list[bytes]) -> None:
    try:
        answers = predicted(head + b"\n".join(lines), format)
    except DataError as error:
        assert str(error).strip()
    else:
        assert all(("text" in answer) != ("error" in answer) for answer in answers)


@QUICK
@given(LINE)
def test_any_line_of_a_stream_is_read_or_told(line: bytes) -> None:
    for format in ("txt", "jsonl"):
        try:
            message = read_line(line, format, Keys())
        except BadLineError as error:
            assert str(error)
        else:
            assert message is None or message.text.encode() is not None


@QUICK
@given(st.lists(LINE.map(lambda line: line.replace(b"\n", b"")), max_size=40))
def test_a_watch_counts_every_line(lines: list[bytes]) -> None:
    def answers(texts: Sequence[str]) -> list[dict[str, Any]]:
        return [{"label": "a", "score": 0.5, "probabilities": {"a": 0.5, "b": 0.5}} for _ in texts]

    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.txt"
        path.write_bytes(b"\n".join(lines))
        summary = watch(answers, path, events.append, rules="3", reference="first")
    assert sum(event["texts"] for event in events if event["event"] == "window") == summary["texts"]
    assert sum(event["event"] == "problem" for event in events) == summary["problems"]
    filled = [line for line in lines if line.decode(errors="surrogateescape").removeprefix("\ufeff").strip()]
    assert summary["texts"] + summary["problems"] == len(filled)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = build_model(tmp_path_factory.mktemp("odd") / "model", head="AutoModelForSequenceClassification")
    return load_predictor(folder, precision="fp32")


@settings(QUICK, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=6))
def test_a_model_answers_any_text(predictor: Any, texts: list[str]) -> None:
    content = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    answers = predicted(content, "jsonl", predictor)
    assert [answer["text"] for answer in answers] == texts
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4) for answer in answers)


def test_a_huge_line_is_one_text(predictor: Any) -> None:
    line = "good film\x00 " * 3000
    (answer,) = predicted(line.encode(), "txt", predictor)
    assert answer["text"] == line and "label" in answer
