"""The guard's decision on made-up models: each fault, each vote, and input that says nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from nlp_transfer.evidence import EVIDENCE
from nlp_transfer.guard import Candidate, Decision, decide, divergence_of
from nlp_transfer.intervals import Interval
from nlp_transfer.recipe.trust import GuardSpec
from nlp_transfer.selection import Units, bnm

LABELS = ["bad", "good", "poor"]
SPEC = GuardSpec()


def units(chosen: Any, spread: float = 0.3, certainty: float = 0.9, gold: Any = None, seed: int = 0) -> Units:
    """Units whose features lie around one point a class, ``spread`` wide."""
    chosen = np.asarray(chosen)
    draw = np.random.default_rng(seed)
    classes = len(LABELS)
    probabilities = np.full((len(chosen), classes), (1 - certainty) / (classes - 1))
    probabilities[np.arange(len(chosen)), chosen] = certainty
    features = np.eye(classes, 8)[chosen] + draw.normal(size=(len(chosen), 8)) * spread
    return Units(probabilities[None], chosen[None], features, None if gold is None else np.asarray(gold)[None])


def turning(count: int, classes: int = 3) -> np.ndarray:
    return np.arange(count) % classes


def candidate(chosen: Any, wrong: int = 0, source_dev: float = 0.9, **changes: Any) -> Candidate:
    """A model with these answers on target text and ``wrong`` errors in 60 on source dev."""
    gold = turning(60)
    answers = np.where(np.arange(60) < wrong, (gold + 1) % 3, gold)
    return Candidate(units(chosen, **changes), units(answers, gold=gold, **changes), source_dev)


TWIN = candidate(turning(90), wrong=12, spread=1.0, certainty=0.7)
BETTER = candidate((turning(90) + (np.arange(90) < 20)) % 3, wrong=3, spread=0.2, certainty=0.9)


def test_a_better_model_is_kept_and_every_number_is_told() -> None:
    decision = decide(BETTER, TWIN, LABELS, SPEC)
    assert decision.kept == "adapted"
    assert "favours the adapted model: for it class_ami, dev; against it nothing" in decision.reasons[0]
    found = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert found["agreement"] == pytest.approx(70 / 90)
    for name, difference in found["evidence"].items():
        assert difference == pytest.approx(found["adapted"][name] - found["source-only"][name], abs=1e-6)
    assert found["adapted"]["confidence"] == pytest.approx(0.9)
    assert found["source_shares"] == pytest.approx(dict.fromkeys(LABELS, 1 / 3), abs=1e-6)
    assert sum(found["adapted"]["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert set(found["divergence"]) == {"source-only", "source"}


def test_the_twin_is_kept_where_nothing_speaks_for_the_adapted_model() -> None:
    decision = decide(TWIN, replace(BETTER, source_dev=TWIN.source_dev), LABELS, SPEC)
    assert decision.kept == "source-only"
    assert decision.reasons == [
        "No label-free evidence favours the adapted model: for it nothing; against it class_ami, dev."
    ]


def test_without_asking_for_evidence_all_is_kept_that_has_not_collapsed() -> None:
    unasked = SPEC.model_copy(update={"evidence": False})
    worse = replace(BETTER, source_dev=TWIN.source_dev)
    assert decide(TWIN, worse, LABELS, unasked).kept == "adapted", "though the evidence is against it"
    assert decide(candidate(np.zeros(90, dtype=int)), TWIN, LABELS, unasked).kept == "source-only"


def test_identical_models() -> None:
    decision = decide(TWIN, TWIN, LABELS, SPEC)
    assert decision.kept == "source-only"
    assert "no difference" in decision.reasons[0]


def test_confidence_alone_is_no_evidence() -> None:
    """The same features, and the same answers but for one, much more certain."""
    twin = candidate(turning(1200), spread=0.1, certainty=0.7)
    chosen = turning(1200)
    chosen[0] = 1
    bold = Candidate(replace(units(chosen, certainty=0.999), features_UH=twin.target.features_UH), twin.source, 0.9)
    decision = decide(bold, twin, LABELS, SPEC)
    assert bnm(bold.target.probabilities_DUC) > bnm(twin.target.probabilities_DUC) + 0.1
    assert decision.kept == "source-only" and not decision.collapsed
    assert "for it nothing; against it nothing" in decision.reasons[0]


# Collapse


def collapsed(*reasons: str, model: Candidate, twin: Candidate = TWIN, spec: GuardSpec = SPEC) -> None:
    decision = decide(model, twin, LABELS, spec)
    assert decision.kept == "source-only" and decision.collapsed
    told = " ".join(decision.reasons)
    for reason in reasons:
        assert reason in told, told


def test_one_class_for_everything() -> None:
    collapsed(
        "a class has vanished: the adapted model gives 'good' to 0.0% of the target units, the twin to 33.3%",
        "'poor' to 0.0%",
        "one class has taken nearly everything: the adapted model gives 'bad' to 100.0%",
        "far from the twin's",
        model=candidate(np.zeros(90, dtype=int)),
    )


def test_a_class_that_vanishes_is_a_collapse_even_with_the_evidence_for_it() -> None:
    lost = np.where(turning(90) == 2, 1, turning(90))
    model = candidate(lost, spread=0.1)
    decision = decide(model, TWIN, LABELS, SPEC)
    assert decision.kept == "source-only"
    assert "gives 'poor' to 0.0%" in decision.reasons[0]
    assert all(value > 0 for value in decision.numbers["evidence"].values())
    kept = decide(candidate(np.where(np.arange(90) < 81, lost, 2), spread=0.1), TWIN, LABELS, SPEC)
    assert kept.kept == "adapted", "9 of 90 remain of the twin's 30: fewer, but not lost"


def test_a_rare_class_may_be_missing_by_chance() -> None:
    twin = candidate([2] * 3 + [0, 1] * 44, wrong=12, spread=1.0, certainty=0.7)
    model = candidate([1] * 3 + [0, 1] * 44)
    assert decide(model, twin, LABELS, SPEC).kept == "adapted"


def test_shares_may_move_towards_those_of_the_source_but_not_away_from_both() -> None:
    skewed = candidate([0] * 84 + [1, 2] * 3, wrong=12, spread=1.0, certainty=0.7)
    even = decide(candidate(turning(90)), skewed, LABELS, SPEC)
    assert even.numbers["divergence"]["source-only"] > SPEC.max_divergence
    assert even.kept == "adapted"
    collapsed("far from the twin's", model=candidate([0] * 82 + [1, 2] * 4))


def test_lost_confidence() -> None:
    collapsed("confidence is gone: 0.400", model=candidate(turning(90) % 2, certainty=0.4))
    undecided = candidate((turning(90) + (np.arange(90) < 20)) % 3, wrong=12, spread=1.0, certainty=0.36)
    decision = decide(replace(BETTER, target=units(BETTER.target.chosen_DU[0], 0.2, 0.34)), undecided, LABELS, SPEC)
    assert "confidence is gone" not in " ".join(decision.reasons), "a twin without confidence has none to lose"


def loose(kept: float, twin: Candidate, own_features: bool) -> Candidate:
    """Answers of which a share are the twin's and the rest at random, with even shares of the classes."""
    draw = np.random.default_rng(1)
    chosen = twin.target.chosen_DU[0].copy()
    moved = draw.random(len(chosen)) >= kept
    chosen[moved] = draw.permutation(chosen[moved])
    target = units(chosen, certainty=0.9)
    return Candidate(target if own_features else replace(target, features_UH=twin.target.features_UH), twin.source, 0.9)


