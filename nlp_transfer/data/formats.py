"""Readers: one for each file format, all returning a :class:`Table` of raw values with their lines.

Readers judge the file (encoding, syntax, widths); what the values mean is judged in
:mod:`nlp_transfer.data.canonical`. A bad row is noted and left out, so that one reading finds every bad row.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Problem

FORMATS = ("csv", "tsv", "jsonl", "parquet", "txt", "conll")
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
}
DOCUMENT_BORDER = "-DOCSTART-"


@dataclass
class Table:
    """Raw values of one file or data set.

    Attributes:
        origin: File or hub id, for messages.
        names: Every column there is.
        columns: Values of the columns that were wanted and are there; ``None`` stands for missing and null.
        lines: 1-based line on which each row starts; ``None`` where rows have no lines.
        problems: What was wrong with the file itself.
        skipped_blank: Blank lines that were passed over.
        untyped: Every value is a string (csv, tsv).
        word_lines: Each word of a row has a line of its own (conll).
    """

    origin: str
    names: list[str]
    columns: dict[str, list[Any]]
    lines: list[int] | None = None
    problems: list[Problem] = field(default_factory=list)
    skipped_blank: int = 0
    untyped: bool = False
    word_lines: bool = False

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def where(self, row: int, word: int = 0) -> str:
        """Return ``file:line`` of a row, or of a word in it where words have lines (both 0-based)."""
        return place(self.origin, self.lines, row, word if self.word_lines else 0)


def place(origin: str, lines: list[int] | None, row: int, offset: int = 0) -> str:
    """Name a row by file and line, or by its 1-based number where there are no lines."""
    return f"{origin}: row {row + 1}" if lines is None else f"{origin}:{lines[row] + offset}"


def decode(data: bytes, origin: str) -> tuple[str, list[Problem]]:
    """Decode UTF-8, a byte order mark stripped.

    Args:
        data: The whole file.
        origin: Its name.

    Returns:
        The text (bad bytes replaced) and one problem for each line that holds bad bytes.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", [Problem("the file is UTF-16; save it as UTF-8", f"{origin}:1")]
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        problems = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            message = (
                f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; if the file is "
                "Windows-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8"
            )
            problems.append(Problem(message, f"{origin}:{number}"))
    return data.decode("utf-8", errors="replace"), problems


