"""Rows of a data set of the hub, read over the network as they are needed: of one commit, and none lies on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import datasets
from huggingface_hub.utils import get_session, httpx  # type: ignore[attr-defined]

from ..background import QUIET, NotYet, Pending, wait_while_heard
from ..errors import DataError, Problem
from .columns import ROWS_AT_ONCE, check_column
from .hub import commit_of, is_commit
from .load import HUB, why
from .texts import Row, checked

ADVICE = (
    "Nothing that was trained is lost: the same command goes on. Where the network is not fit for streaming, begin a "
    "run without corpus.streaming, under another name: the data set is downloaded first."
)


@dataclass(frozen=True)
class Stream:
    """A split of a data set of the hub that is streamed.

    Args:
        name: Key path in the recipe, such as ``stages.0.corpus``, for messages.
        hub_id: Hub id of the data set.
        split: Its split.
        config: Its configuration.
        revision: Branch, tag or commit; None for the main branch.
        column: Column of the texts.
        rows: How many of its rows are read, from the first; None for all.
    """

    name: str
    hub_id: str
    split: str | None
    config: str | None
    revision: str | None
    column: str
    rows: int | None

    @property
    def origin(self) -> str:
        """What it is called in messages."""
        return f"{HUB}{self.hub_id} ({self.split})"

    def commit(self) -> str:
        """Ask the hub which commit it is now; a commit that is named is taken at its word.

        Raises:
            DataError: No split is named, or the hub does not say.
        """
        if self.split is None:
            raise DataError([Problem(f"say which split to stream: {self.name}.split", f"{HUB}{self.hub_id}")])
        if self.revision is not None and is_commit(self.revision):
            return self.revision
        try:
            return commit_of(self.hub_id, self.revision)
        except Exception as error:
            raise self._broken("", why(error, ADVICE)) from error

    def read(self, commit: str, most: int | None = None) -> Iterator[Row]:
        """Read its rows.

        Args:
            commit: The commit that is read.
            most: Stop after as many rows.

        Raises:
            DataError: There is no such split or column, the connection broke for good, or for
                :data:`~nlp_transfer.background.QUIET` seconds nothing has arrived.
        """
        limit = min((count for count in (self.rows, most) if count is not None), default=None)
        number = 0
        # Everything that asks the hub happens in a thread that can be left behind.
        ask: Callable[[], Iterator[dict[str, Any]]] = lambda: islice(self._opened(commit), limit)  # noqa: E731
        rows = self._waited(ask, number)
        while batch := self._waited(lambda: list(islice(rows, ROWS_AT_ONCE)), number):
            for row in batch:
                number += 1
                yield checked(row.get(self.column), f"{self.origin}: row {number}")

    def _broken(self, where: str, reason: str) -> DataError:
        return DataError([Problem(f"{self.name} cannot be streamed{where}: {reason}", self.origin)])

    def _opened(self, commit: str) -> Iterable[dict[str, Any]]:
        builder = datasets.load_dataset_builder(self.hub_id, self.config, revision=commit)
        # Whatever goes wrong, `datasets` falls back to the commit in its cache that was loaded last.
        if is_commit(str(builder.hash)) and builder.hash != commit:
            raise ConnectionError(f"the hub does not give commit {commit[:12]}")
        rows: Any = builder.as_streaming_dataset(split=self.split)
        if rows.column_names is not None:
            check_column(self.column, rows.column_names, self.origin, "Name it with corpus.columns.text.")
            rows = rows.select_columns([self.column])
        return iter(rows)

    def _waited(self, ask: Callable[[], Any], number: int) -> Any:
        """Return what is asked for, as long as something arrives."""
        where = f" beyond row {number}" if number else ""
        listen()
        try:
            return wait_while_heard(Pending(f"stream {self.hub_id}", ask), _bytes_heard, QUIET)
        except NotYet:
            raise self._broken(where, f"nothing has arrived for {QUIET:.0f} s. {ADVICE}") from None
        except DataError:
            raise
        except Exception as error:  # the library, its HTTP client and its file readers share no base class
            raise self._broken(where, why(error, ADVICE)) from error


class _Heard:
    """Bytes that have arrived by the hub's client, whoever asked for them."""

    bytes = 0


_heard = _Heard()


class _Counted(httpx.SyncByteStream):  # type: ignore[misc, name-defined, unused-ignore]
    """The body of an answer, counted as it arrives."""

    def __init__(self, body: Any):
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            _heard.bytes += len(part)
            yield part

    def close(self) -> None:
        self._body.close()


def _count(response: Any) -> None:
    _heard.bytes += 1
    response.stream = _Counted(response.stream)


def _bytes_heard() -> int:
    # The client is another one after an error: asked again and again, it is listened to again.
    listen()
    return _heard.bytes


def listen() -> None:
    """Count what arrives: a group of rows may take longer than one may be silent, over a slow line."""
    hooks = get_session().event_hooks["response"]
    if _count not in hooks:
        hooks.append(_count)