def test_answers_that_have_come_loose_from_the_twins() -> None:
    twin = candidate(turning(600), wrong=12, spread=0.5, certainty=0.8)
    model = loose(0.2, twin, own_features=False)
    kappa = cohen_kappa_score(model.target.chosen_DU[0], twin.target.chosen_DU[0])
    assert kappa < SPEC.min_kappa < 0.5 < SPEC.min_kappa_against
    unasked = SPEC.model_copy(update={"evidence": False})
    collapsed("answers have come loose", f"(Cohen's kappa {kappa:.2f}, at least", model=model, twin=twin, spec=unasked)
    assert decide(model, twin, LABELS, SPEC).numbers["kappa"] == pytest.approx(kappa)
    assert not decide(loose(0.8, twin, False), twin, LABELS, unasked).collapsed, "many differ, most are the same"
    assert not decide(loose(0.2, twin, True), twin, LABELS, unasked).collapsed, "features speak for it"
    between = loose(0.5, twin, own_features=False)
    kappa = cohen_kappa_score(between.target.chosen_DU[0], twin.target.chosen_DU[0])
    assert SPEC.min_kappa < kappa < SPEC.min_kappa_against
    collapsed("evidence speaks against them", f"(Cohen's kappa {kappa:.2f}", model=between, twin=twin, spec=unasked)
    assert not decide(loose(0.6, twin, False), twin, LABELS, unasked, abstaining=EVIDENCE).collapsed
    silent = decide(between, twin, LABELS, unasked, abstaining=EVIDENCE)
    assert not silent.collapsed, "a large gain may differ as much"
    assert "no score could be asked" in decide(between, twin, LABELS, SPEC, abstaining=EVIDENCE).reasons[0]
    unsure = replace(twin, target=replace(twin.target, probabilities_DUC=np.full((1, 600, 3), 1 / 3)))
    assert not decide(model, unsure, LABELS, unasked).collapsed, "what the twin says means nothing"


