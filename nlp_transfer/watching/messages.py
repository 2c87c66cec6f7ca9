"""What a stream says, line by line: texts with an optional time and topic."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..data.texts import checked, written
from ..errors import nearest

FORMATS = ("txt", "jsonl")
LONGEST_TOPIC = 200


class BadLineError(ValueError):
    """A line of the stream that cannot be read.

    Args:
        why: What is wrong; what it quotes need not be UTF-8.
    """

    def __init__(self, why: str):
        super().__init__(written(why))


@dataclass(frozen=True)
class Keys:
    """Where in a JSON line things stand.

    Args:
        text: Key of the text.
        time: Key of the time; lines without it count when they arrive.
        topic: Key of the topic; lines without it count in the whole only.
    """

    text: str = "text"
    time: str = "timestamp"
    topic: str = "topic"


@dataclass(frozen=True)
class Message:
    """One text of a stream.

    Args:
        text: The text.
        time: Seconds since 1970 (UTC); None where the stream does not say.
        topic: What it belongs to, if the stream says so.
    """

    text: str
    time: float | None = None
    topic: str | None = None


def read_line(line: bytes, format: str, keys: Keys) -> Message | None:
    """Read a line.

    Args:
        line: Its bytes, without the line break.
        format: ``txt``: the line is a text; or ``jsonl``: it is an object.
        keys: Where in an object things stand.

    Returns:
        The message; None for a blank line.

    Raises:
        BadLineError: It cannot be read; says why.
    """
    text = _sound(line.decode("utf-8", errors="surrogateescape").removesuffix("\r").removeprefix("\ufeff"))
    if not text.strip():
        return None
    if format == "txt":
        return Message(text)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"invalid JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadLineError(f"a JSON object was expected, not {text.strip()[:40]!r}")
    return read_object(values, keys)


def read_object(values: Mapping[str, Any], keys: Keys) -> Message:
    """Read a message given as a mapping.

    Raises:
        BadLineError: It has no text, or a time or topic that is none.
    """
    if keys.text not in values:
        there = ", ".join(map(str, values))[:200]
        raise BadLineError(f"there is no '{keys.text}'; the keys are: {there}.{nearest(keys.text, map(str, values))}")
    topic = values.get(keys.topic)
    if not (topic is None or isinstance(topic, str | int | float)):
        raise BadLineError(f"the topic is {str(topic)[:40]}, not a string")
    named = None if topic is None else _sound(str(topic))[:LONGEST_TOPIC]
    return Message(_sound(values[keys.text]), read_time(values.get(keys.time)), named)


def read_time(value: Any) -> float | None:
    """Return seconds since 1970 of a number (seconds) or an ISO 8601 text (UTC unless it says otherwise).

    Raises:
        BadLineError: It is neither, or no time that a calendar knows.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return datetime.fromtimestamp(value, UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise BadLineError(
        f"the time is {str(value)[:40]!r}, neither seconds since 1970 nor ISO 8601 (2026-05-31T12:00:00Z)"
    )


def told_time(seconds: float | None) -> str | None:
    """Return a time as ISO 8601, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _sound(text: Any) -> str:
    row = checked(text, "")
    if row.text is None:
        raise BadLineError(row.error.removeprefix(": "))
    return row.text