def split_lines(text: str) -> list[str]:
    """Split at LF or CRLF only: ``str.splitlines`` also cuts at U+0085, U+2028 and others."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def read_jsonl(text: str, origin: str, wanted: Collection[str]) -> Table:
    """Read one JSON object a line; blank lines are passed over."""
    table = Table(origin, [], {}, lines=[])
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    names: dict[str, None] = {}
    if text.lstrip().startswith("["):
        message = "the file is a JSON array; write one object a line (JSON Lines)"
        return Table(origin, [], {}, problems=[Problem(message, f"{origin}:1")])
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            table.skipped_blank += 1
            continue
        row, message = _json_row(line)
        if row is None:
            table.problems.append(Problem(message, f"{origin}:{number}"))
            continue
        rows.append(row)
        lines.append(number)
        names.update(dict.fromkeys(row))
    table.names, table.lines = list(names), lines
    table.columns = {name: [row.get(name) for row in rows] for name in names if name in wanted}
    table.columns = table.columns or _nameless(len(rows))
    return table


def _json_row(line: str) -> tuple[dict[str, Any] | None, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # a plain ValueError: a number of more digits than Python takes
        return None, f"invalid JSON: {error}"
    if not isinstance(row, dict):
        return None, f"a JSON object was expected, not {line.strip()[:40]!r}"
    if "\\u" in line:
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return None, "an escape such as \\ud83d stands alone; only pairs of them are a character"
    return row, ""


def read_delimited(text: str, origin: str, wanted: Collection[str], delimiter: str) -> Table:
    """Read comma- or tab-separated values with a header line; blank lines are passed over.

    Fields may be quoted as in RFC 4180. Many TSV files do not quote at all: one that has the same number of
    tabs in every line, and with quoting would be invalid or have fewer rows, is read with its quotes as plain
    characters.
    """
    header, rows, lines, problems, blank = _quoted_rows(text, origin, delimiter)
    if delimiter == "\t":
        plain = [(number, line.split("\t")) for number, line in enumerate(split_lines(text), start=1) if line]
        if len({len(row) for _, row in plain}) == 1 and (problems or len(plain) > len(rows) + 1):
            header, problems = plain[0][1], []
            rows, lines = [row for _, row in plain[1:]], [number for number, _ in plain[1:]]
    header = [name.strip() for name in header]
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        problems.append(Problem(f"the header names a column twice: {', '.join(map(repr, doubled))}", f"{origin}:1"))
    columns: dict[str, list[Any]] = {n: [row[i] for row in rows] for i, n in enumerate(header) if n in wanted}
    columns = columns or _nameless(len(rows))
    return Table(origin, header, columns, lines, problems, blank, untyped=True)


def _quoted_rows(
    text: str, origin: str, delimiter: str
) -> tuple[list[str], list[list[str]], list[int], list[Problem], int]:
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    problems: list[Problem] = []
    blank = 0
    limit = csv.field_size_limit(sys.maxsize)  # a long document is not an error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                problems.append(Problem(_csv_message(error), f"{origin}:{start}"))
                continue
            if not row:
                blank += 1
            elif not header:
                header = row
            elif len(row) != len(header):
                message = f"{len(row)} fields, but the header has {len(header)}"
                message += f"; a field that holds {delimiter!r} must be quoted"
                problems.append(Problem(message, f"{origin}:{start}"))
            else:
                rows.append(row)
                lines.append(start)
    finally:
        csv.field_size_limit(limit)
    return header, rows, lines, problems, blank


def _csv_message(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote that opens in this row is never closed"
    return f"{error}; inside a quoted field a quote is written twice"


def read_txt(text: str, origin: str) -> Table:
    """Read one text a line; blank lines, common in plain text files, are passed over and counted."""
    lines = split_lines(text)
    kept = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    table = Table(origin, ["text"], {"text": [line for _, line in kept]}, [number for number, _ in kept])
    table.skipped_blank = len(lines) - len(kept)
    tagged = re.compile(r"\S+[ \t](.*[ \t])?(O|[BIESLU]-\S+)[ \t]*")
    sample = [line for _, line in kept[:200]]
    if len(sample) > 1 and all(tagged.fullmatch(line) or line.startswith(DOCUMENT_BORDER) for line in sample):
        message = "every line looks like a word with its tag; if this is a CoNLL file, set format: conll"
        table.problems.append(Problem(message, origin))
    return table


def read_conll(text: str, origin: str, words: int = 0, tags: int = -1) -> Table:
    """Read columns of words and tags: one word a line, a blank line after each sentence.

    Columns are separated by tabs if the first line of words holds one, else by runs of spaces. ``-DOCSTART-``
    lines end a sentence and are no words. There are no comment lines: ``#`` is a word.

    Args:
        text: The file.
        origin: Its name.
        words: Index of the column of words; negative counts from the last.
        tags: Index of the column of tags.

    Returns:
        Columns ``words`` and (unless the file has one column only) ``tags``, each a list for each sentence.
        Word *j* of a row stands *j* lines below the row's line.
    """
    table = Table(origin, ["words", "tags"], {}, lines=[], word_lines=True)
    sentences: list[list[list[str]]] = []
    lines: list[int] = []
    width, tabbed, fresh = 0, False, True
    for number, line in enumerate(split_lines(text), start=1):
        stripped = line.strip(" \t")
        if not stripped or stripped.startswith(DOCUMENT_BORDER):
            fresh = True
            continue
        if not width:
            tabbed = "\t" in line
        cells = line.rstrip("\t ").split("\t") if tabbed else stripped.replace("\t", " ").split(" ")
        if not tabbed and "" in cells:
            cells = [cell for cell in cells if cell]
        if not width:
            width = len(cells)
            table.problems += _index_problems(width, {"words": words, "tags": tags}, f"{origin}:{number}")
        elif len(cells) != width:
            message = f"{len(cells)} column{'s' * (len(cells) != 1)} where the lines before have {width}"
            table.problems.append(Problem(message, f"{origin}:{number}"))
            cells = ["O"] * width  # holds the place, so that the lines below still count right
        if fresh:
            sentences.append([])
            lines.append(number)
            fresh = False
        sentences[-1].append(cells)
    table.lines = lines
    if -width <= min(words, tags) and max(words, tags) < width:
        table.columns["words"] = [[cells[words] for cells in sentence] for sentence in sentences]
        if width > 1:
            table.columns["tags"] = [[cells[tags] for cells in sentence] for sentence in sentences]
    if width == 1:
        table.names = ["words"]
    return table


def _index_problems(width: int, indexes: dict[str, int], where: str) -> Iterable[Problem]:
    for key, index in indexes.items():
        if not -width <= index < width:
            yield Problem(f"columns.{key} is {index}, but the line has {width} columns (0 to {width - 1})", where)


def read_parquet(path: Path, origin: str, wanted: Collection[str]) -> Table:
    """Read a Parquet file; ``ClassLabel`` columns written by the datasets library come back as names."""
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset

    try:
        names = pyarrow.parquet.read_schema(path).names
        table = pyarrow.parquet.read_table(path, columns=[name for name in names if name in wanted])
    except pyarrow.ArrowException as error:
        return Table(origin, [], {}, problems=[Problem(f"not a readable Parquet file: {error}", origin)])
    return Table(origin, names, _columns(Dataset(table)) or _nameless(table.num_rows))


def read_dataset(rows: Any, origin: str, wanted: Collection[str]) -> Table:
    """Read a ``datasets.Dataset``; ``ClassLabel`` values become names, -1 (unknown) becomes missing."""
    names = list(rows.column_names)
    present = [name for name in names if name in wanted]
    columns = _columns(rows.select_columns(present)) if present else {}
    return Table(origin, names, columns or _nameless(len(rows)))


def _nameless(rows: int) -> dict[str, list[Any]]:
    """Return a column without a name: it keeps the number of rows where no wanted column is there."""
    return {"": [None] * rows}


def _columns(rows: Any) -> dict[str, list[Any]]:
    rows = rows.with_format(None)
    return {name: _named(rows[name][:], rows.features[name]) for name in rows.column_names}


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Replace the numbers of a ``ClassLabel``, or of lists of them, by names."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        names = list(feature.names or [])
        return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None for v in values]
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel):
        return [None if value is None else _named(value, inner) for value in values]
    return values
