"""What each strategy of a comparison gained on the labelled target, and how far the pick is from the best."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..intervals import Interval
from ..recipe.comparing import SOURCE_ONLY, CompareSpec
from ..recipe.schema import EvaluateSpec
from ..tasks.base import Score
from ..verdict import rows_that_differ, verdict
from .results import Result
from .statistics import simultaneous_gains


def gains_of(
    by_name: Mapping[str, Sequence[Result]], base: Sequence[Result], spec: CompareSpec, settings: EvaluateSpec
) -> dict[str, dict[str, Any]]:
    """Return gains over the twin of the same run (equal steps); a strategy that has none is compared with source-only.

    A strategy with training settings of its own, or with rounds of self-training, has a twin with the same settings or
    as many steps, which may not suit it: then its gain is that over the better of its twin and source-only.

    Args:
        by_name: Finished runs of each strategy.
        base: Those of source-only.
        spec: What was compared.
        settings: Confidence and resamples of the intervals.

    Returns:
        By strategy ``gain`` (simultaneous interval and verdict), and ``over`` where it is over source-only; nothing
        without labelled target rows.
    """
    names = [name for name, own in by_name.items() if own is not base and own[0].counts_NK is not None]
    if not names or base[0].score is None:
        return {}
    by_seed = {r.seed: _counts(r) for r in base}
    plain = np.array([by_seed[seed] for seed in spec.seeds])
    counts, ran = _answers([by_name[name] for name in names], spec.seeds, plain)
    statistic = base[0].score.statistic
    twins = np.array([_twins(by_name[name], spec.seeds, plain) for name in names])
    own_training = {
        one.label
        for one in spec.strategies
        if spec.tune or "self_train" in one.name.split("+") or any(map(_sets_training, one.set))
    }
    over = [
        name in own_training and bool(statistic(plain.sum(1)).mean() > statistic(twin.sum(1)).mean())
        for name, twin in zip(names, twins, strict=True)
    ]
    twins[over] = plain
    found = _simultaneous(counts, twins, ran, base[0].score, settings)
    told: dict[str, dict[str, Any]] = {}
    for number, (name, gain) in enumerate(zip(names, found, strict=True)):
        # A row counts once, however many seeds answer it: all seeds share their rows.
        sides = (np.concatenate(side[number], axis=-1) for side in (counts, twins))
        differing = rows_that_differ(*sides)
        judged = {"verdict": verdict(gain, differing, settings.confidence), "rows_that_differ": differing}
        told[name] = {"gain": gain.to_dict() | judged} | ({"over": SOURCE_ONLY} if over[number] else {})
    return told


def regret_of(
    by_name: Mapping[str, Sequence[Result]], best: str, picked: str, settings: EvaluateSpec
) -> dict[str, Any] | None:
    """Return how far the pick is below the strategy that is best on the labelled target, with its interval.

    All strategies are held against the pick at once: that the best is read off the same rows is paid for by the width.

    Args:
        by_name: Finished runs of each strategy.
        best: The best strategy.
        picked: The pick.
        settings: Confidence and resamples of the interval.

    Returns:
        The interval over the seeds that both have, and how many these are; None where there is no such seed.
    """
    if best == picked:
        return Interval(0.0, 0.0, 0.0).to_dict() | {"seeds": len(by_name[picked])}
    scored = {name: {r.seed: r for r in own if r.counts_NK is not None} for name, own in by_name.items()}
    own = scored.pop(picked)
    shared = {name: [runs[seed] for seed in own if seed in runs] for name, runs in scored.items()}
    names = [name for name, runs in shared.items() if runs]
    if best not in names:
        return None
    seeds = list(own)
    pick = np.array([_counts(one) for one in own.values()])
    score = own[seeds[0]].score
    assert score is not None
    counts, ran = _answers([shared[name] for name in names], seeds, pick)
    found = _simultaneous(counts, np.broadcast_to(pick, counts.shape), ran, score, settings)
    return found[names.index(best)].to_dict() | {"seeds": len(shared[best])}


def _answers(
    runs: Sequence[Sequence[Result]], seeds: Sequence[int], plain_SNK: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of several strategies (M, S, N, K), and which has run with which seed (M, S).

    Where one has not, other counts stand in for its own.
    """
    by_seed = [{r.seed: r for r in own} for own in runs]
    counts = [
        [_counts(own[seed]) if seed in own else plain for seed, plain in zip(seeds, plain_SNK, strict=True)]
        for own in by_seed
    ]
    return np.array(counts), np.array([[seed in own for seed in seeds] for own in by_seed])


def _twins(runs: Sequence[Result], seeds: Sequence[int], plain_SNK: np.ndarray) -> list[np.ndarray]:
    """Return the counts of the source-only twin of each run; of source-only, where there is none."""
    found = {r.seed: r.twin_NK for r in runs if r.twin_NK is not None}
    return [found.get(seed, plain) for seed, plain in zip(seeds, plain_SNK, strict=True)]


def _counts(run: Result) -> np.ndarray:
    assert run.counts_NK is not None
    return run.counts_NK


def _simultaneous(
    counts_MSNK: np.ndarray, base_MSNK: np.ndarray, ran_MS: np.ndarray, score: Score, settings: EvaluateSpec
) -> list[Interval]:
    level, resamples = settings.confidence, settings.resamples
    return simultaneous_gains(counts_MSNK, base_MSNK, score.statistic, level, resamples, ran_MS=ran_MS)


def _sets_training(override: str) -> bool:
    """Whether an override changes how the task is trained: ``train.…``, ``finetune.train.…``, ``stages=…``."""
    key, _, value = override.partition("=")
    if key == "stages":
        return re.search(r"finetune[^{}]*\btrain\b\s*:", value) is not None
    first, *others = key.split(".")
    return first not in ("data", "pretrain", "self_train") and "train" in (first, *others)
