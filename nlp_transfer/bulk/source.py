"""Where the texts of a prediction come from: a file, a hub data set, standard input or a pipe."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from datasets import Dataset

from ..data.columns import dataset_rows, parquet_rows
from ..data.formats import SUFFIXES
from ..data.load import HUB, from_hub
from ..data.texts import FORMATS, Row, read_rows
from ..errors import DataError, Problem
from ..hashing import file_sha256

STANDARD_INPUT = "-"
ALLOWED = (*FORMATS, "parquet")


@dataclass(frozen=True)
class TextSource:
    """Texts to predict for.

    Args:
        path: A txt (one text a line), jsonl, csv, tsv or parquet file, ``hub:owner/name``, or ``-`` for standard input.
        text_column: Column of the text (all but txt).
        format: Format of the file, where its suffix does not tell; standard input is ``txt`` by default.
        split: Split of a hub data set.
        config: Configuration of a hub data set.
        revision: Revision of a hub data set.
    """

    path: str
    text_column: str = "text"
    format: str | None = None
    split: str | None = None
    config: str | None = None
    revision: str | None = None

    @property
    def is_hub(self) -> bool:
        """Whether it is a data set of the hub."""
        return self.path.startswith(HUB)

    @property
    def is_standard_input(self) -> bool:
        """Whether it is standard input."""
        return self.path == STANDARD_INPUT

    @property
    def is_read_once(self) -> bool:
        """Whether its texts are gone when they are read: of standard input, a pipe (``<(zcat …)``) or a device."""
        path = Path(self.path)
        return self.is_standard_input or (not self.is_hub and path.exists() and not (path.is_file() or path.is_dir()))

    @property
    def origin(self) -> str:
        """What it is called in messages."""
        if self.is_hub:
            return f"{self.path} ({self.split})"
        return "standard input" if self.is_standard_input else self.path

    @contextlib.contextmanager
    def rows(self) -> Iterator[Iterator[Row]]:
        """Open it inside the block and give its rows, one by one.

        Raises:
            DataError: It cannot be opened, is of no known format, or has no such column; all of this at once.
        """
        if self.is_hub:
            yield dataset_rows(self._data_set(), self.text_column, self.origin)
            return
        if Path(self.path).is_dir():
            raise DataError([Problem("this is a folder; name a file in it", self.path)])
        kind = self._format()
        if kind == "parquet" and self.is_read_once:
            raise DataError([Problem("Parquet cannot be read from standard input or a pipe; name a file", self.origin)])
        if self.is_standard_input:
            yield read_rows(sys.stdin.buffer, self.origin, kind, self.text_column)
            return
        with _opened(self.path) as file:
            if kind == "parquet":
                yield parquet_rows(Path(self.path), self.text_column)
            else:
                yield read_rows(file, self.origin, kind, self.text_column)

    def identity(self) -> dict[str, Any]:
        """Return what tells these texts from others, under this name or another: settings, and a hash of the content.

        Reads everything once, which costs little beside predicting for it; not for what is read once.
        """
        if not self.is_hub:
            return asdict(self) | {"format": self._format(), "content": file_sha256(Path(self.path))}
        digest = hashlib.sha256()
        for row in dataset_rows(self._data_set(), self.text_column, self.origin):
            digest.update(repr((row.text, row.error)).encode())
        return asdict(self) | {"content": digest.hexdigest()}

    def stamp(self) -> tuple[int, int] | None:
        """Return size and time of the last change of a file, to see whether it changes; None for what is no file."""
        path = Path(self.path)
        if self.is_hub or self.is_standard_input or not path.is_file():
            return None
        return path.stat().st_size, path.stat().st_mtime_ns

    def _data_set(self) -> Dataset:
        if self.split is None:
            raise DataError([Problem("say which split of the data set with --split", self.path)])
        return from_hub(self.path.removeprefix(HUB), "--input", self.split, self.config, self.revision)

    def _format(self) -> str:
        named = [key for key in ("split", "config", "revision") if getattr(self, key) is not None]
        if named:
            raise DataError([Problem(f"--{named[0]} is for data sets of the hub ({HUB}owner/name)", self.path)])
        if self.is_standard_input and self.format is None:
            return "txt"
        suffix = Path(self.path).suffix
        chosen = SUFFIXES.get(suffix.lower()) if self.format is None else self.format
        if chosen not in ALLOWED:
            found = f"'{self.format}'" if self.format is not None else f"the suffix '{suffix}'"
            text = f"texts are read from {', '.join(ALLOWED)} files, not from {found}. Say which with --format."
            raise DataError([Problem(text, self.path)])
        return chosen


def _opened(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError([Problem(f"the input file cannot be opened: {error.strerror}", path)]) from error
