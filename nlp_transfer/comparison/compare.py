"""Compare strategies on one recipe: which helps, by how much, how sure that is, and which one to take."""

from __future__ import annotations

import json
import math
import statistics as stats
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints import write_text
from ..errors import Problem, RecipeError
from ..hardware import world_size
from ..parts import METHODS, Known
from ..recipe import dump
from ..recipe.comparing import CompareSpec, StrategySpec
from ..recipe.schema import Recipe
from ..recipe.trust import GuardSpec
from ..report.comparison import RECIPE, TABLE, report_comparison
from ..report.page import REPORT
from ..reporter import Reporter
from ..strategies import SOURCE_ONLY, is_ensemble, name_problems
from ..verdict import rows_that_differ, verdict
from .claims import check_claims, check_rows
from .ensemble import FEWEST, agreement_with_ensemble
from .results import JUDGE, Result, read_result
from .runs import members, run_all
from .search import check_searched, studied, tuned
from .statistics import mean_ranks, simultaneous_gains

FEWEST_TEACHERS = 3


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        folder: Its folder, with a run folder for each strategy and seed.
        summary: Content of ``comparison.json``.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page that tells what was found."""
        return self.folder / REPORT

    @property
    def picked(self) -> Path:
        """Run folder to go on with: of the strategy that is picked, the seed that is."""
        return self.folder / str(self.summary["picked_run"])


def compare(
    recipe: Recipe,
    strategies: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    folder: str | Path | None = None,
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    methods: Known = METHODS,
) -> Comparison:
    """Train every strategy with every seed (what is finished is kept) and judge them together.

    Args:
        recipe: What all strategies share; its ``compare`` section says what is compared.
        strategies: Names instead of those of the section.
        seeds: Seeds instead of those of the section.
        folder: Where runs and results go; by default the recipe's ``output`` (or ``runs/<name>``) and ``-comparison``.
        data: Data sets in place of files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told; silent by default.
        methods: The methods that may be named.

    Returns:
        The comparison.

    Raises:
        RecipeError: No strategies are named, or one is unknown, or does not go with the recipe.
        RunError: The folder holds what another recipe has trained under the same names, or runs on other rows.
    """
    if world_size() > 1:
        text = "a comparison runs in one process; several may work on one, each started by itself, without a launcher."
        raise RecipeError([Problem(text, "compare")])
    reporter = Reporter() if reporter is None else reporter
    spec = _spec(recipe, strategies, seeds, methods)
    place = Path(folder) if folder is not None else Path(f"{recipe.output or f'runs/{recipe.name}'}-comparison")
    asked, recipe = recipe, _judged(recipe)
    chosen = list(spec.strategies)
    if spec.tune is not None:
        # An ensemble has nothing to tune: what it learns is tuned, and it trains as the recipe says.
        searched = [one for one in chosen if not is_ensemble(one)]
        check_claims([studied(recipe, one, spec, place, methods) for one in searched], place)
        check_searched(recipe, searched, spec, place, methods)
        best = [tuned(recipe, one, spec, place, data, reporter, methods) for one in searched]
        chosen = [*best, *chosen[len(best) :]]
    planned = members(recipe, chosen, spec.seeds, place, methods)
    check_claims([(member.folder, member.recipe) for member in planned if member.trained], place)
    run_all(planned, data, reporter, methods)
    check_rows([member.folder for member in planned], place)
    summary = summarise([read_result(member) for member in planned], spec, recipe)
    summary["tuned"] = {one.label: one.set for one in chosen} if spec.tune is not None else {}
    write_text(place / TABLE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_text(place / RECIPE, dump(asked.model_copy(update={"compare": spec, "output": None})))
    report_comparison(place)
    return Comparison(place, summary)


def _judged(recipe: Recipe) -> Recipe:
    """Let runs keep what the judges look at; which strategy is better is not theirs to say, only what has collapsed."""
    if not recipe.data.target.has_text:
        return recipe
    judged: dict[str, Any] = {"evaluate": recipe.evaluate.model_copy(update={"label_free": True})}
    if recipe.guard is not False:
        own = recipe.guard.model_dump(exclude_unset=True) if isinstance(recipe.guard, GuardSpec) else {}
        judged["guard"] = GuardSpec(**{"evidence": False} | own)
    return recipe.model_copy(update=judged)


def _spec(recipe: Recipe, strategies: Sequence[str] | None, seeds: Sequence[int] | None, methods: Known) -> CompareSpec:
    given = recipe.compare
    if given is None and strategies is None:
        text = "nothing says what to compare. Add a compare section, or give --strategies, such as source_only,dann."
        raise RecipeError([Problem(text, "compare")])
    named = [StrategySpec(name=name) for name in strategies] if strategies is not None else list(given.strategies)  # type: ignore[union-attr]
    if all(one.name != SOURCE_ONLY or one.set for one in named):
        named.insert(0, StrategySpec(name=SOURCE_ONLY))
    # The twins of the others are copied from it; an ensemble learns from all others.
    named.sort(key=lambda one: (one.name != SOURCE_ONLY or bool(one.set), is_ensemble(one)))
    problems = [
        problem
        for number, one in enumerate(named)
        for problem in name_problems(one, f"compare.strategies[{number}]", methods)
    ]
    if any(map(is_ensemble, named)) and sum(not is_ensemble(one) for one in named) < FEWEST_TEACHERS:
        text = (
            "an ensemble learns from at least two strategies beside source_only, such as source_only,dann,mcc,ensemble."
        )
        problems.append(Problem(text, "compare.strategies"))
    if problems:
        raise RecipeError(problems)
    values = {} if given is None else given.model_dump(exclude={"strategies"})
    values |= {"strategies": [one.model_dump() for one in named]} | ({} if seeds is None else {"seeds": list(seeds)})
    found = CompareSpec.model_validate(values)
    if not recipe.data.target.has_text:
        # Nothing else can be had without target text.
        if found.tune is not None and found.tune.objective != "source_dev":
            text = f"'{found.tune.objective}' scores unlabelled target text. Set data.target.unlabelled, or source_dev."
            raise RecipeError([Problem(text, "compare.tune.objective")])
        found = found.model_copy(update={"picks_by": ["source_dev"]})
    if found.picks_by is None:
        models = len(found.strategies) * len(found.seeds)
        found = found.model_copy(update={"picks_by": ["ensemble" if models >= FEWEST else "class_ami"]})
    if recipe.selection.name == "oracle":
        text = "strategies are compared without target labels, but selection is 'oracle'. Take another selection."
        raise RecipeError([Problem(text, "selection")])
    return found


def summarise(results: Sequence[Result], spec: CompareSpec, recipe: Recipe) -> dict[str, Any]:
    """Return the table of a comparison.

    Args:
        results: All runs.
        spec: What was compared.
        recipe: The recipe; its ``evaluate`` section says the confidence of the intervals.

    Returns:
        ``strategies`` by name (scores by split as mean, sd and values; ``gain`` over the twin with its simultaneous
        interval and verdict; ``collapsed``: seeds in which the guard found it so; mean rank; cost relative to
        source-only), ``picked`` without target labels and ``picked_run``, the best of its runs by the same scores, with
        labelled target splits ``best`` and ``regret`` (best minus picked), and ``target_labels``: the number of
        labelled target rows that strategies were trained on, where there
        are such.
    """
    by_name = {one.label: [r for r in results if r.strategy == one.label] for one in spec.strategies}
    plain = next(one.label for one in spec.strategies if one.name == SOURCE_ONLY and not one.set)
    base = by_name[plain]
    table = {name: _entry(own, base) for name, own in by_name.items()}
    _add_gains(table, by_name, base, recipe)
    each = _label_free(results, spec.picks_by or [])
    scores = {name: _means([each[name, r.seed] for r in own]) for name, own in by_name.items()}
    for name, rank in mean_ranks(scores).items():
        table[name] |= {"mean_rank": round(rank, 3), "label_free": {k: _rounded(v) for k, v in scores[name].items()}}
    sound = [name for name, entry in table.items() if 2 * entry["collapsed"] < entry["runs"]]
    picked = min(sound or [plain], key=lambda name: table[name]["mean_rank"])
    summary: dict[str, Any] = {
        "headline": results[0].metrics["headline"],
        "confidence": recipe.evaluate.confidence,
        "seeds": spec.seeds,
        "picks_by": spec.picks_by,
        "strategies": table,
        "picked": picked,
        "picked_run": _best_run([r for r in by_name[picked] if not r.collapsed] or by_name[picked], each),
    }
    taught = {name: own[0].target_labels for name, own in by_name.items() if own[0].target_labels}
    summary |= {"target_labels": taught} if taught else {}
    tests = {name: entry["scores"][JUDGE]["mean"] for name, entry in table.items() if JUDGE in entry["scores"]}
    if tests:
        best = max(tests, key=lambda name: tests[name])
        summary |= {"best": best, "regret": round(tests[best] - tests[picked], 6)}
    return summary


def _label_free(results: Sequence[Result], kinds: Sequence[str]) -> dict[tuple[str, int], dict[str, float]]:
    """Return the scores that pick, by strategy and seed.

    The ensemble is that of all runs that are sound, but for those that were taught by it.
    """
    found = {(r.strategy, r.seed): {kind: r.label_free(kind) for kind in kinds} for r in results}
    if "ensemble" in kinds:
        seen = [(r, r.target_DUC) for r in results if not r.collapsed and r.target_DUC is not None]
        values = agreement_with_ensemble([one for r, one in seen if not r.taught], [one for _, one in seen])
        for (r, _), value in zip(seen, values, strict=True):
            found[r.strategy, r.seed]["ensemble"] = value
    return found


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
        "collapsed": sum(r.collapsed for r in own),
        "steps": round(stats.fmean(r.cost["steps"] for r in own)),
        "seconds": round(seconds, 1),
        "times_source_only": round(seconds / usual, 2) if usual else None,
        "peak_mib": max(memory, default=None),
    }


def _add_gains(table: dict[str, Any], by_name: dict[str, list[Result]], base: list[Result], recipe: Recipe) -> None:
    """Gains over the twin of the same run (equal steps); a strategy that has none is compared with source-only."""
    plain = {r.seed: r.counts_NK for r in base}
    names = [name for name, own in by_name.items() if own is not base and own[0].counts_NK is not None]
    if not names:
        return
    first = by_name[names[0]][0].score
    assert first is not None
    counts = np.array([[r.counts_NK for r in by_name[name]] for name in names])
    twins = np.array([[plain[r.seed] if r.twin_NK is None else r.twin_NK for r in by_name[name]] for name in names])
    level, resamples = recipe.evaluate.confidence, recipe.evaluate.resamples
    gains = simultaneous_gains(counts, twins, first.statistic, level, resamples)
    for name, gain, own, twin in zip(names, gains, counts, twins, strict=True):
        # A row counts once, however many seeds answer it: all seeds share their rows.
        differing = rows_that_differ(np.concatenate(own, axis=-1), np.concatenate(twin, axis=-1))
        found = {"verdict": verdict(gain, differing, level), "rows_that_differ": differing}
        table[name]["gain"] = gain.to_dict() | found


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
