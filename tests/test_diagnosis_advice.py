"""The rules of the advice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_transfer.diagnosis.advice import Evidence, advise
from nlp_transfer.intervals import Interval

NAMES = ["pretrain", "self_train", "dann", "cdan", "joint_mlm", "l2sp"]
FAR = Interval(1.9, 1.8, 2.0)
SOME = Evidence(target_rows=1000, target_tokens=1e6, a_distance=FAR, unseen_gap=0.0, pieces_gap=0.0, shift=0.02)


def verdicts(evidence: Evidence, names: Any = NAMES) -> dict[str, str]:
    found = advise(evidence, names)
    assert all(item.because and item.basis for item in found)
    assert (found[0].verdict, found[0].strategy) == ("first", "source_only")
    return {item.strategy: item.verdict for item in found[1:]}


def test_far_domains_may_be_aligned() -> None:
    assert verdicts(SOME) == {"cdan or dann": "maybe"}
    assert verdicts(SOME, ["dann"]) == {"dann": "maybe"}
    assert verdicts(SOME, []) == {"nothing more": "maybe"}


def test_near_domains_are_left_alone() -> None:
    near = replace(SOME, a_distance=Interval(0.2, 0.0, 0.5), unseen_gap=0.5, shift=0.4, shift_clear=True)
    assert verdicts(near) == {"adaptation": "avoid"}
    unsure = replace(SOME, a_distance=Interval(0.2, 0.0, 1.3))
    assert "adaptation" not in verdicts(unsure)


def test_no_or_little_target_text() -> None:
    assert verdicts(Evidence(target_rows=0)) == {"collect target text": "do"}
    assert list(verdicts(replace(SOME, target_rows=50)).values()) == ["do"]


@pytest.mark.parametrize("gap", [{"unseen_gap": 0.06}, {"pieces_gap": 0.2}, {"perplexity_ratio": 2.0}])
def test_foreign_words_are_read_first(gap: dict[str, float]) -> None:
    some = replace(SOME, **{"perplexity_ratio": 1.0} | gap)
    found = advise(some, NAMES)
    assert [item.strategy for item in found][:3] == ["source_only", "pretrain", "pretrain+joint_mlm"]
    little = advise(replace(some, target_tokens=5000), NAMES)
    both = [("pretrain+joint_mlm", "try"), ("pretrain", "maybe")]
    assert [(item.strategy, item.verdict) for item in little][1:3] == both
    assert "pretrain+joint_mlm" not in verdicts(some, ["dann", "pretrain"])
    assert not {"pretrain", "pretrain+joint_mlm"} & {*verdicts(some, ["joint_mlm"])}


def test_joint_mlm_is_not_advised_without_a_masked_lm_head() -> None:
    assert SOME.perplexity_ratio is None
    assert "pretrain+joint_mlm" not in verdicts(replace(SOME, unseen_gap=0.5), NAMES)


def test_shifted_labels_forbid_alignment() -> None:
    shifted = replace(SOME, a_distance=Interval(0.9, 0.5, 1.2), shift=0.4, shift_clear=True)
    assert verdicts(shifted) == {"self_train": "maybe", "cdan or dann": "avoid"}
    assert verdicts(shifted, ["cdan", "dann"]) == {"cdan or dann": "avoid"}
    for unsure in ({"shift_clear": False}, {"weak": True}, {"shift": 0.05}):
        assert "self_train" not in verdicts(replace(shifted, **unsure))


def test_a_shift_that_cannot_explain_the_distance_is_not_believed() -> None:
    found = verdicts(replace(SOME, shift=0.4, shift_clear=True))
    assert found == {"count the labels of 50 target texts by hand": "do", "cdan or dann": "maybe"}


def test_words_are_not_aligned() -> None:
    assert verdicts(SOME)["cdan or dann"] == "maybe"
    shifted = replace(SOME, words=True, shift=0.4, shift_clear=True)
    for found in (replace(SOME, words=True), shifted):
        (told,) = [item for item in advise(found, ["cdan", "dann"]) if item.strategy == "cdan or dann"]
        assert told.verdict == "avoid"
        assert "shift" not in told.because


def test_advice_names_what_compare_runs() -> None:
    frozen = advise(replace(SOME, unseen_gap=0.1, frozen=True), ["dann", "pretrain"])
    named = {item.strategy: item.compare for item in frozen}
    assert named == {"source_only": "source_only", "pretrain": "full+pretrain", "dann": "full+dann"}
