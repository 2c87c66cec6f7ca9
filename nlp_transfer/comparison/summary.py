"""The table of a comparison: what each strategy gained and cost, and which one is picked without target labels."""

from __future__ import annotations

import math
import statistics as stats
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from ..recipe.comparing import SOURCE_ONLY, CompareSpec, Judge
from ..recipe.schema import Recipe
from .ensemble import FEWEST, agreement_with_ensemble
from .failures import Failures
from .gains import gains_of, regret_of
from .results import JUDGE, Result
from .statistics import mean_ranks


def summarise(
    results: Sequence[Result], spec: CompareSpec, recipe: Recipe, failed: Failures | None = None
) -> dict[str, Any]:
    """Return the table of a comparison.

    A strategy is judged by its finished runs, and left out where it has none. What has collapsed or failed in half of
    the seeds is not picked.

    Args:
        results: All finished runs; those of source-only are finished with every seed.
        spec: What was compared.
        recipe: The recipe; its ``evaluate`` section says the confidence of the intervals.
        failed: By strategy and seed, why training failed.

    Returns:
        ``strategies`` by name (scores by split as mean, sd and values; ``gain`` over the twin with its simultaneous
        interval and verdict; ``over`` where it is over source-only; ``made_of_others`` where it is; ``collapsed``:
        seeds in which the guard found it so, None where no guard looked; mean rank; cost relative to source-only),
        ``picked`` without target labels and ``picked_run``, the best of its runs by the same scores, with labelled
        target splits ``best`` and ``regret`` (best minus picked, with its simultaneous interval; None where no seed has
        both), ``target_labels``: the number of labelled target rows that strategies were trained on, where there are
        such, and ``failed``, where something has.
    """
    failed = {} if failed is None else failed
    runs = {one.label: [r for r in results if r.strategy == one.label] for one in spec.strategies}
    by_name = {name: own for name, own in runs.items() if own}
    plain = next(one.label for one in spec.strategies if one.name == SOURCE_ONLY and not one.set)
    base = by_name[plain]
    table = {name: _entry(own, base) for name, own in by_name.items()}
    for name, gain in gains_of(by_name, base, spec, recipe.evaluate).items():
        table[name] |= gain
    judges = _judges(results, spec.picks_by or [], recipe)
    each = _label_free(results, judges)
    scores = {name: _means([each[name, r.seed] for r in own]) for name, own in by_name.items()}
    for name, rank in mean_ranks(scores).items():
        table[name] |= {"mean_rank": round(rank, 3), "label_free": {k: _rounded(v) for k, v in scores[name].items()}}
    unsound = {name: (entry["collapsed"] or 0) + len(failed.get(name, ())) for name, entry in table.items()}
    sound = [name for name, count in unsound.items() if 2 * count < len(spec.seeds)]
    if judges == ["source_dev"]:
        among = len(by_name) - 1
        sound = [n for n in sound if n == plain or _gains_at_home(by_name[n], recipe.evaluate.confidence, among)]
    picked = min(sound or [plain], key=lambda name: table[name]["mean_rank"])
    summary: dict[str, Any] = {
        "headline": results[0].metrics["headline"],
        "confidence": recipe.evaluate.confidence,
        "seeds": spec.seeds,
        "picks_by": judges,
        "strategies": table,
        "picked": picked,
        "picked_run": _best_run([r for r in by_name[picked] if not r.collapsed] or by_name[picked], each),
    }
    taught = {name: own[0].target_labels for name, own in by_name.items() if own[0].target_labels}
    summary |= {"target_labels": taught} if taught else {}
    summary |= {"failed": failed} if failed else {}
    tests = {name: entry["scores"][JUDGE]["mean"] for name, entry in table.items() if JUDGE in entry["scores"]}
    if tests:
        best = max(tests, key=lambda name: tests[name])
        summary |= {"best": best, "regret": regret_of(by_name, best, picked, recipe.evaluate)}
    return summary


def _gains_at_home(runs: Sequence[Result], confidence: float, among: int) -> bool:
    """Whether runs are better than their twins on source dev by more than chance, on average.

    Where source dev alone picks, a difference that may be chance says nothing for what adapts. A run without a twin is
    trained otherwise, and adapts nothing. All runs share the rows of source dev, so that the mean of their gains is
    taken to be no surer than one of them.

    Args:
        runs: The finished runs of a strategy.
        confidence: That of the runs' own intervals, and that is asked for.
        among: Number of strategies that might gain by chance. The intervals are widened for it (Bonferroni), as those
            of a normal distribution are.
    """
    gains = [gain for r in runs if (gain := r.metrics.get("gain", {}).get("source.dev")) is not None]
    if not gains:
        return True
    one, all_of_them = ((1 - confidence) / 2 / count for count in (1, among))
    wider = NormalDist().inv_cdf(all_of_them) / NormalDist().inv_cdf(one)
    return stats.fmean(gain["value"] - wider * (gain["value"] - gain["low"]) for gain in gains) > 0


