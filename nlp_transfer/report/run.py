"""The report of a run."""

from __future__ import annotations

from pathlib import Path

from ..whole import write_text
from . import findings
from .domains import Domains
from .facts import RunFacts, gather
from .figures.calibration import draw_reliability
from .figures.domains import draw_points
from .figures.intervals import Line, Scale, draw_intervals
from .figures.style import Drawing
from .figures.training import draw_losses, draw_scores
from .page import REPORT, render
from .record import read_record
from .slices import Slice


def report_run(folder: Path) -> Path:
    """Write the report of a finished run, from what lies in its folder.

    Args:
        folder: The run folder.

    Returns:
        The file ``report.html``.

    Raises:
        RunError: There is no finished run in the folder, or it is damaged.
    """
    path = folder / REPORT
    write_text(path, run_page(gather(read_record(folder))))
    return path


def run_page(facts: RunFacts) -> str:
    """Return the report of a run as HTML.

    Args:
        facts: What it tells.
    """
    return render("run.html", facts=facts, figures=draw_run(facts), findings=findings)


def draw_run(facts: RunFacts) -> dict[str, list[Drawing]]:
    """Draw what there is to draw of a run, by section.

    Args:
        facts: What its report tells.
    """
    losses = [one for one in facts.trainings if one.losses]
    kinds = dict.fromkeys(curve.name for one in facts.trainings for curve in one.scores)
    return {
        "classes": _slices(facts.classes, "classes", "F1 of each class", "F1"),
        "lengths": _slices(facts.lengths, "lengths", "Score by length", facts.headline),
        "calibration": _calibration(facts),
        "distance": [] if facts.domains is None else _distance(facts.domains),
        "points": [] if facts.domains is None else _points(facts.domains),
        "losses": [draw_losses(one, f"losses-{number}") for number, one in enumerate(losses)],
        "scores": [
            draw_scores(facts.trainings, kind, facts.selected, f"scores-{number}") for number, kind in enumerate(kinds)
        ],
    }


def _slices(slices: list[Slice], name: str, title: str, what: str) -> list[Drawing]:
    if not slices:
        return []
    lines = [Line(one.name, one.scores) for one in slices]
    return [draw_intervals(lines, Scale(what), name, title, findings.of_slices(slices, what))]


def _calibration(facts: RunFacts) -> list[Drawing]:
    return [
        draw_reliability(
            {"as it is": found.plain, "with temperature": found.scaled},
            f"reliability-{number}",
            f"Reliability of the {role} model on {facts.looked_at}",
            findings.of_calibration(found, role, facts.looked_at),
        )
        for number, (role, found) in enumerate(facts.calibrations.items())
    ]


def _distance(domains: Domains) -> list[Drawing]:
    lines = [Line(one.model, {"A-distance": one.distance}) for one in domains.views if one.distance is not None]
    if not lines:
        return []
    scale = Scale("A-distance: 0 alike, 2 fully apart", limits=(0, 2.05))
    return [draw_intervals(lines, scale, "distance", "How far apart the domains are", findings.of_domains(domains))]


def _points(domains: Domains) -> list[Drawing]:
    return [
        draw_points(domains.views, at, f"points-{at}", findings.of_view(view, domains))
        for at, view in enumerate(domains.views)
    ]
