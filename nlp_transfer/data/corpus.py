"""A corpus of unlabelled text of any size: read from its file again whenever it is needed, never held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from datasets import Dataset

from ..errors import DataError, Problem
from .columns import dataset_rows, parquet_rows
from .formats import SUFFIXES
from .load import HUB, SHOWN, from_hub, missing_file, refuse
from .spans import is_blank
from .texts import FORMATS, Row, read_rows

ADVICE = "Name it with corpus.columns.text."


@dataclass(frozen=True)
class Corpus:
    """Checked texts; each iteration reads them anew, in order.

    Args:
        name: Key path in the recipe, such as ``stages.0.corpus``.
        origin: File or hub id, for messages.
        read: Opens the file and yields its rows.
        rows: Number of texts.
        fingerprint: SHA-256 (hex) over the texts, whatever format they come in.
        streamed: The texts come over the network each time: whether they are still those that were checked is looked
            at each time, too.
        changed: Called when they are not.
    """

    name: str
    origin: str
    read: Callable[[], Iterator[Row]]
    rows: int = 0
    fingerprint: str = ""
    streamed: bool = False
    changed: Callable[[], None] | None = None

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[str]:
        texts = (row.text for row in self.read() if row.text is not None)
        return self._the_same(texts) if self.streamed else texts

    def _the_same(self, texts: Iterator[str]) -> Iterator[str]:
        """Pass texts on, and stop with an error where they are not those that were checked."""
        digest, rows = hashlib.sha256(), 0
        for text in texts:
            rows += 1
            if rows > self.rows:
                break
            _add(digest, text)
            yield text
        if rows != self.rows or digest.hexdigest() != self.fingerprint:
            if self.changed is not None:
                self.changed()
            told = f"{'more than ' if rows > self.rows else ''}{min(rows, self.rows)} rows of {self.rows}"
            raise DataError(
                [
                    Problem(
                        f"the hub gives other texts ({told}) than when {self.name} was checked, so nothing is trained "
                        "on them. Run the same command again; if it happens again, give --fresh, or begin a run "
                        "without corpus.streaming",
                        self.origin,
                    )
                ]
            )


def load_corpus(
    source: str | Path | Dataset,
    *,
    name: str,
    column: str = "text",
    format: str | None = None,
    hub_split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    rows: int | None = None,
) -> Corpus:
    """Open a corpus, and read it once to check and count its rows.

    Args:
        source: A file (txt, jsonl, csv, tsv or parquet), ``hub:owner/name``, or a ``datasets.Dataset``. The last two
            lie memory-mapped on disk.
        name: Key path of the role, for messages.
        column: Name of the column of texts.
        format: Format of the file; by default from its suffix.
        hub_split: Split of a hub data set.
        config: Configuration of a hub data set.
        revision: Revision of a hub data set.
        rows: How many of its rows are read, from the first; by default all.

    Raises:
        DataError: The file cannot be read or holds no rows, or rows in it are bad: the first 20 are shown.
    """
    if isinstance(source, Dataset):
        corpus = _of_dataset(source, name, f"{name} (in memory)", column)
    elif str(source).startswith(HUB):
        hub = from_hub(str(source).removeprefix(HUB), name, hub_split, config, revision)
        corpus = _of_dataset(hub, name, f"{source} ({hub_split})", column)
    else:
        corpus = _of_file(Path(source), name, column, format)
    return check_corpus(corpus if rows is None else replace(corpus, read=partial(_first, corpus.read, rows)))


def check_corpus(corpus: Corpus) -> Corpus:
    """Read a corpus once, and return it with the number and the fingerprint of its texts.

    Raises:
        DataError: It holds no rows, or rows in it are bad: the first 20 are shown.
    """
    digest = hashlib.sha256()
    problems: list[Problem] = []
    rows = 0
    for number, row in enumerate(corpus.read(), start=1):
        if row.text is None or is_blank(row.text):
            problems.append(Problem(row.error or f"{corpus.origin}: row {number}: the text is empty"))
            if len(problems) == SHOWN:
                break
            continue
        _add(digest, row.text)
        rows += 1
    refuse(problems)
    if not rows:
        refuse([Problem(f"the file holds no rows ({corpus.name})", corpus.origin)])
    return replace(corpus, rows=rows, fingerprint=digest.hexdigest())


def _add(digest: hashlib._Hash, text: str) -> None:
    encoded = text.encode("utf-8")
    digest.update(b"%d:" % len(encoded) + encoded)


def _first(read: Callable[[], Iterator[Row]], rows: int) -> Iterator[Row]:
    return islice(read(), rows)


def _of_file(path: Path, name: str, column: str, format: str | None) -> Corpus:
    refuse(missing_file(path, name))
    chosen = SUFFIXES.get(path.suffix.lower()) if format is None else format
    if chosen == "parquet":
        return Corpus(name, str(path), partial(parquet_rows, path, column, ADVICE))
    if chosen not in FORMATS:
        what = f"the suffix '{path.suffix}'" if format is None else f"format '{format}'"
        allowed = ", ".join((*FORMATS, "parquet"))
        refuse([Problem(f"a corpus is text, not what {what} stands for; give it as {allowed} ({name})", str(path))])
    return Corpus(name, str(path), partial(_file_rows, path, str(chosen), column))


def _file_rows(path: Path, format: str, column: str) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            for row in read_rows(file, str(path), format, column, ADVICE):
                # Blank lines are common in plain text files, and are no texts.
                if format != "txt" or row.text is None or not is_blank(row.text):
                    yield row
    except OSError as error:
        raise DataError([Problem(f"the file cannot be read: {error.strerror}", str(path))]) from error


def _of_dataset(rows: Dataset, name: str, origin: str, column: str) -> Corpus:
    dataset_rows(rows, column, origin, ADVICE)  # refuses a missing column before anything is read
    return Corpus(name, origin, partial(dataset_rows, rows, column, origin, ADVICE))
