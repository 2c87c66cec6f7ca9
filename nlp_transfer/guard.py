"""Which model a run keeps: the adapted one, or its source-only twin. Decided without target labels.

Adaptation fails in silence: without target labels, a collapsed model looks like any other. The guard compares both
models on unlabelled target text. The twin is kept where the adapted model

- **has collapsed**: a class that the twin gives has vanished, one class has taken nearly everything, the shares of its
  answers are far from the twin's *and* from the source's (adaptation may well correct the twin's shares, but towards
  neither is suspicious), its confidence has gone, its answers have come loose from the twin's (they agree little beyond
  chance, and no label-free evidence speaks for them), or source dev has got worse by more than a margin;
- **has nothing to show**: its answers are those of the twin, or the label-free evidence does not favour it.

The evidence is two scores of :mod:`nlp_transfer.selection`, each of which may vote for or against the adapted model:
``class_ami`` (predictions follow the clusters of the features; one of the validators that Musgrave et al., arXiv
2208.07360, find worth turning to where accuracy on the source fails) and ``dev`` (fewer errors on source units that
look like target). A score votes where its difference is more than chance (:mod:`nlp_transfer.evidence`); the one that
selected the checkpoint does not vote. Nothing that rests on confidence
(entropy, information maximisation, BNM) votes: there are methods that raise it by training for it, and aligning
features lowers it, calibrated or not, where accuracy rises. DEV abstains where the domains hardly overlap in the
features of either model: the mean of its weights, 1 in theory, is then far from 1, and the estimate an extrapolation
that flatters whatever mixes the domains.

Neither has a vote where words are labelled (:func:`nlp_transfer.evidence.without_vote`). There source dev has one: from
news to politics and science it saw what they did not. Where the training is on rows of the target, or on labels that
the source lacks, source dev tells what was forgotten and not what was learned: then it is neither fault nor evidence,
and DEV, which rests on its errors, abstains. Of taggers nothing is left to ask then: the twin is kept.

The thresholds are settings; they catch what is plain, and a verdict on
labelled target rows remains the judge. Where several strategies are compared, the comparison judges them
(:mod:`nlp_transfer.comparison.compare`): their runs ask for no evidence, so that what is picked is what its run keeps.

Shape suffixes: D decisions, U units, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .evidence import EVIDENCE, Scored, Vote, beyond_chance, votes
from .intervals import Interval
from .recipe.trust import GuardSpec
from .selection import Units, mean_kappa

ADAPTED = "adapted"
TWIN = "source-only"
LABELS_ONLY = "labels-only"

SourceDev = Literal["fault", "evidence", "blind"]
"""What source dev is for the guard: a loss there is a fault; it has a vote, too; or it says nothing of the training."""

FEWEST_UNITS = 10
"""With fewer units of target text or of source dev nothing can be said."""

EXPECTED = 5
"""A class whose expected number of units is smaller can be missing by chance."""

EXCESS = 0.1
"""How much more often than the twin the adapted model must give a class to have been taken over by it."""

MEANT = 0.1
"""A twin less confident than this above chance has no confidence to lose."""


@dataclass(frozen=True)
class Candidate:
    """What the guard knows of a model.

    Args:
        target: Units of unlabelled target text; the same for both models.
        source: Labelled units of source dev; the same for both models.
        source_dev: Headline score on source dev.
    """

    target: Units
    source: Units
    source_dev: float


@dataclass(frozen=True)
class Decision:
    """Which model is kept, and why.

    Args:
        kept: ``adapted`` or ``source-only``.
        reasons: Sentences for people.
        collapsed: The adapted model is no candidate at all, whatever speaks for it.
        numbers: Everything that was measured, JSON-able.
    """

    kept: str
    reasons: list[str]
    collapsed: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``metrics.json`` holds."""
        return {"kept": self.kept, "reasons": self.reasons, "collapsed": self.collapsed, **self.numbers}


def has_collapsed(metrics: Mapping[str, Any]) -> bool:
    """Whether a run's guard has found the adapted model collapsed; False where there was no guard to ask.

    Args:
        metrics: Content of ``metrics.json``.
    """
    return bool(metrics.get("guard", {}).get("collapsed", False))


def own_role(scores: Collection[str]) -> str:
    """Return the model that a run is about: the adapted one, or its only one.

    Args:
        scores: The models that were scored, such as ``metrics["scores"]``.
    """
    return ADAPTED if ADAPTED in scores else TWIN


def called(role: str, target_labels: Any) -> str:
    """Return what a model is called where people read: a twin that learns target labels is not source-only.

    Args:
        role: ``adapted`` or ``source-only``, as files and keys have it.
        target_labels: Whatever tells that labelled target rows were trained on; nothing if they were not.
    """
    return LABELS_ONLY if role == TWIN and target_labels else role


@dataclass(frozen=True)
class _Seen:
    """How far the answers of two models lie apart on target text.

    Args:
        agreement: Share of units that both answer alike.
        kappa: Agreement beyond chance.
        divergence: Of the adapted model's answers from the twin's, and from the labels of source dev, in nats.
    """

    agreement: float
    kappa: float
    divergence: dict[str, float]


