"""The rules of the advice."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nlp_transfer.diagnosis.advice import ENTITIES, REVIEWS, SCREEN, Evidence, advise, comparisons
from nlp_transfer.intervals import Interval

RESULTS = Path(__file__).parents[1] / "recipes" / "benchmarks" / "results"
ALL = ["pretrain", "self_train", "dann", "cdan", "mmd", "coral", "mcc", "joint_mlm", "l2sp", "soup"]
NAMES = ["pretrain", "self_train", "dann", "cdan", "joint_mlm", "l2sp"]
FAR = Interval(1.9, 1.8, 2.0)
SOME = Evidence(target_rows=1000, target_tokens=1e6, a_distance=FAR, unseen_gap=0.0, pieces_gap=0.0, shift=0.02)


def verdicts(evidence: Evidence, names: Any = NAMES) -> dict[str, str]:
    found = advise(evidence, names)
    assert all(item.because and item.basis for item in found)
    assert (found[0].verdict, found[0].strategy) == ("first", "source_only")
    return {item.strategy: item.verdict for item in found[1:]}


def test_far_domains_may_be_aligned() -> None:
    assert verdicts(SOME) == {"dann or cdan": "maybe"}
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
    assert verdicts(shifted) == {"self_train": "maybe", "dann or cdan": "avoid"}
    assert verdicts(shifted, ["cdan", "dann"]) == {"dann or cdan": "avoid"}
    for unsure in ({"shift_clear": False}, {"weak": True}, {"shift": 0.05}):
        assert "self_train" not in verdicts(replace(shifted, **unsure))


def test_a_shift_that_cannot_explain_the_distance_is_not_believed() -> None:
    found = verdicts(replace(SOME, shift=0.4, shift_clear=True))
    assert found == {"label 50 target texts by hand (nlp-transfer draw)": "do", "dann or cdan": "maybe"}


def test_words_are_not_aligned() -> None:
    assert verdicts(SOME)["dann or cdan"] == "maybe"
    shifted = replace(SOME, words=True, shift=0.4, shift_clear=True)
    for found in (replace(SOME, words=True), shifted):
        (told,) = [item for item in advise(found, ["cdan", "dann"]) if item.strategy == "dann or cdan"]
        assert told.verdict == "avoid"
        assert "shift" not in told.because


def test_words_may_be_aligned_where_the_answers_are_held() -> None:
    found = advise(replace(SOME, words=True), ["cdan", "dann", "anchor"])
    (held,) = [item for item in found if item.strategy == "dann+anchor"]
    assert (held.verdict, held.compare) == ("maybe", "dann+anchor") and "gained 0.9 and 1.0" in held.basis
    assert not [item for item in advise(SOME, ALL) if item.strategy == "dann+anchor"]


def test_advice_names_what_compare_runs() -> None:
    frozen = advise(replace(SOME, unseen_gap=0.1, frozen=True), ["dann", "pretrain"])
    named = {item.strategy: item.compare for item in frozen}
    assert named == {"source_only": "source_only", "pretrain": "full+pretrain", "dann": "full+dann"}


def test_on_texts_what_has_helped_is_compared_first() -> None:
    found = advise(SOME, ALL)
    assert [(item.verdict, item.compare) for item in found[:2]] == [
        ("first", "source_only"),
        ("try", "source_only,dann,mcc,soup"),
    ]
    assert "1.90 of 2" in found[1].because and "soup +0.8" in found[1].basis
    assert comparisons(found) == ["source_only,dann,mcc,soup"]
    # Beside further strategies it would be the mean of these, too.
    more = advise(replace(SOME, unseen_gap=0.5), ALL)
    assert comparisons(more) == ["source_only,dann,mcc,soup", "source_only,pretrain"]
    assert "soup" not in " ".join(verdicts(replace(SOME, a_distance=None), ALL))
    some_way = verdicts(replace(SOME, a_distance=Interval(0.7, 0.5, 0.9)), ALL)
    assert list(some_way.values()) == ["try"]


def test_soup_is_advised_neither_of_words_nor_against_a_shift_of_labels() -> None:
    for other in (
        replace(SOME, words=True),
        replace(SOME, a_distance=Interval(0.9, 0.5, 1.2), shift=0.4, shift_clear=True),
    ):
        found = advise(other, ALL)
        assert not any("soup" in item.compare or "mcc" in item.compare for item in found)
    doubted = advise(replace(SOME, shift=0.4, shift_clear=True), ALL)
    (told,) = [item for item in doubted if "soup" in item.compare]
    assert told.verdict == "maybe" and "only if the labels" in told.because


def test_where_no_soup_can_be_had_mcc_is_advised() -> None:
    alone = [name for name in ALL if name != "soup"]
    (told,) = [item for item in advise(replace(SOME, frozen=True), alone) if item.strategy == "mcc"]
    assert (told.verdict, told.compare) == ("maybe", "full+mcc")
    assert comparisons(advise(SOME, alone)) == ["source_only,mcc"]


def gains(file: str) -> dict[str, str]:
    """Mean gain of each strategy over the cases of a benchmark, in points."""
    cases = json.loads((RESULTS / file).read_text(encoding="utf8"))["results"].values()
    tables = [case["strategies"] for case in cases if "strategies" in case]
    names = {name for table in tables for name, entry in table.items() if "gain" in entry}
    means = {name: statistics.mean(table[name]["gain"]["value"] for table in tables if name in table) for name in names}
    return {name: f"{100 * mean:+.1f}" for name, mean in means.items()}


def test_the_numbers_that_advice_rests_on_are_the_measured_ones() -> None:
    reviews, screen = gains("reviews.json"), gains("reviews_screen.json")
    for name in ("soup", "mcc", "dann"):
        assert f"{name} {reviews[name]} [" in REVIEWS
    assert f"(with other draws {gains('reviews_final.json')['mcc']} [" in REVIEWS
    for name, measured in (("mmd", "mmd"), ("dann", "dann unbounded"), ("coral", "coral"), ("cdan", "cdan unbounded")):
        assert f"{name} {screen[measured]}" in SCREEN
    cases = json.loads((RESULTS / "news_ner.json").read_text(encoding="utf8"))["results"]
    for number in (cases[case]["strategies"]["dann"]["gain"]["value"] for case in ("politics", "science")):
        assert f"{-100 * number:.1f}" in ENTITIES