def lone_judge(recipe: Recipe) -> Judge:
    """Return what picks where models are too few for an ensemble; ClassAMI misjudges taggers, see :mod:`..evidence`."""
    return "source_dev" if recipe.task.labels_words else "class_ami"


def _judges(results: Sequence[Result], wanted: Sequence[Judge], recipe: Recipe) -> list[Judge]:
    """Return the scores that pick, with another in place of an ensemble that too few models are left for."""
    voters = sum(_votes(r) for r in results)
    return [name if name != "ensemble" or voters >= FEWEST else lone_judge(recipe) for name in wanted]


def _votes(result: Result) -> bool:
    """Whether a run has a place in the ensemble: it is sound, and not made of the others."""
    return not (result.collapsed or result.made_of_others or result.target_DUC is None)


def _label_free(results: Sequence[Result], kinds: Sequence[str]) -> dict[tuple[str, int], dict[str, float]]:
    """Return the scores that pick, by strategy and seed."""
    return {(r.strategy, r.seed): one for r, one in zip(results, _scored(results, results, kinds), strict=True)}


def _scored(judged: Sequence[Result], results: Sequence[Result], kinds: Sequence[str]) -> list[dict[str, float]]:
    """Return the scores that pick, of each of some models.

    The ensemble is that of all results that are sound, but for those that are made of others.
    """
    found = [{kind: r.label_free(kind) for kind in kinds} for r in judged]
    if "ensemble" in kinds:
        voters = [r.target_DUC for r in results if _votes(r) and r.target_DUC is not None]
        seen = [(scores, r.target_DUC) for scores, r in zip(found, judged, strict=True) if not r.collapsed]
        known = [(scores, answers) for scores, answers in seen if answers is not None]
        values = agreement_with_ensemble(voters, [answers for _, answers in known])
        for (scores, _), value in zip(known, values, strict=True):
            scores["ensemble"] = value
    return found


def is_preferred(one: Result, other: Result, results: Sequence[Result], judges: Sequence[str]) -> bool:
    """Whether the scores that pick rank a model that is made of runs at least as high as one of these.

    Args:
        one: The model.
        other: The run.
        results: All finished runs, which make the ensemble.
        judges: The scores.
    """
    both = dict(zip(("one", "other"), _scored([one, other], results, judges), strict=True))
    ranks = mean_ranks(both)
    return ranks["one"] <= ranks["other"]


def _means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the seeds that have it: a collapsed run has no place in the ensemble."""
    found = {kind: [one[kind] for one in scores if math.isfinite(one[kind])] for kind in scores[0]}
    return {kind: stats.fmean(values) if values else math.nan for kind, values in found.items()}


def _best_run(runs: Sequence[Result], each: dict[tuple[str, int], dict[str, float]]) -> str:
    """Return the folder, inside the comparison's, of the run that its scores rank first."""
    ranks = mean_ranks({str(r.seed): each[r.strategy, r.seed] for r in runs})
    best = min(runs, key=lambda r: ranks[str(r.seed)])
    return f"runs/{best.strategy}/{best.seed}"


def _entry(own: Sequence[Result], base: Sequence[Result]) -> dict[str, Any]:
    splits = own[0].metrics["scores"][own[0].role]
    values = {split: [r.metrics["scores"][r.role][split]["interval"]["value"] for r in own] for split in splits}
    seconds, usual = (stats.fmean(r.cost["seconds"] for r in runs) for runs in (own, base))
    memory = [r.cost["peak_mib"] for r in own if r.cost["peak_mib"] is not None]
    return {
        "runs": len(own),
        "scores": {
            split: {
                "mean": stats.mean(found),
                "sd": stats.stdev(found) if len(found) > 1 else None,
                "values": found,
            }
            for split, found in values.items()
        },
        "collapsed": sum(r.collapsed for r in own) if any("guard" in r.metrics for r in own) else None,
        "steps": round(stats.fmean(r.cost["steps"] for r in own)),
        "seconds": round(seconds, 1),
        "times_source_only": round(seconds / usual, 2) if usual else None,
        "peak_mib": max(memory, default=None),
        **({"made_of_others": True} if own[0].made_of_others else {}),
    }


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
