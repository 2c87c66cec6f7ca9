"""Prediction over files: every format, order and number kept whatever the rows hold, nothing half written."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nlp_transfer.errors import DataError
from nlp_transfer.streaming import predict_file


class Stub:
    """Answers with the text; remembers how many texts it was given at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        self.sizes.append(len(texts))
        return [{"text": text} for text in texts]


def predict(path: Path, content: bytes | str, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    output = path.with_name("out.jsonl")
    summary = predict_file(Stub(), path, output, **settings)
    lines = output.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines], summary


def texts(answers: list[dict[str, Any]]) -> list[str | None]:
    return [answer.get("text") for answer in answers]


# Formats


def test_txt_answers_line_for_line(tmp_path: Path) -> None:
    answers, summary = predict(tmp_path / "in.txt", "\ufeffone\r\n\n  two \nsep\u2028here\x85\nlast")
    assert texts(answers) == ["one", "", "  two ", "sep\u2028here\x85", "last"]
    assert (summary["rows"], summary["errors"]) == (5, 0)


def test_jsonl(tmp_path: Path) -> None:
    content = '{"text": "one", "id": 1}\n\n{"body": "x", "text": "a\\nb \\ud83d\\ude00"}\n'
    answers, _ = predict(tmp_path / "in.jsonl", content)
    assert texts(answers) == ["one", "a\nb 😀"]


def test_csv_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    content = 'id,body\n1,"a, ""b""\nc"\n\n2,plain\n'
    answers, summary = predict(tmp_path / "in.csv", content, text_column="body")
    assert texts(answers) == ['a, "b"\nc', "plain"]
    assert summary["rows"] == 2


def test_tsv_with_and_without_quoting(tmp_path: Path) -> None:
    quoted, _ = predict(tmp_path / "in.tsv", 'text\tn\n"a\tb"\t1\nc\t2\n')
    assert texts(quoted) == ["a\tb", "c"]
    plain, _ = predict(tmp_path / "in.tsv", 'text\tn\n"quoted" word\t1\n7" single\t2\n', overwrite=True)
    assert texts(plain) == ['"quoted" word', '7" single']


def test_format_wins_over_the_suffix(tmp_path: Path) -> None:
    answers, _ = predict(tmp_path / "in.log", '{"text": "one"}\n', format="jsonl")
    assert texts(answers) == ["one"]


def test_empty_files(tmp_path: Path) -> None:
    for name in ("a.txt", "b.jsonl", "c.csv", "d.tsv"):
        answers, summary = predict(tmp_path / name, "", overwrite=True)
        assert (answers, summary["rows"]) == ([], 0)
    answers, _ = predict(tmp_path / "e.csv", "text\n", overwrite=True)
    assert answers == []


# Rows that cannot be read keep their place


def test_bad_json_rows(tmp_path: Path) -> None:
    rows = [
        '{"text": "one"}', '{"text": ', '["two"]', '{"txet": "x"}', '{"text": 3}', '{"text": null}',
        '{"text": "\\ud83d"}', '{"text": "x", "id": ' + "9" * 5000 + "}", '{"text": "last"}',
    ]  # fmt: skip
    path = tmp_path / "in.jsonl"
    answers, summary = predict(path, "\n".join(rows))
    assert texts(answers) == ["one", *[None] * 7, "last"]
    assert (summary["rows"], summary["errors"]) == (9, 7)
    told = [answer["error"] for answer in answers[1:-1]]
    assert [message.split(": ")[0] for message in told] == [f"{path}:{number}" for number in range(2, 9)]
    for message, part in zip(
        told,
        [
            "invalid JSON",
            "JSON object was expected",
            "Did you mean 'txet'",
            "text is 3,",
            "text is null,",
            "stands alone",
            "invalid JSON: Exceeds the limit",
        ],
        strict=True,
    ):
        assert part in message


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    for name, content in (("a.txt", b"one\ncaf\xe9\nlast\n"), ("b.csv", b"text\none\ncaf\xe9\nlast\n")):
        answers, summary = predict(tmp_path / name, content, overwrite=True)
        assert texts(answers) == ["one", None, "last"]
        assert "byte 0xe9 at column 4 is not UTF-8" in answers[1]["error"]
        assert summary["errors"] == 1


