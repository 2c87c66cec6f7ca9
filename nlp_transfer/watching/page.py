"""The page of a watch: what has shifted, trends by topic, the last windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..report.figures.style import Drawing
from ..report.figures.trends import Point, draw_confidence, draw_shares
from ..report.page import render
from ..whole import write_text
from .monitor import Event, Monitor, Stream

MOST_TOPICS = 12
"""Topics that are shown: those with alerts, then those with the most windows."""
LAST_WINDOWS = 12


@dataclass(frozen=True)
class TopicFacts:
    """What the page shows of a topic.

    Args:
        name: The topic, or ``all texts``.
        reference: Share of each label in its reference.
        windows: The last windows, newest first.
        drawings: Its trends.
    """

    name: str
    reference: dict[str, float]
    windows: list[Event]
    drawings: list[Drawing]


def write_page(path: str | Path, monitor: Monitor, facts: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all.

    Args:
        path: HTML file.
        monitor: What has been counted.
        facts: Model, reference and summary of the watch.
    """
    shown = sorted(monitor.streams.values(), key=lambda one: (one.topic is not None, not one.shifted, -one.windows))
    topics = [_topic(stream, number) for number, stream in enumerate(shown[:MOST_TOPICS]) if stream.history]
    values = {
        "sentence": _sentence(monitor),
        "facts": {key.replace("_", " "): value for key, value in facts.items() if key != "event"},
        "alerts": list(monitor.alerts)[::-1],
        "alpha": monitor.rules.alpha,
        "topics": topics,
        "hidden": len(shown) - min(len(shown), MOST_TOPICS),
    }
    write_text(Path(path), render("watch.html", **values))


def _sentence(monitor: Monitor) -> str:
    texts, windows, alerts = (monitor.counts[key] for key in ("texts", "windows", "alerts"))
    seen = f"in {texts:,} texts and {windows:,} windows"
    if not alerts:
        return f"Nothing has shifted {seen}." if monitor.tested else f"Nothing could be compared yet {seen}."
    last = monitor.alerts[-1]
    one = "1 shift was" if alerts == 1 else f"{alerts:,} shifts were"
    return f"{one} found {seen}. The last one, window {last['window']}: {last['message']}."


def _topic(stream: Stream, number: int) -> TopicFacts:
    reference = {label: stream.reference.share(label) for label in sorted(stream.reference.counts)}
    points = [Point(one["window"], one["shares"], one["confidence"]) for one in stream.history]
    marked = {one["window"] for one in stream.history if one["shifted"]}
    name = "all texts" if stream.topic is None else stream.topic
    drawings = [draw_shares(points, marked, f"shares-{number}", name)]
    if any(point.confidence is not None for point in points):
        drawings.append(draw_confidence(points, stream.reference.confidence, marked, f"confidence-{number}", name))
    return TopicFacts(name, reference, list(stream.history)[: -LAST_WINDOWS - 1 : -1], drawings)
