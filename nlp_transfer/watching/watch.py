"""Watch a stream: read what arrives, predict in small batches, write trends and alerts, draw the page."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ..bulk.belongings import belongings
from ..bulk.places import refuse_clashes
from ..data.formats import SUFFIXES
from ..errors import DataError, Problem
from ..fetching import without_user
from ..inference import load_predictor
from .arriving import LONGEST_LINE, arriving
from .messages import FORMATS, BadLineError, Keys, Message, read_line, read_object, told_time
from .monitor import Event, Monitor, Rules
from .page import write_page
from .reference import FIRST, TARGET, Predict, reference_texts, tally_of
from .signals import Wishes, listening
from .tally import observe
from .windows import read_size

BATCH = 32
"""Texts that are predicted together, when as many are there; a text does not wait for others."""

Item = bytes | str | Mapping[str, Any] | None
"""A line of the stream (None: too long), or a text or mapping of the caller's."""


@dataclass(frozen=True)
class Output:
    """Where a watch writes.

    Args:
        lines: File of JSON lines, ``-`` for standard output, or a function that takes each event.
        page: HTML file; None for no page.
        overwrite: Replace files that exist.
    """

    lines: str | Path | Callable[[Event], None] = "-"
    page: str | Path | None = None
    overwrite: bool = False

    def check(self, reads: Mapping[str, str | Path | None]) -> None:
        """Refuse what would destroy something, or fail when the stream has ended.

        Args:
            reads: Files that are read meanwhile, or belong to the model, by what they are called.

        Raises:
            DataError: A file exists already, is a folder or has none, or is one of those.
        """
        refuse_clashes(reads, {"output": None if callable(self.lines) else self.lines, "page": self.page})
        for place in (self.lines, self.page):
            if callable(place) or place is None or str(place) == "-":
                continue
            path = Path(place)
            if path.is_dir() or not path.parent.is_dir():
                raise DataError([Problem("this is a folder, or there is none to write it to", str(path))])
            if path.is_file() and not self.overwrite:
                raise DataError([Problem("the file exists already; give --overwrite to replace it", str(path))])

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Event], None]]:
        """Give what writes an event inside the block; each line is flushed, so that a pipe sees it at once."""
        if callable(self.lines):
            yield self.lines
        elif str(self.lines) == "-":
            yield _writer(sys.stdout)
        else:
            with Path(self.lines).open("w", encoding="utf-8") as file:
                yield _writer(file)


def watch(
    model: str | Path | Predict,
    input: str | Path | Iterable[str | Mapping[str, Any]],
    output: Output | Callable[[Event], None] | None = None,
    *,
    rules: Rules | str = "200",
    format: str | None = None,
    keys: Keys | None = None,
    reference: str | None = None,
) -> dict[str, Any]:
    """Follow the labels of a stream of texts over time.

    Ctrl-C and SIGTERM end it as the end of the stream does, with summary and page, when all texts that have been read
    are counted; a second one does not wait for them. SIGUSR1 writes the page at once.
    Memory does not grow with the stream.

    Args:
        model: Run folder, model folder or hub id; or a predictor.
        input: A file, ``-`` for standard input; or texts (or mappings with a text, and perhaps a time and a topic).
        output: Where to write; or a function that takes each event. By default standard output, without a page.
        rules: Size of the windows (``200`` texts, or ``15m``, ``1h``), or all rules of when to look and when to alert.
        format: ``txt`` (a text a line) or ``jsonl``; by default by the suffix of the file, and ``txt``.
        keys: Where in an object text, time and topic stand.
        reference: ``target``, ``first`` or a file; see :func:`~nlp_transfer.watching.reference.reference_texts`.

    Returns:
        The last event, a summary: texts, windows, alerts, problems, and whether it was stopped.

    Raises:
        DataError: The input or the reference cannot be read, or a file to write exists, is one of the two
            or belongs to the model.
        ModelError: The model is not found or has no task head.
    """
    places = output if isinstance(output, Output) else Output("-" if output is None else output)
    named = None if reference in (TARGET, FIRST) else reference
    owned = belongings(model) if isinstance(model, str | Path) else {}
    places.check({**owned, "input": input if isinstance(input, str | Path) else None, "reference": named})
    wishes = Wishes()
    with contextlib.ExitStack() as stack:
        stack.enter_context(listening(wishes))
        batches = stack.enter_context(_batches(input, wishes.stopped))
        kind = _format(input, format)
        name = without_user(str(model)) if isinstance(model, str | Path) else type(model).__name__
        texts, told = reference_texts(name, reference)
        predict: Any = load_predictor(model) if isinstance(model, str | Path) else model
        chosen = Rules(read_size(rules)) if isinstance(rules, str) else rules
        monitor = Monitor(chosen, None if texts is None else tally_of(texts, predict))
        emit = stack.enter_context(places.opened())
        facts = {"model": name, "reference": told, "reference_texts": monitor.streams[None].reference.texts}
        facts |= {"commit": commit} if (commit := getattr(predict, "commit", None)) else {}
        watching = Watching(monitor, predict, emit, kind, Keys() if keys is None else keys, wishes)
        return watching.follow(batches, facts, places.page)