def _seen(adapted: Candidate, twin: Candidate) -> _Seen:
    chosen_DU, others_DU = adapted.target.chosen_DU, twin.target.chosen_DU
    agreement = float((chosen_DU == others_DU).all(0).mean())
    return _Seen(agreement, mean_kappa(chosen_DU, others_DU), _divergences(adapted, twin))


def decide(
    adapted: Candidate,
    twin: Candidate,
    labels: Sequence[str],
    spec: GuardSpec,
    source_gain: Interval | None = None,
    abstaining: Collection[str] = (),
    source_dev: SourceDev = "fault",
) -> Decision:
    """Choose between the adapted model and its twin.

    Args:
        adapted: The adapted model.
        twin: The source-only twin.
        labels: Label names in the order of the logits.
        spec: Thresholds.
        source_gain: What the adapted model gains on source dev, with its interval: a loss that may be chance is no
            fault. Without it, the bare difference is judged.
        abstaining: Label-free scores that have no vote; see :func:`nlp_transfer.evidence.without_vote`.
        source_dev: What source dev is judged for.
    """
    finite = {ADAPTED: _finite(adapted), TWIN: _finite(twin)}
    numbers: dict[str, Any] = {"units": len(twin.target)}
    if not finite[ADAPTED]:
        return Decision(TWIN, ["The adapted model's outputs are not finite numbers."], True, numbers)
    if not finite[TWIN]:
        return Decision(ADAPTED, ["The twin's outputs are not finite numbers."], False, numbers)
    unproven = TWIN if spec.evidence else ADAPTED
    fewest = min(len(twin.target), len(twin.source))
    if fewest < FEWEST_UNITS:
        few = f"Only {fewest} units to compare on: too few to say anything for the adapted model, or against it."
        return Decision(unproven, [few], False, numbers)
    scored = Scored(adapted.target, adapted.source), Scored(twin.target, twin.source)
    found, seen = votes(*scored, abstaining), _seen(adapted, twin)
    if source_dev == "evidence" and source_gain is not None:
        found["source_dev"] = beyond_chance(source_gain)
    numbers |= _numbers(seen, found) | {
        "source_shares": _named(shares(twin.source.gold_DU, _classes(twin)), labels),
        ADAPTED: _summary(adapted, scored[0], labels),
        TWIN: _summary(twin, scored[1], labels),
    }
    if seen.agreement == 1.0:
        same = f"There is no difference: both models answer alike on all {len(twin.target)} target units."
        return Decision(unproven, [same], False, numbers)
    faults = [
        *_share_faults(adapted, twin, labels, seen.divergence, spec),
        *_strength_faults(adapted, twin, spec),
        *([] if source_dev == "blind" else _source_faults(adapted, twin, spec, source_gain)),
        *_loose_faults(seen.kappa, twin, found, spec),
    ]
    if faults:
        return Decision(TWIN, faults, True, numbers)
    if not spec.evidence:
        return Decision(ADAPTED, ["Not collapsed; evidence for it was not asked for."], False, numbers)
    kept, words = weigh(found, spec)
    return Decision(kept, [words], False, numbers)


def _numbers(seen: _Seen, found: Mapping[str, Vote]) -> dict[str, Any]:
    return {
        "agreement": _rounded(seen.agreement),
        "kappa": _rounded(seen.kappa),
        "divergence": {name: _rounded(value) for name, value in seen.divergence.items()},
        "evidence": {name: _rounded_or_none(vote.difference) for name, vote in found.items()},
        "evidence_error": {name: _rounded_or_none(vote.error) for name, vote in found.items()},
    }


def shares(chosen_DU: np.ndarray | None, classes: int) -> np.ndarray:
    """Return the share of each class in each decision: (D, C)."""
    assert chosen_DU is not None and chosen_DU.shape[1]
    counts_DC = np.stack([np.bincount(chosen_U, minlength=classes) for chosen_U in chosen_DU])
    return np.asarray(counts_DC / chosen_DU.shape[1])


