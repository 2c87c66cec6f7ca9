"""How far a model can be trusted, by its run's record: calibration, weak classes, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..conclusions import interval_text
from ..guard import ADAPTED, TWIN, called
from ..report.examples import changes
from ..report.record import Record
from ..report.slices import Level, by_length

WORST = 5
"""Classes that a card names, those with the lowest F1."""
FEW = 30
"""Rows (or entities) of a class below which its score says little."""
LENGTHS = 3
"""Parts by length: short, middle and long texts."""


def trust(record: Record) -> list[str]:
    """Return the sections of a card on calibration, errors and limits.

    Args:
        record: The run's record.
    """
    return [*_calibration(record), *_errors(record), *_limits(record)]


def _calibration(record: Record) -> list[str]:
    found = record.metrics.get("calibration", {}).get(record.metrics["kept"])
    if found is None:
        return []
    rows = [
        f"| {split} | {sides['plain']['error']:.3f} | {sides['scaled']['error']:.3f} |"
        for split, sides in found["splits"].items()
    ]
    return [
        "## Calibration",
        "",
        f"Expected calibration error (0 is best), as it is and with logits divided by {found['temperature']:.2f}, the "
        "temperature fitted on source dev:",
        "",
        "| split | as it is | with temperature |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _errors(record: Record) -> list[str]:
    """Tell scores by class and by length on the split that the verdict is read off, else on source dev."""
    return ["## Where it errs", "", *_weak_classes(record), *_lengths(record)]


def _weak_classes(record: Record) -> list[str]:
    scores = record.metrics["scores"][record.metrics["kept"]][record.looked_at]
    classes: Mapping[str, Mapping[str, Any]] = scores.get("per_class", scores.get("per_type", {}))
    worst = sorted(classes, key=lambda name: classes[name]["f1"])[:WORST]
    if not worst:
        return []
    return [
        f"On {record.looked_at}, weakest first{f' (of {len(classes)})' if len(classes) > len(worst) else ''}:",
        "",
        "| label | precision | recall | F1 | gold |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} | {one['support']} |"
            for name, one in ((name, classes[name]) for name in worst)
        ),
        "",
    ]


def _lengths(record: Record) -> list[str]:
    kept, spec = record.metrics["kept"], record.recipe.evaluate
    rows = {kept: record.answers[kept]}
    found = by_length(rows, record.kind, Level(spec.confidence, spec.resamples), LENGTHS)
    if not found:
        return [f"The texts of {record.looked_at} are too few, or too alike in length, for scores by length.", ""]
    return [
        f"On {record.looked_at}, by length, with {spec.confidence:.0%} intervals:",
        "",
        f"| texts of | rows | {record.metrics['headline']} |",
        "|---|---|---|",
        *(f"| {one.name} | {one.count} | {interval_text(one.scores[kept].to_dict())} |" for one in found),
        "",
    ]


def _limits(record: Record) -> list[str]:
    return ["## Limits", "", *(f"- {limit}" for limit in _known_limits(record)), ""]


def _known_limits(record: Record) -> Iterator[str]:
    metrics, data = record.metrics, record.recipe.data
    scores = metrics["scores"][metrics["kept"]]
    if record.judge is None:
        yield "No labelled rows of the target domain: how good the model is there, nobody has measured."
    else:
        drop = scores["source.dev"]["interval"]["value"] - scores[record.judge]["interval"]["value"]
        if drop > 0:
            yield f"In the target domain it scores {drop:.3f} lower than in the source domain ({metrics['headline']})."
    classes = scores[record.looked_at].get("per_class", scores[record.looked_at].get("per_type", {}))
    rare = [name for name, one in classes.items() if one["support"] < FEW]
    if rare:
        told = ", ".join(rare[:8])
        yield f"Fewer than {FEW} examples of {told} were scored on {record.looked_at}: little is known of them."
    yield from _warned(record)
    yield from _broken(record)
    yield from _domain_limits(record)
    long = "is cut off there" if data.long_texts == "truncate" else "is read in overlapping windows"
    yield f"A text longer than {_window(record)} {long}. Texts of other domains or languages were not looked at."
    if record.kind != "ner":
        yield (
            "It gives one of its labels to every text, whatever the text is about."
            if record.kind != "multi_label"
            else ("A text may get no label at all.")
        )


def _window(record: Record) -> str:
    longest = record.recipe.data.max_length
    return "the model's window" if longest is None else f"{longest} tokens"


def _warned(record: Record) -> Iterator[str]:
    """Tell what methods warned of while the adapted model was trained, where that is the one that is kept."""
    if record.metrics["kept"] != ADAPTED:
        return
    for warning in record.warnings:
        yield f"Warned in training ({warning.rstrip('.')})."


def _broken(record: Record) -> Iterator[str]:
    """Tell what adaptation cost, row by row."""
    if record.metrics["kept"] != ADAPTED or not record.has_twin or record.judge is None:
        return
    before, after = (record.answers[role] for role in record.roles)
    counts = changes(before, after, record.kind, record.roles).counts
    if counts["broken"]:
        twin = called(TWIN, record.metrics.get("target_labels"))
        yield (
            f"It errs more than the {twin} model on {counts['broken']} of {sum(counts.values())} rows of "
            f"{record.judge} (and less on {counts['fixed']})."
        )


def _domain_limits(record: Record) -> Iterator[str]:
    """Tell how far apart the domains are: in words, and as the model still sees them."""
    words = (record.domains or {}).get("words", {})
    if len(words) == 2:
        (_, home), (target, away) = words.items()
        if away > home:
            yield (
                f"{away:.1%} of the running words of {target} do not occur in the source's training text (of "
                f"source.dev {home:.1%})."
            )
    for view in (record.domains or {}).get("views", [])[-1:]:
        if view["distance"] is not None:
            yield (
                f"It tells source and target text apart at a proxy A-distance of {view['distance']['value']:.2f} "
                "(0 alike, 2 fully apart): the further apart, the less its scores on source text say of target text."
            )
