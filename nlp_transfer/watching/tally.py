"""What a window of a stream held: counts, and a bounded sample of confidences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from .reservoir import Reservoir

SAMPLE = 2000
"""Confidences that are kept of a window: all of a small one, a random sample of a large one."""


@dataclass(frozen=True)
class Observation:
    """What an answer says of a text.

    Args:
        labels: Its label or labels; for entities, the types that it mentions.
        confidence: 0 to 1: the probability of the label; of several labels the mean probability of what was decided
            on each; of entities the mean over words that were read. None where there are none.
        known: Labels that a text could have, where the answer names them.
    """

    labels: frozenset[str]
    confidence: float | None
    known: tuple[str, ...] = ()


def observe(answer: Mapping[str, Any]) -> Observation:
    """Read what :meth:`nlp_transfer.inference.Predictor.__call__` answers for a text."""
    if "entities" in answer:
        scores = [word["score"] for word in answer["words"] if word["score"] is not None]
        return Observation(frozenset(one["label"] for one in answer["entities"]), fmean(scores) if scores else None)
    probabilities = answer["probabilities"]
    known = tuple(probabilities)
    if "labels" in answer:
        given = frozenset(answer["labels"])
        decided = [value if label in given else 1 - value for label, value in probabilities.items()]
        return Observation(given, fmean(decided), known)
    return Observation(frozenset([answer["label"]]), answer["score"], known)


@dataclass
class Tally:
    """Counts over some texts.

    Args:
        texts: Number of texts.
        counts: By label, the number of texts that have it.
        sample: Confidences of the texts that have one.
        begin: Time of the first text, in seconds since 1970.
        end: Time of the last one.
    """

    texts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    sample: Reservoir[float] = field(default_factory=lambda: Reservoir(SAMPLE))
    begin: float | None = None
    end: float | None = None

    def add(self, seen: Observation, time: float | None = None) -> None:
        """Count a text."""
        self.texts += 1
        self.counts.update(dict.fromkeys(seen.known, 0))
        self.counts.update(seen.labels)
        if seen.confidence is not None:
            self.sample.add(seen.confidence)
        if time is not None:
            self.begin = time if self.begin is None else min(self.begin, time)
            self.end = time if self.end is None else max(self.end, time)

    def merge(self, other: Tally) -> None:
        """Add the texts of another tally; of confidences its sample."""
        self.texts += other.texts
        self.counts.update(other.counts)
        for confidence in other.confidences:
            self.sample.add(confidence)

    def share(self, label: str) -> float:
        """Return the share of texts with a label, 0 to 1."""
        return self.counts[label] / self.texts if self.texts else 0.0

    @property
    def confidences(self) -> list[float]:
        """Confidences, at most :data:`SAMPLE` of them, each text's with the same chance."""
        return self.sample.kept

    @property
    def confidence(self) -> float | None:
        """Mean confidence."""
        return fmean(self.confidences) if self.confidences else None