def divergence_of(counts_DC: np.ndarray, others_DC: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence of one histogram from another in nats, the mean over decisions.

    ``Σ_c p_c ln(p_c / q_c)`` with half a unit added to every count, so that an empty class has a finite price.

    Args:
        counts_DC: Counts of the first, p.
        others_DC: Counts of the second, q.
    """
    first, second = counts_DC + 0.5, others_DC + 0.5
    p_DC, q_DC = first / first.sum(-1, keepdims=True), second / second.sum(-1, keepdims=True)
    return float((p_DC * np.log(p_DC / q_DC)).sum(-1).mean())


def _divergences(adapted: Candidate, twin: Candidate) -> dict[str, float]:
    """From the twin's answers, and from the labels of source dev."""
    classes, units = _classes(twin), len(twin.target)
    own, others = (units * shares(side.target.chosen_DU, classes) for side in (adapted, twin))
    source = len(twin.source) * shares(twin.source.gold_DU, classes)
    return {TWIN: divergence_of(own, others), "source": divergence_of(own, source)}


def _share_faults(
    adapted: Candidate, twin: Candidate, labels: Sequence[str], divergence: dict[str, float], spec: GuardSpec
) -> list[str]:
    classes, units = _classes(twin), len(twin.target)
    own_DC, twin_DC = (shares(side.target.chosen_DU, classes) for side in (adapted, twin))
    found = []
    for name, own, other in zip(labels, _by_label(own_DC, labels), _by_label(twin_DC, labels), strict=True):
        told = f"the adapted model gives '{name}' to {own:.1%} of the target units, the twin to {other:.1%}."
        if other >= spec.min_share and units * other >= EXPECTED and own < spec.lost_class * other:
            found.append(f"Collapsed, a class has vanished: {told}")
        if own >= spec.max_share and own - other > EXCESS:
            found.append(f"Collapsed, one class has taken nearly everything: {told}")
    if min(divergence.values()) > spec.max_divergence:
        found.append(
            f"Collapsed: the adapted model's shares of classes are far from the twin's ({divergence[TWIN]:.2f} nats) "
            f"and from the source's ({divergence['source']:.2f})."
        )
    return found


def _strength_faults(adapted: Candidate, twin: Candidate, spec: GuardSpec) -> list[str]:
    chance = 1 / _classes(twin)
    own, other = confidence(adapted.target), confidence(twin.target)
    if other - chance < MEANT or own - chance >= spec.min_confidence * (other - chance):
        return []
    return [
        f"Collapsed, confidence is gone: {own:.3f} on target text, where the twin has {other:.3f} and chance is "
        f"{chance:.3f}."
    ]


def _source_faults(adapted: Candidate, twin: Candidate, spec: GuardSpec, source_gain: Interval | None) -> list[str]:
    # 0.93 − 0.88 is more than 0.05 to a computer.
    lost = _rounded(twin.source_dev - adapted.source_dev)
    if lost <= spec.max_source_loss or (source_gain is not None and source_gain.high >= 0):
        return []
    return [f"Source dev has got worse by {lost:.3f} ({adapted.source_dev:.3f}, the twin {twin.source_dev:.3f})."]


def _loose_faults(kappa: float, twin: Candidate, found: dict[str, Vote], spec: GuardSpec) -> list[str]:
    sure = confidence(twin.target) - 1 / _classes(twin) >= MEANT
    sides = {vote.side(spec.min_gain, spec.min_errors) for vote in found.values()}
    least = spec.min_kappa_against if -1 in sides else spec.min_kappa
    if kappa >= least or not sure or 1 in sides:
        return []
    evidence = "label-free evidence speaks against them" if -1 in sides else "no label-free evidence favours them"
    return [
        "Collapsed, the adapted model's answers have come loose: they agree with the twin's too little (Cohen's kappa "
        f"{kappa:.2f}, at least {least} is asked), and {evidence}."
    ]


def weigh(found: dict[str, Vote], spec: GuardSpec) -> tuple[str, str]:
    """Let label-free evidence decide between the adapted model and its twin.

    Args:
        found: The vote of each score.
        spec: The guard's thresholds.

    Returns:
        The one that is kept, and why.
    """
    sides = {name: vote.side(spec.min_gain, spec.min_errors) for name, vote in found.items()}
    for_it = [name for name, side in sides.items() if side > 0]
    against = [name for name, side in sides.items() if side < 0]
    asked = any(vote.difference is not None for vote in found.values())
    told = f"for it {', '.join(for_it) or 'nothing'}; against it {', '.join(against) or 'nothing'}"
    told = told if asked else "no score could be asked"
    if len(for_it) > len(against):
        return ADAPTED, f"Not collapsed, and label-free evidence favours the adapted model: {told}."
    return TWIN, f"No label-free evidence favours the adapted model: {told}."


def confidence(units: Units) -> float:
    """Return the mean probability of the most probable class, 1/C to 1."""
    return float(units.probabilities_DUC.max(-1).mean())


def _summary(side: Candidate, scored: Scored, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "shares": _named(shares(side.target.chosen_DU, _classes(side)), labels),
        "confidence": _rounded(confidence(side.target)),
        "source_dev": _rounded(side.source_dev),
        **{name: _rounded(scored.score(name)) for name in EVIDENCE},
        "mean_weight": _rounded(scored.mean_weight),
    }


def _by_label(shares_DC: np.ndarray, labels: Sequence[str]) -> list[float]:
    """Shares of the classes of one decision among labels, or of the yes of each label (of which there may be one)."""
    among_labels = shares_DC.shape == (1, len(labels))
    return list((shares_DC[0] if among_labels else shares_DC[:, 1]).tolist())


def _named(shares_DC: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    return {label: _rounded(value) for label, value in zip(labels, _by_label(shares_DC, labels), strict=True)}


def _classes(side: Candidate) -> int:
    return int(side.target.probabilities_DUC.shape[-1])


def _finite(side: Candidate) -> bool:
    return side.target.finite and side.source.finite


def _rounded(value: float) -> float:
    return round(value, 6)


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else _rounded(value)
