"""Figures: the same input gives the same SVG, which brings nothing into a page but a picture and its words."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from nlp_transfer.calibration import reliability
from nlp_transfer.intervals import Interval
from nlp_transfer.report.curves import Curve, Training
from nlp_transfer.report.domains import View
from nlp_transfer.report.figures.calibration import draw_reliability
from nlp_transfer.report.figures.cost import draw_costs
from nlp_transfer.report.figures.domains import draw_points
from nlp_transfer.report.figures.intervals import MOST_LINES, Line, Scale, draw_intervals
from nlp_transfer.report.figures.style import Drawing, short
from nlp_transfer.report.figures.training import _look, draw_losses, draw_scores

HOSTILE = '_$x^{2}$ <script>alert(1)</script> & "q"\n'


def curves(*names: str, count: int = 30) -> list[Curve]:
    steps = list(range(1, count + 1))
    return [Curve(name, steps, [1 / (at + number) for at in steps]) for number, name in enumerate(names)]


def draw(kind: str, name: str = "one", label: str = "adapted") -> Drawing:
    points = np.random.default_rng(0).normal(size=(2, 300, 2)).round(3)
    view = View(label, None, None, {"source": points[0].tolist(), "target": points[1].tolist()}, 0.4)
    training = Training("finetune", curves("total", label), curves("accuracy"), [10])
    sure = np.linspace(0.3, 1, 50)
    interval = Interval(0.5, 0.4, 0.7)
    made = {
        "losses": lambda: draw_losses(training, name),
        "scores": lambda: draw_scores([training], "accuracy", {"finetune": 7}, name),
        "intervals": lambda: draw_intervals([Line(label, {"a": interval})], Scale("F1", True), name, label, label),
        "points": lambda: draw_points([view], 0, name, label),
        "reliability": lambda: draw_reliability({label: reliability(sure, sure > 0.5)}, name, label, label),
        "costs": lambda: draw_costs({label: 3.0, "b": 1.0}, {label: "3 s", "b": "1 s"}, name, label),
    }
    return made[kind]()


KINDS = ["losses", "scores", "intervals", "points", "reliability", "costs"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_always_the_same(kind: str) -> None:
    first = draw(kind)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert draw(kind) == first
        assert matplotlib.rcParams["font.size"] == 30  # and what the user has set stays set
    assert not re.search(r"\d{4}-\d\d-\d\d|matplotlib", first.svg)
    assert len(first.svg) < 150_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_read_out(kind: str) -> None:
    drawing = draw(kind, "it")
    root = ElementTree.fromstring(drawing.svg)
    assert (root.tag, root.attrib["role"]) == ("svg", "img")
    assert (root[0].tag, root[0].attrib["id"], root[0].text) == ("title", "it-title", drawing.title)
    assert (root[1].tag, root[1].attrib["id"], root[1].text) == ("desc", "it-desc", drawing.finding)
    assert root.attrib["aria-labelledby"] == "it-title" and root.attrib["aria-describedby"] == "it-desc"
    assert "width" not in root.attrib  # it is as wide as the page lets it


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_stays_within_itself(kind: str) -> None:
    """Ids are its own, colours are variables of the page, and it has no style sheet, script or address."""
    svg = draw(kind, "own").svg
    assert all(found.startswith("own-") for found in re.findall(r'\bid="([^"]*)"', svg))
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)) <= {
        pair for found in re.findall(r'\bid="([^"]*)"', svg) for pair in ((found, ""), ("", found))
    }
    assert "http" not in svg and "<style" not in svg and "xmlns" not in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert "var(--series-1)" in svg and "var(--ink)" in svg


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_text_and_nothing_else(kind: str) -> None:
    svg = draw(kind, label=HOSTILE).svg
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_what_is_selected_and_where_rounds_end_is_told() -> None:
    told = draw("scores").finding
    assert "selected is step 7 with 0.143" in told
    assert "Rounds end at steps 10." in draw("losses").finding
    assert "total: 1 at first, 0.0333 at step 30." in draw("losses").finding


def test_many_losses_can_be_told_apart() -> None:
    looks = [_look(number) for number in range(12)]
    assert len({str(look) for look in looks}) == 12


def test_many_lines_are_bounded() -> None:
    lines = [Line(f"class {number}", {"a": Interval(0.5, 0.6, 0.7)}) for number in range(100)]
    drawing = draw_intervals(lines, Scale("F1"), "x", "t", "f")
    assert f"class {MOST_LINES - 1}<" in drawing.svg and f"class {MOST_LINES}<" not in drawing.svg
    assert short("a" * 40) == "a" * 21 + "…"
    assert short("a\x00b\n") == "ab"