def test_lost_source_score() -> None:
    collapsed("Source dev has got worse by 0.060 (0.840, the twin 0.900)", model=replace(BETTER, source_dev=0.84))
    assert decide(replace(BETTER, source_dev=0.86), TWIN, LABELS, SPEC).kept == "adapted"
    twin = replace(TWIN, source_dev=0.93)
    assert SPEC.max_source_loss < 0.93 - 0.88, "as binary fractions, not as scores"
    assert decide(replace(BETTER, source_dev=0.88), twin, LABELS, SPEC).kept == "adapted"
    assert decide(replace(BETTER, source_dev=0.8799), twin, LABELS, SPEC).kept == "source-only"


def test_a_loss_on_source_dev_that_may_be_chance_is_no_fault() -> None:
    worse = replace(BETTER, source_dev=0.80)
    doubtful, sure = Interval(-0.1, -0.21, 0.01), Interval(-0.1, -0.15, -0.05)
    assert decide(worse, TWIN, LABELS, SPEC, doubtful).kept == "adapted"
    assert "got worse by 0.100" in " ".join(decide(worse, TWIN, LABELS, SPEC, sure).reasons)


def test_a_tagger_is_kept_for_what_it_gains_on_source_dev() -> None:
    def judged(*gain: float) -> Decision:
        return decide(BETTER, TWIN, LABELS, SPEC, Interval(*gain), EVIDENCE, "evidence")

    better, doubtful, worse = judged(0.02, 0.01, 0.03), judged(0.02, -0.01, 0.05), judged(-0.02, -0.03, -0.01)
    assert [one.kept for one in (better, doubtful, worse)] == ["adapted", "source-only", "source-only"]
    assert "for it source_dev; against it nothing" in better.reasons[0] and not worse.collapsed
    assert "for it nothing; against it source_dev" in worse.reasons[0]
    assert (worse.numbers["evidence"]["source_dev"], worse.numbers["evidence"]["dev"]) == (-0.02, None)


def test_source_dev_convicts_nobody_where_it_cannot_judge() -> None:
    worse = replace(BETTER, source_dev=0.5)
    sure = Interval(-0.4, -0.5, -0.3)
    assert decide(worse, TWIN, LABELS, SPEC, sure).collapsed
    decision = decide(worse, TWIN, LABELS, SPEC, sure, {"dev"}, "blind")
    assert not decision.collapsed and "source_dev" not in decision.numbers["evidence"]


def test_a_rare_class_of_many_must_not_vanish_either() -> None:
    """Eight of 1,000 units: fewer than one in a hundred, and more than chance takes away."""
    many = np.array([2] * 8 + [0, 1] * 496)
    twin = candidate(many, wrong=12, spread=1.0, certainty=0.7)
    collapsed("gives 'poor' to 0.0%", model=candidate(np.where(many == 2, 1, many)), twin=twin)


def test_the_score_that_selected_the_checkpoint_does_not_vote() -> None:
    decision = decide(BETTER, TWIN, LABELS, SPEC, abstaining={"class_ami"})
    assert decision.numbers["evidence"]["class_ami"] is None
    assert "for it dev; against it nothing" in decision.reasons[0]