@dataclass
class Watching:
    """One watch under way.

    Args:
        monitor: Counts and tests.
        predict: The model.
        emit: Takes each event.
        format: Of lines.
        keys: Where in an object things stand.
        wishes: What signals ask for.
        read: Lines read.
        problems: Of these, those that could not be read.
    """

    monitor: Monitor
    predict: Predict
    emit: Callable[[Event], None]
    format: str
    keys: Keys
    wishes: Wishes
    read: int = 0
    problems: int = 0
    begun: float = field(default_factory=time.monotonic)

    def follow(
        self, batches: Iterable[Sequence[Item]], facts: dict[str, Any], page: str | Path | None
    ) -> dict[str, Any]:
        """Follow the stream to its end, or until it is stopped; return the summary."""
        size = self.monitor.rules.size
        window = f"{size.texts} texts" if size.seconds is None else f"{size.seconds} s"
        self.emit({"event": "begin", **facts, "window": window, "alpha": self.monitor.rules.alpha})
        if self.monitor.rules.warning is not None:
            self.emit({"event": "warning", "message": self.monitor.rules.warning})
        try:
            try:
                for batch in batches:
                    self._batch(batch)
                    if self.wishes.page and page is not None:
                        self.wishes.page = False
                        write_page(page, self.monitor, facts | self._summary())
            except KeyboardInterrupt:
                self.wishes.stop = True
            self._emit_all(self.monitor.close())
            summary = self._summary()
            self.emit(summary)
            return summary
        finally:
            # Also when nobody reads the lines any more.
            if page is not None:
                write_page(page, self.monitor, facts | self._summary())

    def _batch(self, items: Sequence[Item]) -> None:
        found = [message for item in items if (message := self._message(item)) is not None]
        now = time.time()
        answers = self.predict([message.text for message in found]) if found else []
        for message, answer in zip(found, answers, strict=True):
            self._emit_all(self.monitor.add(message, observe(answer), now))
        self._emit_all(self.monitor.tick(now))

    def _message(self, item: Item) -> Message | None:
        self.read += 1
        try:
            if item is None:
                raise BadLineError(f"the line is longer than {LONGEST_LINE:,} bytes")
            if isinstance(item, bytes):
                message = read_line(item, self.format, self.keys)
            else:
                message = read_object({self.keys.text: item} if isinstance(item, str) else item, self.keys)
            self._check_time(message)
            return message
        except BadLineError as error:
            self.problems += 1
            self.emit({"event": "problem", "line": self.read, "message": str(error)})
            return None

    def _check_time(self, message: Message | None) -> None:
        """Refuse a time from beyond the next window: its window would swallow all that comes, until then."""
        ahead = self.monitor.rules.size.seconds
        if message is None or message.time is None or ahead is None:
            return
        now = time.time()
        if message.time > now + ahead:
            raise BadLineError(
                f"the time is {told_time(message.time)}, more than a window after now ({told_time(now)}); a time "
                "without a zone is taken for UTC"
            )

    def _emit_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.emit(event)

    def _summary(self) -> dict[str, Any]:
        counts = {**self.monitor.counts, "topics": len(self.monitor.streams) - 1, "problems": self.problems}
        return {
            "event": "summary",
            **counts,
            "stopped": self.wishes.stop,
            "seconds": round(time.monotonic() - self.begun, 2),
        }


@contextlib.contextmanager
def _batches(input: str | Path | Iterable[Any], stopped: Callable[[], bool]) -> Iterator[Iterable[Sequence[Item]]]:
    if not isinstance(input, str | Path):
        items = _until(stopped, input)
        yield iter(lambda: list(itertools.islice(items, BATCH)), [])
    elif str(input) == "-":
        yield arriving(sys.stdin.fileno(), BATCH, stopped=stopped)
    else:
        try:
            descriptor = os.open(input, os.O_RDONLY)
        except OSError as error:
            raise DataError([Problem(f"the input cannot be opened: {error.strerror}", str(input))]) from error
        try:
            if Path(input).is_dir():
                raise DataError([Problem("this is a folder; name a file in it", str(input))])
            yield arriving(descriptor, BATCH, stopped=stopped)
        finally:
            os.close(descriptor)


def _until(stopped: Callable[[], bool], items: Iterable[Any]) -> Iterator[Any]:
    """Give items until nothing more is to be read; no item is taken that is not given."""
    source = iter(items)
    while not stopped():
        try:
            yield next(source)
        except StopIteration:
            return


def _format(input: Any, wanted: str | None) -> str:
    if wanted is None:
        suffix = Path(input).suffix.lower() if isinstance(input, str | Path) else ""
        wanted = SUFFIXES.get(suffix, "txt")
    if wanted not in FORMATS:
        raise DataError([Problem(f"a stream is {' or '.join(FORMATS)}, not '{wanted}'; say which with --format")])
    return wanted


def _writer(file: TextIO) -> Callable[[Event], None]:
    def write(event: Event) -> None:
        file.write(json.dumps(event, ensure_ascii=False) + "\n")
        file.flush()

    return write
