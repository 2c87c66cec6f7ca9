"""Pages of reports: right in every situation, complete in themselves, and nothing in them but what they say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import data_of, make_recipe
from pages import Page, read_page
from report_samples import ROLES, part, run_facts, write_comparison

import nlp_transfer.report
from nlp_transfer import run, write_report
from nlp_transfer.conclusions import comparison_words, in_one_sentence
from nlp_transfer.errors import RunError
from nlp_transfer.report import comparison
from nlp_transfer.report.comparison import _run_facts as real_run_facts
from nlp_transfer.report.comparison import comparison_page, read_comparison
from nlp_transfer.report.confusion import Confusion
from nlp_transfer.report.examples import Changes, Example, Piece, Reading
from nlp_transfer.report.run import run_page
from nlp_transfer.report.slices import Slice

HOSTILE = '<script>alert("x")</script><img src=//evil.example onerror=alert(1)>&amp;\x00{{ 7 * 7 }}'


FEW: dict[str, Any] = {"domains": None, "calibrations": {}, "trainings": [], "lengths": []}
"""Drawing takes time."""


def shown(**changes: Any) -> Page:
    return read_page(run_page(run_facts(**changes)))


def test_the_verdict_comes_first() -> None:
    page = shown(**FEW)
    main = page.text[page.text.index("To the verdict") :]
    assert main.index("Adaptation helped") < main.index("Kept as model/") < main.index("By class")
    assert "verdict helped" in [attrs.get("class") for attrs in page.named("p")]


@pytest.mark.parametrize("marked", [False, True])
def test_a_page_with_everything_is_without_fault(marked: bool) -> None:
    page = shown(marked=marked)
    titles = {attrs["id"] for name, attrs, around in page.elements if name == "title" and "svg" in around}
    drawn = ["classes", "lengths", "reliability-0", "reliability-1", "distance", "points-0", "points-1"]
    drawn += ["losses-0", "losses-1", "scores-0"]
    assert titles == {f"{name}-title" for name in drawn}
    assert len(page.named("mark")) == (24 if marked else 0)
    for text in (
        "3 of 3",
        "1 of 1",
        "Anna Berg" if marked else "good (71%)",
        "1.30",
        "0f0f0f0f0f0f0f0f…",
        "package7 1.7",
    ):
        assert text in page.text


NOTHING = dict.fromkeys(("fixed", "broken", "right", "wrong"), 0)
MISSING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": (
        {
            **{"domains": None, "calibrations": {}, "changes": None, "lengths": [], "classes": [], "confusions": {}},
            **{"trainings": [], "verdict": "", "sentence": "No verdict: nobody can say.", "notes": []},
        },
        [
            *["no target text", "recorded no calibration", "Without labelled target rows", "too few texts"],
            *["No class is gold or answered", "The run has no log", "No verdict: nobody can say."],
        ],
    ),
    "some": (
        {
            **{"trainings": [], "untold": ["source-only"], "oracle": "ORACLE: the labels of target.dev."},
            **{"changes": Changes([], [], NOTHING), "scores": [part("target.test", None)], "domains": None},
        },
        ["source-only: trained by another run", "ORACLE: the labels of target.dev.", "There are none.", "target.test"],
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_said(name: str) -> None:
    changes, told = MISSING[name]
    page = shown(**changes)
    assert [text for text in told if text not in page.text] == []


def test_one_model_alone_has_no_differences() -> None:
    def alone(one: Slice) -> Slice:
        return replace(one, gain=None, scores={"source-only": one.scores["source-only"]})

    facts = run_facts(changes=None)
    plain = {key: [alone(one) for one in getattr(facts, key)] for key in ("scores", "classes", "lengths")}
    calibrations = {"source-only": facts.calibrations["source-only"]}
    page = shown(**FEW | plain | {"changes": None, "calibrations": calibrations, "kept": "source-only"})
    assert "nothing in this recipe adapts to a target" in page.text
    assert "There is one model only" in page.text and "difference" not in page.text.lower().split("domains")[0]


def test_many_classes_are_a_list_of_confusions() -> None:
    labels = [f"class {number}" for number in range(30)]
    counts = [[9 if row == column else int(column == 0) for column in range(30)] for row in range(30)]
    page = shown(confusions={"adapted": Confusion(labels, counts)}, classes=[part(label) for label in labels], **FEW)
    assert "of 30 classes" in page.text and "matrix" not in [attrs.get("class") for attrs in page.named("table")]


def test_texts_are_only_text() -> None:
    readings = [Reading("gold", HOSTILE, []), Reading(HOSTILE, "", [Piece(HOSTILE, HOSTILE)])]
    rows = [Example(0, HOSTILE, readings), Example(1, "", [Reading("gold", "", [Piece(HOSTILE)])])]
    page = shown(
        name=HOSTILE,
        setup={HOSTILE: HOSTILE},
        sentence=HOSTILE,
        kept_because=HOSTILE,
        classes=[part(HOSTILE)],
        confusions={"adapted": Confusion([HOSTILE, "b"], [[1, 2], [3, 4]])},
        **FEW,
        changes=Changes(rows, [], {"fixed": 2, "broken": 0, "right": 0, "wrong": 0}),
        notes=[HOSTILE],
        recipe=HOSTILE,
    )
    assert not {"script", "img"} & {name for name, *_ in page.elements}
    assert page.text.count("{{ 7 * 7 }}") >= 10 and "\x00" not in page.text


def test_no_text_is_hard_to_see() -> None:
    """Contrast of text of at least 4.5 to 1, of lines and marks of at least 3 (WCAG 2.2), on screens and on paper."""
    css = (Path(nlp_transfer.report.__file__).parent / "templates/style.css").read_text()
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(schemes) == 3
    for colours in schemes:
        for ground in ("paper", "panel"):
            for text in ("ink", "muted", "series-1"):
                assert contrast(colours[text], colours[ground]) >= 4.5
            for mark in ("good", "bad", *(f"series-{number}" for number in range(1, 7))):
                assert contrast(colours[mark], colours[ground]) >= 3
        for share in (0.2, 0.45):  # marked entities, and the darkest cell of a confusion matrix
            assert contrast(colours["ink"], mixed(colours["series-1"], colours["panel"], share)) >= 4.5


def mixed(colour: str, ground: str, share: float) -> str:
    pairs = zip(*([int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in (colour, ground)), strict=True)
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in pairs)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# The verdict in a sentence


def test_the_sentence_of_every_situation() -> None:
    interval = {"value": 0.8, "low": 0.7, "high": 0.9}
    gain = {"value": 0.1, "low": 0.05, "high": 0.2}
    both = {role: {"source.dev": {"interval": interval}, "target.test": {"interval": interval}} for role in ROLES}
    judged = {"headline": "f1", "confidence": 0.95, "scores": both, "gain": {"target.test": gain}}
    verdict = {"verdict": {"split": "target.test", "verdict": "helped", "rows_that_differ": 40, **gain}}
    told = in_one_sentence(judged | verdict)
    assert told == "Adaptation helped on target.test: +0.100 [+0.050, +0.200] f1 over source-only."
    assert in_one_sentence(judged).startswith("No verdict: without labelled target rows")
    alone = {"headline": "f1", "scores": {"adapted": both["adapted"]}}
    assert "on target.test; without its source-only twin nobody can say" in in_one_sentence(alone)
    plain = {"headline": "f1", "scores": {"source-only": {"source.dev": {"interval": interval}}}}
    assert in_one_sentence(plain) == "The source-only model reaches 0.800 [0.700, 0.900] f1 on source.dev."


# Comparisons


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    return write_comparison(tmp_path, make_recipe(tmp_path / "run", Path("some/encoder")))


def test_the_page_of_a_comparison(compared: Path) -> None:
    page = read_page(write_report(compared).read_text(encoding="utf8"))
    sentence = "Without target labels, dann is picked; on target.test it helps: +0.050 [+0.030, +0.070] accuracy"
    assert sentence in page.text and page.text.index(sentence) < page.text.index("Scores and gains")
    assert "Helped: dann. Hurt: a strategy with a title <as long>." in page.text
    assert "final/dann/2-seeds-1a2b, the mean of the weights of its 2 runs: accuracy 0.860 [0.840, 0.880]" in page.text
    assert "over the mean of their 2 twins +0.010 [-0.010, +0.030], no evidence." in page.text
    assert "hurt (over source_only)" in page.text and "helped (over" not in page.text
    for text in ("dann (picked)", "0.850", "± 0.012", "0.150", "0 of 2", "1,234", "0.840", "dann.max_lambda=0.1"):
        assert text in page.text
    assert str(compared) not in page.text
    assert "final/dann/2-seeds-1a2b is not beside this page any more" in page.text


def test_the_page_of_a_comparison_tells_of_the_model_to_go_on_with(compared: Path) -> None:
    facts = read_comparison(compared)
    html = comparison_page(replace(facts, run=run_facts()))
    page = read_page(html)
    assert "What follows, as far as" in page.text
    for title in ("What changed", "Confidence", "In two dimensions", "Losses", "Which class is taken for which"):
        assert title in page.text
    assert 'href="runs/a%20strategy%20with%20a%20title%20%3Cas%20long%3E/2/report.html"' in html
    assert 'href="final/dann/2-seeds-1a2b/report.html"' in html


def test_a_run_to_go_on_with_that_cannot_be_read_costs_nothing_else(
    compared: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_run_facts", real_run_facts)  # tests of comparisons go without
    place = compared / "final/dann/2-seeds-1a2b"
    recipe = make_recipe(place, tiny_bert)
    run(recipe, data=data_of("classification"), checked=False)
    assert "What follows, as far as" in read_page(write_report(compared).read_text(encoding="utf8")).text
    metrics = json.loads((place / "metrics.json").read_text())
    for damaged in ({key: value for key, value in metrics.items() if key != "selection"}, None):
        if damaged is None:
            (place / "metrics.json").unlink()
        else:
            (place / "metrics.json").write_text(json.dumps(damaged))
        page = read_page(write_report(compared).read_text(encoding="utf8"))
        assert "final/dann/2-seeds-1a2b is not beside this page any more, or cannot be read." in page.text


def test_how_far_the_pick_is_from_the_best() -> None:
    summary: dict[str, Any] = {
        "picks_by": ["ensemble"], "picked": "mcc", "picked_run": "runs/mcc/1", "seeds": [1, 2], "best": "dann",
        "regret": {"value": 0.02, "low": -0.01, "high": 0.05, "seeds": 2}, "strategies": {"mcc": {}, "dann": {}},
    }  # fmt: skip
    told = comparison_words(summary)[-1]
    assert told.startswith("Best on target.test is dann; the pick is 0.020 [-0.010, 0.050] below it. Do not choose")
    one = summary | {"regret": summary["regret"] | {"seeds": 1}}
    assert "below it in the 1 seeds that both have." in comparison_words(one)[-1]
    assert "dann, which has no seed in common with the pick." in comparison_words(summary | {"regret": None})[-1]
    earlier = comparison_words(summary | {"regret": 0.02})[-1]
    assert earlier.startswith("Best on target.test is dann; the pick is 0.020 below it. Do not choose")
    assert "Best on target.test is mcc, too." in comparison_words(summary | {"best": "mcc"})[-1]


def test_a_gain_of_several_models_is_told_as_such(compared: Path) -> None:
    summary = json.loads((compared / "comparison.json").read_text())
    told = "Part of the gain of dann may come of averaging several models."
    assert told not in comparison_words(summary)
    summary["strategies"]["dann"]["made_of_others"] = True
    assert told in comparison_words(summary)
    summary["strategies"]["dann"]["gain"]["value"] = -0.01
    assert told not in comparison_words(summary)


def test_a_comparison_without_target_labels(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, make_recipe(tmp_path / "run", Path("some/encoder")), judged=False)
    page = read_page(comparison_page(read_comparison(folder)))
    assert "nobody can say whether anything helps" in page.text and "there are no gains to show" in page.text


# Folders that hold nothing to report on


def test_folders_without_results_are_named(tmp_path: Path, compared: Path) -> None:
    with pytest.raises(RunError, match="is no folder"):
        write_report(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds neither"):
        write_report(tmp_path / "empty")
    (tmp_path / "empty/recipe.yaml").write_text("name: x\n")
    with pytest.raises(RunError, match="not finished: run its recipe again"):
        write_report(tmp_path / "empty")
    (tmp_path / "empty/metrics.json").write_text("{")
    with pytest.raises(RunError, match="no finished run that can be reported on"):
        write_report(tmp_path / "empty")
    (compared / "comparison.json").write_text("{}")
    with pytest.raises(RunError, match="no comparison that can be reported on"):
        write_report(compared)
