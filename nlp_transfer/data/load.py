"""Load files, hub data sets and ``datasets.Dataset`` objects as canonical, checked rows.

Everything a user can get wrong in a data file ends in one :class:`~nlp_transfer.errors.DataError` that lists
the bad rows by file and line. Nothing is guessed beyond the usual column names, and no bad row is skipped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import Dataset, Features, List, Value
from datasets.exceptions import DatasetsError

from ..errors import DataError, Problem, nearest
from ..recipe.schema import Columns
from . import formats
from .canonical import KINDS, Canonical, Kind, canonicalise, column_names
from .formats import Table
from .hub import RefusedError, load_hub_split
from .tags import Scheme

HUB = "hub:"
ORIGIN = "origin"
"""Column of rows that come from several domains: number of the source domain."""
LABELS = ("label", "labels", "tags")
"""Columns that hold labels."""
SHOWN = 20  # problems shown at once
LONGEST = 500  # letters of an error of a library
UNREAD = {".gz": "unpack it first", ".zip": "unpack it first", ".xlsx": "save it as csv", ".xls": "save it as csv"}
"""What to do about files that are no text, by their suffix."""

_FEATURES = {
    "text": Value("string"),
    "label": Value("string"),
    "labels": List(Value("string")),
    "words": List(Value("string")),
    "starts": List(Value("int32")),
    "tags": List(Value("string")),
}


@dataclass(frozen=True)
class Split:
    """Checked rows of one role in a recipe.

    Attributes:
        name: Key path in the recipe, such as ``data.target.test``.
        origin: File or hub id, for messages.
        rows: Canonical columns: ``text`` with ``label``, ``labels``, or ``words``, ``starts`` and ``tags``
            (IOB2).
        lines: 1-based line of each row in its file; ``None`` where rows have no lines.
        fingerprint: SHA-256 (hex) over the canonical rows, whatever format they came in.
        repaired: Tags repaired on request.
        skipped_blank: Blank lines passed over (txt, jsonl, csv, tsv).
        dropped_labels: The file held labels, which the kind does not load.
        scheme: Tag scheme the file was written in, if it held tags.
    """

    name: str
    origin: str
    rows: Dataset
    lines: list[int] | None
    fingerprint: str
    repaired: int = 0
    skipped_blank: int = 0
    dropped_labels: bool = False
    scheme: Scheme | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> Kind:
        """What the rows hold, by their columns."""
        columns = self.rows.column_names
        if "label" in columns:
            return "classification"
        if "labels" in columns:
            return "multi_label"
        if "words" in columns:
            return "ner" if "tags" in columns else "words"
        return "text"

    def locate(self, row: int) -> str:
        """Return ``file:line`` of a row (0-based)."""
        return formats.place(self.origin, self.lines, row)

    def select(self, indices: list[int], name: str | None = None) -> Split:
        """Return a split of some rows (0-based, in the order given), under a new name if one is given."""
        rows = self.rows.select(indices)
        lines = None if self.lines is None else [self.lines[index] for index in indices]
        chosen = self.name if name is None else name
        return replace(self, name=chosen, rows=rows, lines=lines, fingerprint=fingerprint(rows))

    def without_labels(self, name: str) -> Split:
        """Return the text (and words) of the rows under another name."""
        rows = self.rows.remove_columns([column for column in LABELS if column in self.rows.column_names])
        return replace(self, name=name, rows=rows, fingerprint=fingerprint(rows), scheme=None, repaired=0)

    def with_rows(self, rows: Dataset) -> Split:
        """Return a split with as many other rows at the same places, for instance with mapped labels."""
        if len(rows) != len(self.rows):
            raise ValueError(f"{len(rows)} rows cannot stand for {len(self.rows)}")
        return replace(self, rows=rows, fingerprint=fingerprint(rows))


def joined(splits: Sequence[Split], name: str) -> Split:
    """Return the rows of several splits as one; their column ``origin`` holds the number of the split they come from.

    Args:
        splits: At least one, of the same kind; a single one is returned under the new name as it is.
        name: Name of the whole.
    """
    if len(splits) == 1:
        return replace(splits[0], name=name)
    features = splits[0].rows.features
    columns = {column: [value for split in splits for value in split.rows[column][:]] for column in features}
    columns[ORIGIN] = [number for number, split in enumerate(splits) for _ in range(len(split))]
    rows = Dataset.from_dict(columns, features=Features({**features, ORIGIN: Value("int32")}))
    return Split(name, ", ".join(split.origin for split in splits), rows, None, fingerprint(rows))


def fingerprint(rows: Dataset) -> str:
    """Hash rows: the same columns and values give the same hash, on any machine and from any format."""
    digest = hashlib.sha256()
    for name in sorted(rows.column_names):
        digest.update(json.dumps([name, rows[name][:]], separators=(",", ":")).encode("ascii"))
    return digest.hexdigest()


def load_split(
    source: str | Path | Dataset,
    *,
    name: str,
    kind: Kind,
    columns: Columns | None = None,
    format: str | None = None,
    hub_split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    repair_tags: bool = False,
) -> Split:
    """Load and check the rows of one role.

    Args:
        source: A file, ``hub:owner/name``, or a ``datasets.Dataset``.
        name: Key path of the role, for messages.
        kind: ``classification``, ``multi_label`` or ``ner`` (labelled); ``text`` or ``words`` (unlabelled,
            for classification and for NER). Labels in a file that is loaded as unlabelled are never returned.
        columns: Names of the columns; ``None`` stands for the usual names.
        format: One of :data:`~nlp_transfer.data.formats.FORMATS`; by default from the file's suffix.
        hub_split: Split of a hub data set.
        config: Configuration of a hub data set.
        revision: Revision of a hub data set.
        repair_tags: Repair entities that begin with an inside tag instead of refusing them.

    Returns:
        The rows, at least one.

    Raises:
        DataError: The file cannot be read, or rows in it are bad; at most 20 are shown, the rest counted.
        ValueError: ``kind`` is none of the five.
        TypeError: ``source`` is nothing that can be loaded, such as a whole ``DatasetDict``.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    columns = Columns() if columns is None else columns
    wanted = {*column_names(columns).values(), "starts"}
    if isinstance(source, Dataset):
        table = formats.read_dataset(source, f"{name} (in memory)", wanted)
    elif not isinstance(source, (str, Path)):
        raise TypeError(f"a path, 'hub:…' or a datasets.Dataset was expected for {name}, not {type(source)}")
    elif str(source).startswith(HUB):
        hub = from_hub(str(source).removeprefix(HUB), name, hub_split, config, revision)
        table = formats.read_dataset(hub, f"{source} ({hub_split})", wanted)
    else:
        table = _from_file(Path(source), name, kind, columns, format, wanted)
    if not len(table):
        refuse(table.problems or [Problem(f"the file holds no rows ({name})", table.origin)])
    result = canonicalise(table, kind, columns, repair_tags)
    refuse([*table.problems, *result.problems])
    return _split(name, table, result)


