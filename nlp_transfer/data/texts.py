"""Texts of a file or of standard input one by one, for prediction: any size, and nothing left out.

A row that cannot be read comes back with the reason in the place of its text, so that answers keep the order and
number of the rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import DataError, Problem, nearest

FORMATS = ("txt", "jsonl", "csv", "tsv")
LONGEST_FIELD = 2**26
"""Characters in one field of a CSV file: an unclosed quote must not read the rest of a huge file into memory."""

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class Row:
    """One row of the input.

    Args:
        text: Its text; None where it cannot be read.
        error: ``file:line: what is wrong``; empty where there is a text.
    """

    text: str | None
    error: str = ""


def unreadable(where: str, why: str) -> Row:
    """Return a row that cannot be read; what the message quotes need not be UTF-8, but the message is.

    Args:
        where: File and line.
        why: What is wrong.
    """
    return Row(None, written(f"{where}: {why}"))


def written(text: str) -> str:
    """Return a text that can be written as UTF-8: what no character stands for is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_rows(
    file: BinaryIO, origin: str, format: str, text_column: str = "text", advice: str = "Name it with --text-column."
) -> Iterator[Row]:
    """Read texts, holding one row in memory.

    In ``txt`` every line is a text, blank ones too, so that answer *n* belongs to line *n*. In the other formats blank
    lines are no rows.

    Args:
        file: Opened for reading bytes; a ``tsv`` file must be seekable to be read as one without quoting.
        origin: Its name, for messages.
        format: One of :data:`FORMATS`.
        text_column: Column of the text (jsonl, csv, tsv).
        advice: What to do where the header does not hold it.

    Returns:
        Rows, in order.

    Raises:
        DataError: The file is UTF-16, or the header of a csv or tsv file does not hold the column.
    """
    lines = _lines(file, origin)
    if format == "txt":
        return (checked(line, f"{origin}:{number}") for number, line in enumerate(lines, start=1))
    if format == "jsonl":
        numbered = enumerate(lines, start=1)
        return (_json_row(line, f"{origin}:{number}", text_column) for number, line in numbered if line.strip())
    if format == "tsv" and file.seekable() and not _is_quoted(file, origin):
        return _delimited(((number, line.split("\t")) for number, line in _filled(lines)), origin, text_column, advice)
    return _delimited(_fields(lines, _DELIMITERS[format]), origin, text_column, advice)


def _lines(file: BinaryIO, origin: str) -> Iterator[str]:
    """Split at LF or CRLF only; bytes that are not UTF-8 become surrogates, which :func:`checked` finds."""
    for number, line in enumerate(file):
        if number == 0:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError([Problem("the file is UTF-16; save it as UTF-8", f"{origin}:1")])
            line = line.removeprefix(_BOM)
        yield line.decode("utf-8", errors="surrogateescape").removesuffix("\n").removesuffix("\r")


def _filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, start=1) if line)


def checked(text: Any, where: str) -> Row:
    """Return a row, provided that its text is one that can be written as UTF-8.

    Args:
        text: What stands in the place of the text; bytes that are not UTF-8 as surrogates.
        where: File and line, for messages.
    """
    if not isinstance(text, str):
        return unreadable(where, f"the text is {json.dumps(text, default=repr)[:40]}, not a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # so surrogateescape marks a byte
            return unreadable(where, f"byte {code - 0xDC00:#04x} at column {error.start + 1} is not UTF-8")
        return unreadable(where, "an escape such as \\ud83d stands alone; only pairs of them are a character")
    return Row(text)


def _json_row(line: str, where: str, column: str) -> Row:
    bytes_fit = checked(line, where)
    if bytes_fit.text is None:
        return bytes_fit
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # a plain ValueError: a number of more digits than Python takes
        return unreadable(where, f"invalid JSON: {error}")
    if not isinstance(row, dict):
        return unreadable(where, f"a JSON object was expected, not {line.strip()[:40]!r}")
    if column not in row:
        return unreadable(where, f"there is no '{column}'; the keys are: {', '.join(row)}.{nearest(column, row)}")
    return checked(row[column], where)


def _is_quoted(file: BinaryIO, origin: str) -> bool:
    """Decide as :func:`~nlp_transfer.data.formats.read_delimited` does: many TSV files do not quote at all.

    Reads the file once and goes back to where it was.
    """
    begin = file.tell()
    widths = {fields if isinstance(fields, str) else len(fields) for _, fields in _fields(_lines(file, origin), "\t")}
    file.seek(begin)
    if len(widths) <= 1 and not any(isinstance(width, str) for width in widths):
        return True
    tabs = {line.count("\t") for _, line in _filled(_lines(file, origin))}
    file.seek(begin)
    return len(tabs) != 1


def _fields(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the line on which each row starts with its fields, or with a message where they cannot be told."""
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                unclosed = "unexpected end of data" in str(error) or "field limit" in str(error)
                yield start, "a quote that opens in this row is never closed" if unclosed else str(error)
                continue
            if fields:
                yield start, fields
    finally:
        csv.field_size_limit(limit)


def _delimited(rows: Iterator[tuple[int, Any]], origin: str, column: str, advice: str) -> Iterator[Row]:
    _, header = next(rows, (1, None))
    if header is None:
        return iter(())
    if isinstance(header, str):
        raise DataError([Problem(header, f"{origin}:1")])
    names = [name.strip() for name in header]
    if names.count(column) != 1:
        count = "no column" if column not in names else "more than one column"
        text = f"{count} '{column}' in the header: {', '.join(names)}.{nearest(column, names)} {advice}"
        raise DataError([Problem(text, f"{origin}:1")])
    return (_cell(fields, len(names), names.index(column), f"{origin}:{number}") for number, fields in rows)


def _cell(fields: list[str] | str, width: int, index: int, where: str) -> Row:
    if isinstance(fields, str):
        return unreadable(where, fields)
    if len(fields) != width:
        return unreadable(where, f"{len(fields)} fields, but the header has {width}")
    return checked(fields[index], where)
