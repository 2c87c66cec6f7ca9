"""A diagnosis as text and tables for people; ``rich`` is loaded on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..intervals import Interval
from ..tables import text_table
from .advice import FAR, NEAR, PERPLEXITY_RATIO, PIECES_GAP, UNSEEN_GAP, comparisons
from .distance import ADistance
from .features import MAX_LENGTH
from .result import Classifier, Diagnosis, Skipped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LABELS_SHOWN = 12
READS = {
    "features": "texts, by encoder features",
    "words": "texts, by the words in them",
    "word features": "words, by encoder features",
}


def render(found: Diagnosis) -> list[RenderableType]:
    """Return what the command shows: the measures with how to read them, then the advice."""
    items: list[RenderableType] = [f"Diagnosis of '{found.name}': {found.task}, {found.model}. No training yet."]
    items += [*found.notes, "", _split_table(found), *_worst_words(found), "", _distance_table(found)]
    items += [*_nearest_source(found), "", *_classifier_lines(found.classifier), "", *_shift_items(found)]
    if found.models:
        items += ["", _model_table(found)]
    items += ["", _time_table(found), "", "What to try, in this order"]
    for number, item in enumerate(found.advice, start=1):
        items += [f"{number}. {item.verdict}: {item.strategy}", f"   because {item.because}"]
        items.append(f"   evidence: {item.basis}")
    items.append("This is a guess from a sample. To know, compare on labelled target text, with several seeds:")
    items += [f"  nlp-transfer compare RECIPE --strategies {names} --seeds 3" for names in comparisons(found.advice)]
    items.append(f"Labels of the target were not read. Took {found.seconds:.0f} s.")
    return items


def _split_table(found: Diagnosis) -> Table:
    rows = []
    for role, one in found.splits.items():
        lengths = " · ".join(str(value) for value in one.lengths.values())
        shares = [f"{one.pieces.split_words:.1%}", f"{one.pieces.unknown_words:.1%}"]
        looked = [f"{one.total:,}", f"{one.rows:,}", f"{one.encoded:,}"]
        rows.append([role, *looked, lengths, f"{one.longer:.1%}", f"{one.pieces.per_word:.2f}", *shares])
    header = [
        "",
        "rows",
        "sampled",
        "encoded",
        "tokens 5·50·95 % max",
        "over max_length",
        "pieces a word",
        "split",
        "unknown",
    ]
    return text_table(f"Texts (the encoder reads their first {MAX_LENGTH} tokens)", header, rows)


def _worst_words(found: Diagnosis) -> list[str]:
    lines = []
    for role, one in found.splits.items():
        if role.startswith("target") and one.pieces.worst:
            words = ", ".join(f"{word} ({pieces} × {count})" for word, pieces, count in one.pieces.worst)
            lines.append(f"Target words that are cut into most pieces (pieces × count): {words}")
    if not isinstance(found.overlap, Skipped) and found.overlap.most_unseen:
        words = ", ".join(f"{word} ({count})" for word, count in found.overlap.most_unseen)
        lines.append(f"Target words that the source sample has not: {words}")
    return lines


def _distance_table(found: Diagnosis) -> Table:
    rows = []
    measured = {f"A-distance, {READS[name]}": one for name, one in found.a_distance.items()}
    measured |= {f"A-distance from source '{name}', by encoder features": one for name, one in found.sources.items()}
    for label, one in measured.items():
        if isinstance(one, Skipped):
            rows.append([label, "–", one.skipped])
        else:
            rows.append([label, f"{_interval(one.distance)} of 2", _reading(one)])
    if isinstance(found.mmd, Skipped):
        rows.append(["MMD²", "–", found.mmd.skipped])
    else:
        differ = "more than by chance" if found.mmd.p_value < 0.05 else "no difference shown"
        rows.append(["MMD², features", f"{found.mmd.squared:.4f}, p {found.mmd.p_value:.3f}", differ])
    if isinstance(found.overlap, Skipped):
        rows.append(["words", "–", found.overlap.skipped])
    else:
        one_of = found.overlap
        gap = one_of.unseen - one_of.unseen_at_home
        home = f"held-out source: {one_of.unseen_at_home:.1%}; {'a gap' if gap >= UNSEEN_GAP else 'no gap'}"
        rows.append(["running target words unseen in source", f"{one_of.unseen:.1%}", home])
        counts = f"source {one_of.source_types:,}, target {one_of.target_types:,}; grows with the sample"
        rows.append(["different words in both", f"{one_of.shared_types:.1%}", counts])
    rows += _pieces_rows(found) + _perplexity_rows(found)
    return text_table("How far apart the domains are", ["measure", "value", "reading"], rows, left=(0, 2))


def _nearest_source(found: Diagnosis) -> list[str]:
    """Say which of several source domains is nearest to the target, and how sure that is."""
    measured = {name: one.distance for name, one in found.sources.items() if not isinstance(one, Skipped)}
    if len(measured) < 2:
        return []
    nearest, second = sorted(measured, key=lambda name: measured[name].value)[:2]
    if measured[nearest].high < measured[second].low:
        return [f"Nearest to the target is source '{nearest}'."]
    return [f"Nearest to the target seems source '{nearest}', but '{second}' may be as near: the intervals overlap."]


def _reading(one: ADistance) -> str:
    word = "near" if one.distance.value < NEAR else "far" if one.distance.value >= FAR else "some way"
    return f"{word}: the domain of {one.accuracy:.0%} is found (chance 50%)"


def _pieces_rows(found: Diagnosis) -> list[list[str]]:
    home = found.splits["source.train"].pieces.per_word
    away = [one.pieces.per_word for role, one in found.splits.items() if role.startswith("target")]
    gap = "a gap" if away and away[0] - home >= PIECES_GAP else "no gap"
    return [["pieces a word, target", f"{one:.2f}", f"source: {home:.2f}; {gap}"] for one in away]


def _perplexity_rows(found: Diagnosis) -> list[list[str]]:
    if isinstance(found.perplexity, Skipped):
        return [["pseudo-perplexity", "–", found.perplexity.skipped]]
    home, away = found.perplexity["source"], found.perplexity.get("target")
    if away is None:
        return [["pseudo-perplexity, source", _interval(home, 1), ""]]
    gap = "a gap" if away.value / home.value >= PERPLEXITY_RATIO else "no gap"
    return [["pseudo-perplexity, target", _interval(away, 1), f"source: {_interval(home, 1)}; {gap}"]]


def _classifier_lines(one: Classifier) -> list[str]:
    lines = [
        "What the encoder knows without any training (logistic regression on frozen features, mean of the tokens)",
        f"  source dev: accuracy {_interval(one.accuracy)} of {one.unit}, macro F1 {one.macro_f1:.3f}; always the most "
        f"frequent answer: {one.majority:.3f}",
    ]
    if one.target_confidence is not None:
        lines.append(f"  mean confidence: source dev {one.dev_confidence:.3f}, target {one.target_confidence:.3f}")
        lines.append(
            f"  target accuracy as predicted from confidence (ATC): {one.predicted_accuracy:.3f}; often too hopeful "
            "when the domains are far apart"
        )
    return lines


def _shift_items(found: Diagnosis) -> list[RenderableType]:
    shift = found.label_shift
    if isinstance(shift, Skipped):
        return [f"Label shift: not estimated; {shift.skipped}."]
    order = sorted(shift.target, key=lambda name: -abs(shift.target[name].value - shift.source[name]))
    rows = [[name, f"{shift.source[name]:.3f}", _interval(shift.target[name])] for name in order[:LABELS_SHOWN]]
    title = f"Share of each label among {found.classifier.unit}"
    if len(order) > LABELS_SHOWN:
        title += f" (the {LABELS_SHOWN} of {len(order)} that move most)"
    clear = "more" if shift.clear else "no more"
    lines: list[RenderableType] = [text_table(title, ["label", "source train", "target, estimated"], rows)]
    lines.append(f"Shift {shift.shift:.2f}: {clear} than resampling alone can give ({shift.noise:.2f}).")
    distance = found.unit_distance
    if not isinstance(distance, Skipped) and distance.distance.low > 2 * shift.shift:
        lines.append(
            "Do not rely on it: the estimate assumes that only the shares of the labels differ, and these domains "
            "differ by more than that."
        )
    return lines


def _model_table(found: Diagnosis) -> Table:
    rows = []
    for one in found.models:
        head = one.leep.skipped if isinstance(one.leep, Skipped) else f"{one.leep:.3f}"
        rows.append([one.model, f"{one.logme:.4f}", f"{one.dev_accuracy:.3f}", head])
    title = "Candidate models on source rows, best LogME first (larger is better)"
    return text_table(title, ["model", "LogME", "their mean tokens, source dev", "LEEP"], rows)


def _time_table(found: Diagnosis) -> Table:
    rows = [[one.strategy, _duration(one.seconds), _duration(one.run_seconds), one.basis] for one in found.time]
    title = "Estimated time on this machine, from a few measured steps"
    return text_table(title, ["strategy", "training", "with its twin", "measured"], rows, left=(0, 3))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"~{max(1, round(seconds))} s"
    return f"~{seconds / 60:.0f} min" if seconds < 5400 else f"~{seconds / 3600:.1f} h"


def _interval(one: Interval, digits: int = 2) -> str:
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"
