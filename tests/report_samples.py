"""Facts of reports, made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.calibration import reliability
from nlp_transfer.intervals import Interval
from nlp_transfer.recipe import dump
from nlp_transfer.report.confusion import Confusion
from nlp_transfer.report.curves import Curve, Training
from nlp_transfer.report.domains import Domains, View
from nlp_transfer.report.examples import Changes, Example, Piece, Reading
from nlp_transfer.report.facts import Calibration, Data, RunFacts
from nlp_transfer.report.slices import Level, Slice

ROLES = ["source-only", "adapted"]


def part(name: str, count: int | None = 40) -> Slice:
    scores = {"source-only": Interval(0.81, 0.75, 0.88), "adapted": Interval(0.84, 0.79, 0.9)}
    return Slice(name, count, scores, Interval(-0.031, -0.085, 0.019))


def example(row: int, marked: bool) -> Example:
    if not marked:
        return Example(
            row, f"Text {row} of some length. " * 4, [Reading(by, "good (71%)", []) for by in ("gold", *ROLES)]
        )
    pieces = [Piece("Joined by "), Piece("Anna Berg", "PER"), Piece(" in "), Piece("Oslo", "LOC")]
    return Example(row, "", [Reading(by, "", pieces) for by in ("gold", *ROLES)])


def run_facts(marked: bool = False, **changes: Any) -> RunFacts:
    """Facts of a run with everything that a report may tell; with ``marked``, of entities."""
    draw = np.random.default_rng(0)
    sure = draw.random(200)
    calibration = Calibration(1.3, reliability(sure, sure > 0.4), reliability(sure**0.5, sure > 0.4))
    points = draw.normal(size=(2, 30, 2)).round(3).tolist()
    sides = {"source": points[0], "target": points[1]}
    views = [View(role, Interval(1.5, 1.3, 1.8), 0.87, sides, 0.41) for role in ROLES]
    curve = Curve("task", list(range(1, 101)), np.linspace(1, 0.01, 100).tolist())
    examples = [example(row, marked) for row in range(3)]
    values: dict[str, Any] = {
        "name": "a-run-with-a-rather-long-name-that-someone-gave-it",
        "kind": "ner" if marked else "classification",
        "setup": {"Task": "sentiment", "Model": "someone/an-encoder-with-a-very-long-name-uncased-v2", "Seed": "13"},
        "verdict": "helped",
        "sentence": "Adaptation helped on target.test: +0.031 [+0.003, +0.075] accuracy over source-only.",
        "oracle": "",
        "kept_because": "Kept as model/: the adapted model. Guard: fine.",
        "headline": "accuracy",
        "level": Level(),
        "selection": "source dev",
        "kept": "adapted",
        "scores": [part("source.dev"), part("target.test")],
        "looked_at": "target.test",
        "classes": [part("a"), part("a_class_whose_name_is_longer_than_any_screen_of_a_phone_is_wide")],
        "lengths": [part("1 to 9 words"), part("10 to 200 words")],
        "confusions": {role: Confusion(["a", "b", "O"], [[5, 1, 0], [2, 7, 1], [0, 0, 900]]) for role in ROLES},
        "changes": Changes(examples, examples[:1], {"fixed": 3, "broken": 1, "right": 60, "wrong": 7}),
        "calibrations": dict.fromkeys(ROLES, calibration),
        "domains": Domains({"source": "source.dev", "target": "target.test"}, views),
        "trainings": [Training("source-only", [curve], [curve]), Training("finetune", [curve], [curve])],
        "selected": {"finetune": 50},
        "untold": [],
        "data": [Data("source.train", 320, "0f" * 32), Data("target.test", None, "1e" * 32)],
        "notes": ["target.unlabelled: the file holds labels; they were dropped and are not used."],
        "made": {"Begun": "2026-01-01", "Versions": ", ".join(f"package{n} 1.{n}" for n in range(12))},
        "costs": {"source-only": (80, 33.0), "finetune": (80, 70.1)},
        "recipe": "name: some\n" + "a_long_key: " + "x" * 300 + "\n",
    }
    return RunFacts(**(values | changes))


def write_comparison(folder: Path, recipe: Any, judged: bool = True) -> Path:
    """Write the files of a comparison that its report reads."""

    def entry(value: float, gain: float | None, verdict: str) -> dict[str, Any]:
        splits = ["source.dev", *(["target.test"] if judged else [])]
        scores = {split: {"mean": value, "sd": 0.012, "values": [value - 0.01, value + 0.01]} for split in splits}
        told = {"value": gain, "low": (gain or 0) - 0.02, "high": (gain or 0) + 0.02, "verdict": verdict}
        rest = {
            "collapsed": 0,
            "steps": 80,
            "seconds": 33.3,
            "times_source_only": 1.5,
            "peak_mib": 1234,
            "mean_rank": 1.5,
        }
        free = {"source_dev": value, "dev": None}
        return {"runs": 2, "scores": scores, "label_free": free, **rest} | (
            {"gain": told} if judged and gain is not None else {}
        )

    summary: dict[str, Any] = {
        "headline": "accuracy",
        "confidence": 0.95,
        "seeds": [1, 2],
        "picks_by": ["source_dev", "dev"],
        "strategies": {
            "source_only": entry(0.8, None, ""),
            "dann": entry(0.85, 0.05, "helped"),
            "a strategy with a title <as long>": entry(0.7, -0.1, "hurt") | {"over": "source_only"},
        },
        "picked": "dann",
        "picked_run": "runs/dann/2",
        "tuned": {"source_only": [], "dann": ["train.learning_rate=1e-4", "dann.max_lambda=0.1"]},
    }
    if judged:
        summary |= {"best": "dann", "regret": {"value": 0.0, "low": 0.0, "high": 0.0, "seeds": 2}}
        test = {split: {"value": 0.86, "low": 0.84, "high": 0.88} for split in ("source.dev", "target.test")}
        gain = {"gain": {"value": 0.01, "low": -0.01, "high": 0.03}, "verdict": "no evidence"}
        means = {"seeds": [1, 2], "models": 2, "twins": 2, "scores": test, "advised": True}
        summary |= {"final": {"run": "final/dann/2-seeds-1a2b"} | means | gain}
    environment = {
        "started": "2026-01-01",
        "versions": {"torch": "2"},
        "hardware": {"processor": "some", "cores": 2, "gpus": [], "processes": 1},
        "commit": None,
    }
    (folder / "runs/source_only/1").mkdir(parents=True)
    (folder / "runs/source_only/1/environment.json").write_text(json.dumps(environment))
    (folder / "comparison.json").write_text(json.dumps(summary))
    (folder / "compare.yaml").write_text(dump(recipe.model_copy(update={"output": None})))
    return folder