def _split(name: str, table: Table, result: Canonical) -> Split:
    features = Features({column: _FEATURES[column] for column in result.columns})
    rows = Dataset.from_dict(result.columns, features=features)
    return Split(
        name=name,
        origin=table.origin,
        rows=rows,
        lines=table.lines,
        fingerprint=fingerprint(rows),
        repaired=result.repaired,
        skipped_blank=table.skipped_blank,
        dropped_labels=result.dropped_labels,
        scheme=result.scheme,
    )


def refuse(problems: list[Problem]) -> None:
    """Raise a ``DataError`` with the first 20 problems and the number of the others, if there are any."""
    if not problems:
        return
    shown = problems[:SHOWN]
    if len(problems) > SHOWN:
        shown.append(Problem(f"and {len(problems) - SHOWN} more"))
    raise DataError(shown, total=len(problems))


def _from_file(path: Path, name: str, kind: Kind, columns: Columns, format: str | None, wanted: set[str]) -> Table:
    origin = str(path)
    refuse(missing_file(path, name))
    chosen = formats.SUFFIXES.get(path.suffix.lower()) if format is None else format
    if chosen not in formats.FORMATS:
        what = f"the suffix '{path.suffix}'" if format is None else f"'{format}'"
        advice = UNREAD.get(path.suffix.lower(), f"set format to one of {', '.join(formats.FORMATS)}")
        refuse([Problem(f"{what} is no known format; {advice}", origin)])
    refuse(_unfit(chosen, kind, columns, origin))
    if chosen == "parquet":
        return formats.read_parquet(path, origin, wanted)
    try:
        text, problems = formats.decode(path.read_bytes(), origin)
    except OSError as error:
        raise DataError([Problem(f"the file cannot be read: {error.strerror}", origin)]) from error
    if not text.strip():
        refuse(problems or [Problem(f"the file is empty ({name})", origin)])
    if chosen == "conll":
        words, tags = columns.words, columns.tags
        table = formats.read_conll(
            text, origin, words if isinstance(words, int) else 0, tags if isinstance(tags, int) else -1
        )
    elif chosen == "jsonl":
        table = formats.read_jsonl(text, origin, wanted)
    elif chosen == "txt":
        table = formats.read_txt(text, origin)
    else:
        table = formats.read_delimited(text, origin, wanted, "," if chosen == "csv" else "\t")
    table.problems = [*problems, *table.problems]
    return table