def test_thresholds_are_settings() -> None:
    lost = candidate(np.where(turning(90) == 2, 1, turning(90)), spread=0.1)
    loose = GuardSpec(lost_class=0.0, max_divergence=1.0, max_source_loss=0.2)
    assert decide(replace(lost, source_dev=0.75), TWIN, LABELS, loose).kept == "adapted"
    assert decide(BETTER, TWIN, LABELS, GuardSpec(min_gain=0.9)).kept == "source-only"
    little = candidate((turning(90) + (np.arange(90) < 5)) % 3, wrong=9, spread=0.8, certainty=0.75)
    assert decide(little, TWIN, LABELS, GuardSpec(min_errors=0)).kept == "adapted"
    assert decide(little, TWIN, LABELS, GuardSpec(min_errors=10)).kept == "source-only"


def test_several_labels_are_looked_at_one_by_one() -> None:
    draw = np.random.default_rng(0)
    yes = draw.integers(0, 2, size=(3, 60))

    def model(chosen: np.ndarray) -> Candidate:
        both = np.stack([np.where(chosen == 0, 0.9, 0.1), np.where(chosen == 1, 0.9, 0.1)], axis=-1)
        told = Units(both, chosen, chosen.T + draw.normal(size=(60, 3)) * 0.1, yes)
        return Candidate(replace(told, gold_DU=None), told, 0.9)

    never = np.stack([yes[0], np.zeros(60, dtype=int), yes[2]])
    decision = decide(model(never), model(yes), LABELS, SPEC)
    assert decision.kept == "source-only"
    assert "'good' to 0.0%" in " ".join(decision.reasons)
    assert decision.numbers["source-only"]["shares"]["good"] == pytest.approx(yes[1].mean(), abs=1e-5)


def test_one_label_that_a_text_has_or_not() -> None:
    yes = turning(60, 2)[None]

    def model(chosen: np.ndarray) -> Candidate:
        both = np.stack([np.where(chosen == 0, 0.9, 0.1), np.where(chosen == 1, 0.9, 0.1)], axis=-1)
        told = Units(both, chosen, np.random.default_rng(0).normal(size=(60, 3)), yes)
        return Candidate(replace(told, gold_DU=None), told, 0.9)

    decision = decide(model(np.zeros_like(yes)), model(yes), ["spam"], SPEC)
    assert decision.kept == "source-only"
    assert decision.numbers["source-only"]["shares"] == {"spam": 0.5}


# Input that says nothing


def test_two_target_units_are_too_few() -> None:
    decision = decide(candidate([0, 1]), candidate([0, 0]), LABELS, SPEC)
    assert decision.kept == "source-only"
    assert "Only 2 units" in decision.reasons[0]
    json.dumps(decision.to_dict(), allow_nan=False)


def test_dev_abstains_where_the_domains_do_not_overlap() -> None:
    far = replace(BETTER.target, features_UH=BETTER.target.features_UH + 5)
    decision = decide(replace(BETTER, target=far), TWIN, LABELS, SPEC)
    assert decision.numbers["adapted"]["mean_weight"] < 0.1
    assert decision.numbers["evidence"]["dev"] is None
    assert decision.numbers["adapted"]["dev"] is not None
    assert "for it class_ami; against it nothing" in decision.reasons[0]
    json.dumps(decision.to_dict(), allow_nan=False)


def test_numbers_that_are_not_finite() -> None:
    broken = candidate(turning(90))
    broken.target.probabilities_DUC[0, 3] = math.nan
    assert decide(broken, TWIN, LABELS, SPEC).kept == "source-only"
    assert "not finite" in decide(broken, TWIN, LABELS, SPEC).reasons[0]
    assert decide(TWIN, broken, LABELS, SPEC).kept == "adapted"
    assert decide(broken, broken, LABELS, SPEC).kept == "source-only"


def test_a_twin_with_one_class_only() -> None:
    """There is nothing to collapse from, and a source of one class is refused when the data are read."""
    twin = candidate([0] * 90, wrong=12, spread=1.0, certainty=0.7)
    assert decide(candidate(turning(90)), twin, LABELS, SPEC).kept == "adapted"


def test_divergence_by_loops() -> None:
    first, second = np.array([[3, 0, 7], [5, 5, 0]]), np.array([[2, 2, 2], [0, 1, 9]])
    total = 0.0
    for ours, theirs in zip(first, second, strict=True):
        p, q = [(n + 0.5) / (sum(ours) + 1.5) for n in ours], [(n + 0.5) / (sum(theirs) + 1.5) for n in theirs]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert divergence_of(first, second) == pytest.approx(total)
    assert divergence_of(first, first) == 0.0
