"""From answers to trends and alerts: the streams of all topics, in bounded memory; no input, no output."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .messages import Message, told_time
from .shift import SHARE, Test, compare, level_of
from .tally import Observation, Tally
from .windows import WindowSize

Event = dict[str, Any]
KEPT = 500
"""Windows of a topic, and alerts, that are kept for the page."""
OVER = 0.05
"""A shift is over when a window does not differ at this level."""


@dataclass(frozen=True)
class Rules:
    """When a monitor looks, and when it alerts.

    Args:
        size: Size of a window.
        alpha: Chance that a stream in which nothing shifts ever raises an alert.
        first_windows: Windows that are the reference of a stream that has no other.
        fewest: Texts below which a window is not tested.
        most_topics: Topics that are followed; texts of further ones count in the whole only.
    """

    size: WindowSize
    alpha: float = 0.05
    first_windows: int = 5
    fewest: int = 20
    most_topics: int = 100

    @property
    def warning(self) -> str | None:
        """What to say at the start of a watch that can never alert; None of one that can."""
        if self.size.texts is None or self.size.texts >= self.fewest:
            return None
        return (
            f"windows of {self.size.texts} texts are never tested, so this watch cannot alert: a test needs "
            f"{self.fewest}. Give a larger --window"
        )


@dataclass
class Stream:
    """All texts, or those of a topic.

    Args:
        topic: The topic; None for all texts.
        reference: What windows are compared with.
        missing: Windows that the reference still lacks.
        window: The window that is open.
        opened: When it begins, of windows of time.
        by_arrival: Whether the last text counted when it arrived, as it had no time.
        windows: Number of windows that are closed.
        shifted: What differs from the reference since an alert.
        history: The last windows, as events.
    """

    topic: str | None
    reference: Tally
    missing: int
    window: Tally = field(default_factory=Tally)
    opened: float | None = None
    by_arrival: bool = False
    windows: int = 0
    shifted: set[tuple[str, str | None]] = field(default_factory=set)
    history: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT))


class Monitor:
    """Follows a stream of answers.

    Args:
        rules: When it looks and alerts.
        reference: What all texts together are compared with; None for their first windows. Topics, which differ from
            each other, are compared with their own first windows.
    """

    def __init__(self, rules: Rules, reference: Tally | None = None):
        self.rules = rules
        whole = Stream(None, Tally(), rules.first_windows) if reference is None else Stream(None, reference, 0)
        self.streams: dict[str | None, Stream] = {None: whole}
        self.alerts: deque[Event] = deque(maxlen=KEPT)
        self.tested = 0
        self.counts = {"texts": 0, "windows": 0, "alerts": 0, "late": 0, "beyond_most_topics": 0}

    def add(self, message: Message, seen: Observation, now: float) -> list[Event]:
        """Count a text; return what came of it: windows that it completes, and their alerts.

        Args:
            message: The text.
            seen: What was answered.
            now: Seconds since 1970, which count where the message has no time.
        """
        time = now if message.time is None else message.time
        self.counts["texts"] += 1
        events: list[Event] = []
        for stream in self._streams_of(message):
            stream.by_arrival = message.time is None
            events += self._add(stream, seen, time)
        return events

    def tick(self, now: float) -> list[Event]:
        """Close windows of time that are over by the clock; for streams whose texts carry no time."""
        waiting = [stream for stream in self.streams.values() if stream.by_arrival]
        return [event for stream in waiting for event in self._advance(stream, now)]

    def close(self) -> list[Event]:
        """Close all windows, whole or not."""
        return [event for stream in self.streams.values() if stream.window.texts for event in self._close(stream)]

    def _streams_of(self, message: Message) -> list[Stream]:
        whole = self.streams[None]
        if message.topic is None:
            return [whole]
        if message.topic not in self.streams:
            if len(self.streams) > self.rules.most_topics:
                self.counts["beyond_most_topics"] += 1
                return [whole]
            self.streams[message.topic] = Stream(message.topic, Tally(), self.rules.first_windows)
        return [whole, self.streams[message.topic]]

    def _add(self, stream: Stream, seen: Observation, time: float) -> list[Event]:
        events = self._advance(stream, time)
        if self.rules.size.seconds is not None:
            begins = self.rules.size.begins(time)
            if stream.opened is None:
                stream.opened = begins
            if begins < stream.opened and stream.topic is None:
                self.counts["late"] += 1
        stream.window.add(seen, time)
        if stream.window.texts == self.rules.size.texts:
            events += self._close(stream)
        return events

    def _advance(self, stream: Stream, time: float) -> list[Event]:
        """Close a window of time that is over at a moment; a text that comes late counts in the one that is open."""
        over = stream.opened is not None and self.rules.size.begins(time) > stream.opened
        return self._close(stream) if over else []

    def _close(self, stream: Stream) -> list[Event]:
        window = stream.window
        stream.window, stream.opened = Tally(), None
        stream.windows += 1
        self.counts["windows"] += 1
        if stream.missing:
            stream.reference.merge(window)
            stream.missing -= 1
            return [self._told(stream, window, "reference")]
        if window.texts < self.rules.fewest or not stream.reference.texts:
            return [self._told(stream, window, "too few texts")]
        self.tested += 1
        tests = compare(window, stream.reference, level_of(self.tested, self.rules.alpha))
        alerts = self._alerts(stream, tests)
        return [self._told(stream, window, "tested"), *alerts]

    def _alerts(self, stream: Stream, tests: list[Test]) -> list[Event]:
        """Return an alert for what begins to differ, and a line for what does no longer."""
        events = []
        for test in tests:
            if test.rejects and test.measure not in stream.shifted:
                stream.shifted.add(test.measure)
                self.counts["alerts"] += 1
                events.append(_alert("alert", stream, test))
                self.alerts.append(events[-1])
            elif test.measure in stream.shifted and test.p > OVER:
                stream.shifted.remove(test.measure)
                events.append(_alert("over", stream, test))
        return events

    def _told(self, stream: Stream, window: Tally, role: str) -> Event:
        labels = sorted({*window.counts, *stream.reference.counts})
        event: Event = {
            "event": "window",
            "topic": stream.topic,
            "window": stream.windows,
            "begin": told_time(window.begin),
            "end": told_time(window.end),
            "texts": window.texts,
            "shares": {label: round(window.share(label), 4) for label in labels},
            "confidence": None if window.confidence is None else round(window.confidence, 4),
            "role": role,
            "shifted": sorted(of if label is None else label for of, label in stream.shifted),
        }
        stream.history.append(event)
        return event


def _alert(event: str, stream: Stream, test: Test) -> Event:
    what = f"share of '{test.label}'" if test.of == SHARE else "confidence"
    where = "" if stream.topic is None else f" in topic '{stream.topic}'"
    begins = "has shifted" if event == "alert" else "is back"
    return {
        "event": event,
        "topic": stream.topic,
        "window": stream.windows,
        "of": test.of,
        "label": test.label,
        "value": round(test.value, 4),
        "reference": round(test.reference, 4),
        "p": float(f"{test.p:.3g}"),
        "level": float(f"{test.level:.3g}"),
        "message": f"{what}{where} {begins}: {test.value:.3f}, reference {test.reference:.3f}",
    }
