"""From the parts of a prediction to one file: JSON Lines, or Parquet with typed columns."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

PARQUET = ".parquet"
ROWS_AT_ONCE = 1000


def join_parts(parts: Sequence[Path], output: Path) -> None:
    """Write parts one after the other; the output gets its name when it is complete.

    Args:
        parts: JSON Lines files of answers, in order.
        output: The file; ``.parquet`` makes it a Parquet file, everything else JSON Lines.
    """
    whole = output.with_name(output.name + ".part")
    try:
        if output.suffix.lower() == PARQUET:
            _write_parquet(parts, whole)
        else:
            with whole.open("wb") as sink:
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, sink)
        with whole.open("rb") as written:
            os.fsync(written.fileno())
        whole.replace(output)
    finally:
        whole.unlink(missing_ok=True)


def _write_parquet(parts: Sequence[Path], output: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = answer_schema(next((answer for answer in _answers(parts) if "error" not in answer), {}))
    answers = _answers(parts)
    with pyarrow.parquet.ParquetWriter(output, schema) as writer:
        while rows := list(islice(answers, ROWS_AT_ONCE)):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))


def _answers(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        with part.open(encoding="utf8", newline="\n") as lines:
            yield from map(json.loads, lines)


def answer_schema(answer: dict[str, Any]) -> pyarrow.Schema:
    """Return the columns of a Parquet file of answers.

    Args:
        answer: One answer; those of a model have the same keys, but for ``empty`` and ``error``. Without one (all rows
            are errors), only the columns that all files have.
    """
    import pyarrow as pa

    text, number = pa.large_string(), pa.float64()
    place = [("start", pa.int64()), ("end", pa.int64())]
    types = {
        "label": text,
        "score": number,
        "labels": pa.list_(text),
        "probabilities": pa.struct([(label, number) for label in answer.get("probabilities", ())]),
        "words": pa.list_(pa.struct([("word", text), *place, ("tag", text), ("score", number)])),
        "entities": pa.list_(pa.struct([("text", text), ("label", text), *place, ("score", number)])),
    }
    own = [(key, kind) for key, kind in types.items() if key in answer]
    return pa.schema([("text", text), *own, ("empty", pa.bool_()), ("error", text)])
