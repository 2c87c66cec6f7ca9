"""What a run or a comparison comes to, in sentences: the same on the screen, in the card and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .chosen import is_oracle, oracle_note
from .guard import ADAPTED, TWIN, called
from .verdict import JUDGES, too_few

UNJUDGED = "without labelled target rows (data.target.test) nobody can say whether adaptation helped."


def conclusions(metrics: Mapping[str, Any]) -> list[str]:
    """Return what target labels were used for, the verdict, and which model is kept and why.

    Args:
        metrics: Content of ``metrics.json``. Of a run without adaptation there is nothing to conclude.
    """
    verdict = [f"Verdict: {_verdict(metrics)}"] if "gain" in metrics else []
    return [*label_notes(metrics), *verdict, *kept_model(metrics)]


def label_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what target labels were used for but the final scores: to select, or to be trained on."""
    notes = [oracle_note()] if is_oracle(metrics.get("selection")) else []
    labels = metrics.get("target_labels")
    return notes if labels is None else [*notes, target_labels_note(labels)]


def kept_model(metrics: Mapping[str, Any]) -> list[str]:
    """Return which model is kept, and why; nothing of a run without adaptation."""
    if "adapted" not in metrics["scores"] or "kept" not in metrics:
        return []
    kept = called(metrics["kept"], metrics.get("target_labels"))
    return [f"Kept as model/: the {kept} model. {_why(metrics)}"]


def target_labels_note(labels: Mapping[str, Any]) -> str:
    """Return the line that goes wherever scores of a run are shown that was trained on target labels."""
    stages = ", then ".join(labels["stages"])
    return f"Target labels: {labels['rows']} labelled target rows were trained on (finetune on {stages})."


def in_one_sentence(metrics: Mapping[str, Any]) -> str:
    """Return what a run comes to: its verdict, or the score of its only model.

    Args:
        metrics: Content of ``metrics.json``.
    """
    if "verdict" in metrics:
        told = _verdict(metrics)
        return f"{told[0].upper()}{told[1:]}"
    if "gain" in metrics:
        return f"No verdict: {UNJUDGED}"
    role, scores = next(iter(metrics["scores"].items()))
    split = next(name for name in (*JUDGES, "source.dev") if name in scores)
    taught = metrics.get("target_labels")
    unjudged = f"; without its {called(TWIN, taught)} twin nobody can say whether adaptation helped"
    score = f"{interval_text(scores[split]['interval'])} {metrics['headline']}"
    return f"The {called(role, taught)} model reaches {score} on {split}{unjudged if role == ADAPTED else ''}."


def interval_text(interval: Mapping[str, float], signed: bool = False) -> str:
    """Return ``0.912 [0.893, 0.930]``."""
    sign = "+" if signed else ""
    return f"{interval['value']:{sign}.3f} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"


def _verdict(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("verdict")
    if found is None:
        return f"none. {UNJUDGED[0].upper()}{UNJUDGED[1:]}"
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


def comparison_in_one_sentence(summary: Mapping[str, Any]) -> str:
    """Return which strategy a comparison picks, and what that one gains.

    Args:
        summary: Content of ``comparison.json``.
    """
    picked = summary["picked"]
    gain = summary["strategies"][picked].get("gain")
    told = f"Without target labels, {picked} is picked"
    if gain is not None:
        verdict = {
            "helped": "it helps",
            "hurt": "it hurts",
            "no evidence": "there is no evidence that it helps or hurts",
        }
        twin = called(TWIN, summary.get("target_labels", {}).get(picked))
        over = summary["strategies"][picked].get("over", f"its {twin} twin")
        gained = f"{interval_text(gain, signed=True)} {summary['headline']} over {over}"
        return f"{told}; on target.test {verdict[gain['verdict']]}: {gained}."
    if "best" not in summary:
        return f"{told}; without labelled target rows (data.target.test) nobody can say whether anything helps."
    if summary["best"] == picked:
        return f"{told}, and nothing is better than it on target.test."
    return f"{told}, though {summary['best']} is {summary['regret']:.3f} better on target.test."


def comparison_words(summary: Mapping[str, Any]) -> list[str]:
    """Return which strategy is picked and by what, and how far that is from the best where labels tell."""
    judges = ", ".join(summary["picks_by"])
    lines = [
        f"Picked without target labels (mean rank of {judges}): {summary['picked']}. Go on with "
        f"{summary['picked_run']}, the best of its runs by the same."
    ]
    taught = ", ".join(f"{name} {rows}" for name, rows in summary.get("target_labels", {}).items())
    lines += [f"Labelled target rows that were trained on: {taught}."] if taught else []
    if "best" in summary:
        lines.append(
            f"Best on target.test: {summary['best']}; the pick is {summary['regret']:.3f} below it. Do not choose by "
            "this: what is best on a test split is best there by chance, too."
        )
    return lines
