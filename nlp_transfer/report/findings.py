"""What tables and figures show, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..conclusions import interval_text
from ..intervals import Interval
from .domains import Domains, View
from .examples import Changes
from .facts import Calibration
from .slices import Slice

TOO_SURE = 0.02
"""Difference of mean confidence and share of right answers from which on a model is too sure, or not sure enough."""


def of_slices(slices: Sequence[Slice], what: str) -> str:
    """Tell where a model is best and worst, and where adaptation changed most.

    Args:
        slices: At least one.
        what: What the numbers are.
    """
    role = list(slices[0].scores)[-1]
    low, high = (pick(slices, key=lambda one: one.scores[role].value) for pick in (min, max))
    least, most = low.scores[role].value, high.scores[role].value
    told = f"The {what} of the {role} model lies between {least:.3f} ({low.name}) and {most:.3f} ({high.name})."
    if least == most:
        told = f"The {what} of the {role} model is {most:.3f} everywhere."
    gains = [(one.name, one.gain) for one in slices if one.gain is not None]
    if not gains:
        return told
    name, gain = max(gains, key=lambda one: abs(one[1].value))
    clear = [name for name, one in gains if one.low > 0 or one.high < 0]
    beyond = f"Clearly different: {', '.join(clear)}." if clear else "No difference is clear: every interval holds 0."
    return f"{told} The largest difference is {_signed(gain)} on {name}. {beyond}"


def of_changes(changes: Changes, first: str, second: str) -> str:
    """Tell how many rows were fixed and broken."""
    count = changes.counts
    return (
        f"Of {sum(count.values())} rows, the {second} model reads {count['fixed']} with fewer mistakes than the "
        f"{first} one and {count['broken']} with more; both get {count['right']} right, and {count['wrong']} with "
        "equally many mistakes."
    )


def of_calibration(found: Calibration, role: str, split: str) -> str:
    """Tell whether a model is as sure as it is right, and what the temperature changes."""
    bins, count = found.plain.bins, max(1, found.plain.count)
    sure = sum(one.confidence * one.count for one in bins) / count
    right = sum(one.accuracy * one.count for one in bins) / count
    verdict = "is about as sure as it is right"
    if abs(sure - right) >= TOO_SURE:
        verdict = "is too sure" if sure > right else "is not sure enough"
    return (
        f"The {role} model {verdict} on {split}: mean confidence {sure:.3f}, {right:.3f} of "
        f"{found.plain.count:,} answers right. Expected calibration error {found.plain.error:.3f}; under the "
        f"temperature {found.temperature:.2f}, which was fitted on source dev, {found.scaled.error:.3f}."
    )


def of_domains(domains: Domains) -> str:
    """Tell how well the domains can be told apart, before and after."""
    views = domains.views
    if any(view.distance is None for view in views):
        return "There are too few different texts in one of the domains to measure how well they can be told apart."
    if len(views) == 1:
        return f"{_distance(views[0])} The encoder is frozen: it is the same before and after."
    before, after = views
    assert before.distance is not None and after.distance is not None
    change = "There is no clear change"
    if after.distance.high < before.distance.low:
        change = "They have come closer"
    elif after.distance.low > before.distance.high:
        change = "They have moved apart"
    return f"{_distance(before)} {_distance(after)} {change}."


def of_view(view: View, domains: Domains) -> str:
    """Describe the picture of one model."""
    sizes = " and ".join(f"{len(points)} texts of {domains.splits[side]}" for side, points in view.points.items())
    distance = "" if view.distance is None else f" A-distance {interval_text(view.distance.to_dict())} of 2."
    return f"{sizes}; the two components show {view.shown:.0%} of the variance.{distance}"


def _distance(view: View) -> str:
    assert view.distance is not None and view.accuracy is not None
    return (
        f"In the vectors of the {view.model} model, a linear classifier finds the domain of {view.accuracy:.0%} of the "
        f"texts (chance is 50%): A-distance {interval_text(view.distance.to_dict())} of 2."
    )


def _signed(interval: Interval) -> str:
    return interval_text(interval.to_dict(), signed=True)
