"""What a run or a comparison comes to, in sentences: the same on the screen, in the card and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .chosen import is_oracle, oracle_note
from .comparison.failures import failed_words
from .guard import ADAPTED, TWIN, called
from .verdict import JUDGES, too_few

UNJUDGED = "without labelled target rows (data.target.test) nobody can say whether adaptation helped."


def conclusions(metrics: Mapping[str, Any]) -> list[str]:
    """Return what target labels were used for, the verdict and whether steps are equal, which model is kept and why.

    Args:
        metrics: Content of ``metrics.json``. Of a run without adaptation there is nothing to conclude.
    """
    verdict = [f"Verdict: {_verdict(metrics)}"] if "gain" in metrics else []
    return [*label_notes(metrics), *verdict, *steps_note(metrics), *kept_model(metrics)]


def label_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what target labels were used for but the final scores: to select, or to be trained on."""
    labels, oracles = metrics.get("target_labels"), metrics.get("oracles")
    return [
        *([oracle_note()] if is_oracle(metrics.get("selection")) else []),
        *([made_of_note(oracles, labels)] if oracles else []),
        *([] if labels is None else [target_labels_note(labels)]),
    ]


def steps_note(metrics: Mapping[str, Any]) -> list[str]:
    """Return that the two models were not trained for equally many optimizer steps; nothing where they were."""
    steps = metrics.get("steps")
    if steps is None or steps[ADAPTED] == steps[TWIN]:
        return []
    twin = called(TWIN, metrics.get("target_labels"))
    return [
        f"Unequal steps: the adapted model was trained for {steps[ADAPTED]:,} optimizer steps, its {twin} twin for "
        f"{steps[TWIN]:,}, as one of them was stopped early: part of the difference may be due to that."
    ]


def kept_model(metrics: Mapping[str, Any]) -> list[str]:
    """Return which model is kept, and why; nothing of a run without adaptation."""
    if "adapted" not in metrics["scores"] or "kept" not in metrics:
        return []
    kept = called(metrics["kept"], metrics.get("target_labels"))
    return [f"Kept as model/: the {kept} model. {_why(metrics)}"]


def made_of_note(oracles: Mapping[str, Sequence[str]], target_labels: Any = None) -> str:
    """Return the line that goes wherever scores are shown of models that are made of those that an oracle selected.

    Args:
        oracles: By model, the runs whose checkpoint was selected with labels of the target.
        target_labels: What ``metrics.json`` says of labelled target rows that were trained on.
    """
    which = " and the ".join(called(role, target_labels) for role in oracles)
    goes = "model goes" if len(oracles) == 1 else "models go"
    runs = ", ".join(f"'{name}'" for name in dict.fromkeys(name for names in oracles.values() for name in names))
    return (
        f"ORACLE: the {which} {goes} back to {runs}, whose checkpoint was selected with the labels of target.dev. Such "
        "scores are an upper bound, not those of unsupervised adaptation."
    )


def target_labels_note(labels: Mapping[str, Any]) -> str:
    """Return the line that goes wherever scores of a run are shown that was trained on target labels."""
    stages = ", then ".join(labels["stages"])
    return f"Target labels: {labels['rows']} labelled target rows were trained on (finetune on {stages})."


def in_one_sentence(metrics: Mapping[str, Any]) -> str:
    """Return what a run comes to: its verdict (and that steps were unequal), or the score of its only model.

    Args:
        metrics: Content of ``metrics.json``.
    """
    if "verdict" in metrics:
        told = _verdict(metrics)
        return " ".join([f"{told[0].upper()}{told[1:]}", *steps_note(metrics)])
    if "gain" in metrics:
        return " ".join([f"No verdict: {UNJUDGED}", *steps_note(metrics)])
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
    return f"{told}; {_regret(summary)}"


def comparison_words(summary: Mapping[str, Any]) -> list[str]:
    """Return which strategy is picked and by what, how far that is from the best where labels tell, and what failed."""
    judges = ", ".join(summary["picks_by"])
    lines = [
        f"Picked without target labels (mean rank of {judges}): {summary['picked']}. {_go_on(summary)}",
        *failed_words(summary),
    ]
    averaged = [name for name, one in summary["strategies"].items() if _gains_by_averaging(one)]
    lines += [f"Part of the gain of {' and '.join(averaged)} may come of averaging several models."] if averaged else []
    taught = ", ".join(f"{name} {rows}" for name, rows in summary.get("target_labels", {}).items())
    lines += [f"Labelled target rows that were trained on: {taught}."] if taught else []
    if "best" in summary:
        told = f"{_regret(summary)} Do not choose by this: what is best on a test split is best there by chance, too."
        lines.append(f"{told[0].upper()}{told[1:]}")
    return lines


def _gains_by_averaging(entry: Mapping[str, Any]) -> bool:
    """Whether a strategy of several models is better than the one that it is held against."""
    return "made_of_others" in entry and entry.get("gain", {"value": 0.0})["value"] > 0


def _go_on(summary: Mapping[str, Any]) -> str:
    """Say which model to go on with: the mean of the picked runs, or the best of them."""
    best, final = f"{summary['picked_run']}, the best of its runs by the same", summary.get("final")
    if final is None:
        return f"Go on with {best}."
    if not final["advised"]:
        why = "has collapsed, or is not preferred to it by the same"
        return f"Go on with {best}; their mean, {final['run']}, {why}."
    runs, models = len(final["seeds"]), final["models"]
    made = f"{runs} runs" if models == runs else f"{runs} runs, {models} models in all"
    told = f"Go on with {final['run']}, the mean of the weights of its {made}"
    if "target.test" not in final["scores"]:
        return f"{told}."
    told = f"{told}: {summary['headline']} {interval_text(final['scores']['target.test'])} on target.test"
    if "gain" not in final:
        return f"{told}."
    told = f"{told}; over the mean of their {final['twins']} twins {interval_text(final['gain'], signed=True)}"
    part = "" if models == final["twins"] else " (part of it may come of averaging more models)"
    return f"{told}, {final['verdict']}{part}."


def _regret(summary: Mapping[str, Any]) -> str:
    """Say what is best on the labelled target, and how far the pick is from it."""
    found, told = summary["regret"], f"best on target.test is {summary['best']}"
    if summary["best"] == summary["picked"]:
        return f"{told}, too."
    if found is None:
        return f"{told}, which has no seed in common with the pick."
    if isinstance(found, float):  # in a table of an earlier version
        return f"{told}; the pick is {found:.3f} below it."
    both = found.get("seeds", len(summary["seeds"]))
    shared = f" in the {both} seeds that both have" if both < len(summary["seeds"]) else ""
    return f"{told}; the pick is {interval_text(found)} below it{shared}."