def missing_file(path: Path, name: str) -> list[Problem]:
    """Return nothing of a file; of anything else the problem, with the nearest name in its folder."""
    if path.is_file():
        return []
    if path.is_dir():
        return [Problem(f"this is a folder; name a file in it ({name})", str(path))]
    if not path.parent.is_dir():
        return [Problem(f"no such file, and no folder '{path.parent}' either ({name})", str(path))]
    there = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    listing = f" Files there: {', '.join(there[:10])}{', …' if len(there) > 10 else ''}." if there else ""
    return [Problem(f"no such file ({name}).{nearest(path.name, there)}{listing}", str(path))]


def _unfit(format: str | None, kind: Kind, columns: Columns, origin: str) -> list[Problem]:
    """Say why a format cannot hold what the kind needs."""
    problems = []
    indexes = [key for key in ("words", "tags") if isinstance(getattr(columns, key), int)]
    named = [key for key in ("words", "tags") if isinstance(getattr(columns, key), str)]
    if format == "conll" and named and kind in ("ner", "words", "text"):
        problems.append(Problem(f"columns.{named[0]} must be a number (0 is the first column) for CoNLL", origin))
    if format != "conll" and indexes and kind in ("ner", "words"):
        problems.append(Problem(f"columns.{indexes[0]} must be a name, as the file is no CoNLL file", origin))
    if format == "conll" and kind in ("classification", "multi_label"):
        problems.append(Problem("a CoNLL file holds words and tags; this task needs texts and labels", origin))
    if format == "txt" and kind in ("classification", "multi_label"):
        problems.append(Problem("a txt file holds no labels; use csv, tsv, jsonl or parquet", origin))
    if format == "txt" and kind == "ner":
        message = "a txt file is one text a line, without tags; if it is a CoNLL file, set format: conll"
        problems.append(Problem(message, origin))
    if format in ("csv", "tsv") and kind == "ner":
        problems.append(Problem(f"a {format} file cannot hold words and tags; use conll, jsonl or parquet", origin))
    return problems


def from_hub(hub_id: str, name: str, split: str | None, config: str | None, revision: str | None) -> Dataset:
    """Load one split of a hub data set; it stays on disk, memory-mapped.

    Raises:
        DataError: No split is named, or the data set cannot be loaded.
    """
    where = f"{HUB}{hub_id}"
    if split is None:
        raise DataError([Problem(f"say which split to load: {name}.split", where)])
    try:
        loaded = load_hub_split(hub_id, config, split, revision)
    except Exception as error:  # the library, its HTTP client and its file readers share no base class
        asked = f"split '{split}', config {config or 'default'}, revision {revision or 'main'}"
        raise DataError([Problem(f"the data set could not be loaded ({asked}): {why(error)}", where)]) from error
    if not isinstance(loaded, Dataset):
        raise TypeError(f"{where} split {split!r} is {type(loaded)}, not one split")
    return loaded


LOAD_ONCE = (
    "Without a network: load it once with one (it stays in the cache; then set HF_HUB_OFFLINE=1), or save it as JSONL "
    "or Parquet and give that file."
)


def why(error: Exception, advice: str = LOAD_ONCE) -> str:
    """Return what went wrong with a data set of the hub.

    Args:
        error: Of the hub's client, of ``datasets``, or of one of its readers.
        advice: What helps where it is not what the hub answers, or what its files are like.
    """
    if isinstance(error, RefusedError):
        return f"{error}."
    cause: BaseException = error
    while not _words(cause) and cause.__cause__ is not None:
        cause = cause.__cause__
    told = f"{type(cause).__name__}: {_words(cause)[:LONGEST].removesuffix('.')}."
    # An unknown split, a configuration to choose, files that do not go together, or that are none.
    answered = isinstance(cause, ValueError | DatasetsError) and not isinstance(cause, OSError)
    return told if answered else f"{told} {advice}"


def _words(error: BaseException) -> str:
    """Return what an error says in one line; nothing where it only says that there is one."""
    told = " ".join(str(error).split()).removeprefix("An error occurred while generating the dataset").strip()
    # What follows the question mark may be the signature that opens a private file.
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", told)
