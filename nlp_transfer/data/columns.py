"""Texts of one column, of a Parquet file or of a ``datasets.Dataset``: row by row, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import DataError, Problem, nearest
from .texts import Row, checked

ROWS_AT_ONCE = 1000


def parquet_rows(path: Path, column: str, advice: str = "Name it with --text-column.") -> Iterator[Row]:
    """Read texts of a Parquet file.

    Args:
        path: The file.
        column: Column of the text.
        advice: What to do where there is no such column.

    Returns:
        Rows, in order; a value that is no text, or no UTF-8, is named by its 1-based number.

    Raises:
        DataError: It is no readable Parquet file, or there is no such column (both at once, damage when it is met).
    """
    import pyarrow
    import pyarrow.parquet

    unreadable = (pyarrow.ArrowException, OSError)

    def batches() -> Iterator[Sequence[Any]]:
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column]):
                yield _texts(batch.column(0))
        except unreadable as error:
            raise DataError([Problem(f"not a readable Parquet file: {error}", str(path))]) from error

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except unreadable as error:
        raise DataError([Problem(f"not a readable Parquet file: {error}", str(path))]) from error
    check_column(column, file.schema_arrow.names, str(path), advice)
    return _rows(batches, str(path))


def dataset_rows(rows: Dataset, column: str, origin: str, advice: str = "Name it with --text-column.") -> Iterator[Row]:
    """Read texts of a data set, which lies memory-mapped on disk; see :func:`parquet_rows`.

    Args:
        rows: The data set.
        column: Column of the text.
        origin: What it is called in messages.
        advice: What to do where there is no such column.
    """
    check_column(column, rows.column_names, origin, advice)
    chosen = rows.select_columns([column])
    return _rows(lambda: (batch[column] for batch in chosen.iter(ROWS_AT_ONCE)), origin)


def _texts(values: Any) -> Sequence[Any]:
    """Return the values of a column as Python objects; bytes of a text that are no UTF-8 become surrogates."""
    import pyarrow

    try:
        return list(values.to_pylist())
    except UnicodeDecodeError:
        # What Parquet calls a string is not checked by those who write it.
        binary = values.cast(pyarrow.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", errors="surrogateescape") for value in binary]


def _rows(batches: Callable[[], Iterable[Sequence[Any]]], origin: str) -> Iterator[Row]:
    numbered = enumerate((value for batch in batches() for value in batch), start=1)
    return (checked(value, f"{origin}: row {number}") for number, value in numbered)


def check_column(column: str, names: list[str], origin: str, advice: str) -> None:
    """Refuse a column that is not there, with the nearest name.

    Args:
        column: Column that is asked for.
        names: Columns that are there.
        origin: What the data are called in messages.
        advice: What to do.

    Raises:
        DataError: The column is not among them.
    """
    if column not in names:
        message = f"no column '{column}'; there are: {', '.join(names)}.{nearest(column, names)} {advice}"
        raise DataError([Problem(message, origin)])
