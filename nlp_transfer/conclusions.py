"""What a run comes to, in sentences: the same ones on the screen and in the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .guard import TWIN, called
from .selecting import is_oracle, oracle_note
from .verdict import too_few


def conclusions(metrics: Mapping[str, Any]) -> list[str]:
    """Return what target labels were used for, the verdict, and which model is kept and why.

    Args:
        metrics: Content of ``metrics.json``. Of a run without adaptation there is nothing to conclude.
    """
    lines = [oracle_note()] if is_oracle(metrics.get("selection")) else []
    labels = metrics.get("target_labels")
    lines += [] if labels is None else [target_labels_note(labels)]
    if "gain" in metrics:
        lines.append(f"Verdict: {_verdict(metrics)}")
    if "adapted" in metrics["scores"] and "kept" in metrics:
        lines.append(f"Kept as model/: the {called(metrics['kept'], labels)} model. {_why(metrics)}")
    return lines


def target_labels_note(labels: Mapping[str, Any]) -> str:
    """Return the line that goes wherever scores of a run are shown that was trained on target labels."""
    stages = ", then ".join(labels["stages"])
    return f"Target labels: {labels['rows']} labelled target rows were trained on (finetune on {stages})."


def interval_text(interval: Mapping[str, float], signed: bool = False) -> str:
    """Return ``0.912 [0.893, 0.930]``."""
    sign = "+" if signed else ""
    return f"{interval['value']:{sign}.3f} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"


def _verdict(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("verdict")
    if found is None:
        return "none. Without labelled target rows (data.target.test) nobody can say whether adaptation helped."
    told = {
        "helped": "adaptation helped",
        "hurt": "adaptation hurt",
        "no evidence": "no evidence that adaptation helped or hurt",
    }[found["verdict"]]
    twin = called(TWIN, metrics.get("target_labels"))
    text = f"{told} on {found['split']}: {interval_text(found, signed=True)} {metrics['headline']} over {twin}."
    rows = found["rows_that_differ"]
    few = f" The two differ in {rows} rows, too few to tell from chance."
    return text + few if too_few(rows, metrics["confidence"]) else text


def _why(metrics: Mapping[str, Any]) -> str:
    guard = metrics.get("guard")
    return "No guard looked at it." if guard is None else f"Guard: {' '.join(guard['reasons'])}"
