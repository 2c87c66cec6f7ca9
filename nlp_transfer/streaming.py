"""Answers for a file of texts of any size, written as JSON Lines in the order of the texts."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from .data.texts import Row, format_of, read_rows
from .errors import DataError, Problem
from .inference import load_predictor
from .predictor import CHUNK

Predict = Callable[[Sequence[str]], list[dict[str, Any]]]


def predict_file(
    model: str | Path | Predict,
    input: str | Path,
    output: str | Path,
    *,
    text_column: str = "text",
    format: str | None = None,
    batch_tokens: int = 2048,
    overwrite: bool = False,
    chunk: int = CHUNK,
) -> dict[str, Any]:
    """Predict for every text of a file.

    The answer of a row is what :meth:`~nlp_transfer.predictor.Predictor.__call__` returns for its text; of a row that
    cannot be read it is ``{"error": "file:line: reason"}``, so that answers keep the order and number of the rows.

    Args:
        model: Run folder, model folder or hub id; or a predictor.
        input: A txt (one text a line), jsonl, csv or tsv file, or ``-`` for standard input.
        output: The file to write, or ``-`` for standard output. A file appears under its name when it is complete.
        text_column: Column of the text (jsonl, csv, tsv).
        format: Format of the input, where its suffix does not tell; standard input is ``txt`` by default.
        batch_tokens: Most padded tokens in one forward pass.
        overwrite: Replace an output file that exists.
        chunk: Texts held in memory and sorted by length together.

    Returns:
        ``rows``, ``errors`` (rows that could not be read) and ``seconds`` (without loading the model).

    Raises:
        DataError: The input cannot be read or the output cannot be written; checked before the model is loaded.
        ModelError: The model is not found or has no task head.
    """
    _check_output(str(input), str(output), overwrite)
    with _opened(str(input)) as file:
        origin = "standard input" if str(input) == "-" else str(input)
        kind = "txt" if str(input) == "-" and format is None else format_of(Path(input), format)
        rows = read_rows(file, origin, kind, text_column)
        predict = load_predictor(model, batch_tokens=batch_tokens) if isinstance(model, str | Path) else model
        if str(input) == "-" and sys.stdin.isatty():
            chunk = 1  # who types wants an answer to each line
        begun = time.monotonic()
        summary = {"rows": 0, "errors": 0}
        with _written(str(output)) as sink:
            for batch in iter(lambda: list(itertools.islice(rows, chunk)), []):
                for answer in _answers(predict, batch):
                    sink.write(json.dumps(answer, ensure_ascii=False) + "\n")
                sink.flush()
                summary["rows"] += len(batch)
                summary["errors"] += sum(row.text is None for row in batch)
    return summary | {"seconds": round(time.monotonic() - begun, 2)}


def _answers(predict: Predict, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    texts = [row.text for row in rows if row.text is not None]
    answers = iter(predict(texts) if texts else [])
    for row in rows:
        yield {"error": row.error} if row.text is None else next(answers)


def _check_output(input: str, output: str, overwrite: bool) -> None:
    """Refuse what would fail, or destroy something, after hours of work."""
    path = Path(output)
    if output == "-":
        return
    if path.is_dir():
        raise DataError([Problem("this is a folder; name a file in it as output", output)])
    if not path.parent.is_dir():
        raise DataError([Problem(f"there is no folder '{path.parent}' to write the output to", output)])
    if not path.is_file():
        return
    if input != "-" and Path(input).exists() and path.samefile(input):
        raise DataError([Problem("the output is the input file; name another one", output)])
    if not overwrite:
        raise DataError([Problem("the output file exists already; give --overwrite to replace it", output)])


@contextlib.contextmanager
def _opened(input: str) -> Iterator[BinaryIO]:
    if input == "-":
        yield sys.stdin.buffer
        return
    path = Path(input)
    if path.is_dir():
        raise DataError([Problem("this is a folder; name a file in it", input)])
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError([Problem(f"the input file cannot be opened: {error.strerror}", input)]) from error
    with file:
        yield file


@contextlib.contextmanager
def _written(output: str) -> Iterator[TextIO]:
    """Open the output; a regular file gets its name when the block ends well, and leaves nothing behind if not."""
    path = Path(output)
    if output == "-":
        yield sys.stdout
        return
    if path.exists() and not path.is_file():  # a pipe or a device
        with path.open("w", encoding="utf-8") as sink:
            yield sink
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