def test_csv_rows_of_the_wrong_width(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    answers, _ = predict(path, 'text,n\none,1\ntwo\nthree,3,4\nfour,4\n"open,5\n')
    assert texts(answers) == ["one", None, None, "four", None]
    assert answers[1] == {"error": f"{path}:3: 1 fields, but the header has 2"}
    assert answers[4] == {"error": f"{path}:6: a quote that opens in this row is never closed"}


def test_chunks_with_bad_rows_keep_order(tmp_path: Path) -> None:
    rows = [json.dumps({"text": str(number)}) if number % 3 else "bad" for number in range(20)]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(rows))
    stub = Stub()
    summary = predict_file(stub, path, tmp_path / "out.jsonl", chunk=4)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert texts(answers) == [str(number) if number % 3 else None for number in range(20)]
    assert (summary["rows"], summary["errors"]) == (20, 7)
    assert max(stub.sizes) <= 4


# Input and output


def test_standard_input_and_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("one\nzwei ü\n".encode())))
    predict_file(Stub(), "-", "-")
    assert capsys.readouterr().out == '{"text": "one"}\n{"text": "zwei ü"}\n'


def test_standard_input_with_a_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "one"}\nbad\n')))
    summary = predict_file(Stub(), "-", tmp_path / "out.jsonl", format="jsonl")
    assert (summary["rows"], summary["errors"]) == (2, 1)
    assert "standard input:2: invalid JSON" in (tmp_path / "out.jsonl").read_text()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(DataError, match="--overwrite"):
        predict(tmp_path / "in.txt", "one\n")
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    answers, _ = predict(tmp_path / "in.txt", "one\n", overwrite=True)
    assert texts(answers) == ["one"]


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("one\n")
    with pytest.raises(DataError, match="is the input file"):
        predict_file(Stub(), path, path, overwrite=True)
    assert path.read_text() == "one\n"


def test_a_failure_leaves_the_old_output_and_no_part(tmp_path: Path) -> None:
    def fails(texts: Sequence[str]) -> list[dict[str, Any]]:
        if "two" in texts:
            raise KeyboardInterrupt
        return [{"text": text} for text in texts]

    (tmp_path / "in.txt").write_text("one\ntwo\n")
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        predict_file(fails, tmp_path / "in.txt", tmp_path / "out.jsonl", overwrite=True, chunk=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text() == "old"


def test_output_may_be_a_device(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\n")
    assert predict_file(Stub(), tmp_path / "in.txt", "/dev/null")["rows"] == 1


@pytest.mark.parametrize(
    ("name", "content", "settings", "told"),
    [
        ("in.csv", "body\nx\n", {}, "no column 'text' in the header: body. Name it with --text-column"),
        ("in.csv", "text,text\nx,y\n", {}, "more than one column 'text'"),
        ("in.conll", "x O\n", {}, "not from the suffix '.conll'"),
        ("in.txt", "x\n", {"format": "xml"}, "not from 'xml'"),
        ("in.txt", b"\xff\xfex\x00", {}, "UTF-16"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: str | bytes, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError) as caught:
        predict(tmp_path / name, content, **settings)
    assert told in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_missing_places_are_named_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        predict_file("no/model", tmp_path / "absent.txt", tmp_path / "out.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        predict_file("no/model", tmp_path, tmp_path / "out.jsonl")
    (tmp_path / "in.txt").write_text("one\n")
    with pytest.raises(DataError, match="there is no folder"):
        predict_file("no/model", tmp_path / "in.txt", tmp_path / "absent" / "out.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        predict_file("no/model", tmp_path / "in.txt", tmp_path)
