"""The report of a comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chosen import told as told_selection
from ..conclusions import comparison_in_one_sentence, comparison_words, interval_text
from ..errors import RunError
from ..intervals import Interval
from ..recipe import load
from ..records import read_json, rerun
from ..verdict import HELPED, HURT, JUDGES, NO_EVIDENCE
from ..whole import write_text
from . import findings
from .facts import RunFacts, gather, made_with, setup_of
from .figures.cost import draw_costs
from .figures.intervals import Line, Scale, draw_intervals
from .figures.style import Drawing
from .page import REPORT, render
from .record import read_record
from .run import draw_run

TABLE, COMPARE_RECIPE = "comparison.json", "compare.yaml"
JUDGE = JUDGES[0]


@dataclass(frozen=True)
class Strategy:
    """What a comparison found of one strategy.

    Args:
        name: What it is called.
        scores: By split: ``mean``, ``sd`` (None of one seed) and ``values``, one a seed.
        gain: Gain on the target test over the source-only twin; None where there is no test, or no twin.
        verdict: What that comes to: ``helped``, ``hurt`` or ``no evidence``; empty without a gain.
        over: What else the gain is over, where that was better than the twin: ``source_only``; empty where it was not.
        behind: How far its mean on the target test is below the best strategy's; None without test.
        collapsed: Seeds in which the guard found it collapsed; None where no guard looked.
        runs: Number of seeds.
        rank: Mean rank by the label-free scores; 1 is best.
        label_free: These scores by name, None where one is not a number.
        steps: Optimizer steps.
        seconds: Of training, mean of the seeds.
        times: Seconds relative to source-only, None where that took none.
        memory: Peak of memory in MiB, None where it is not known.
    """

    name: str
    scores: dict[str, dict[str, Any]]
    gain: Interval | None
    verdict: str
    over: str
    behind: float | None
    collapsed: int | None
    runs: int
    rank: float
    label_free: dict[str, float | None]
    steps: int
    seconds: float
    times: float | None
    memory: int | None


@dataclass(frozen=True)
class ComparisonFacts:
    """What the report of a comparison tells.

    Args:
        name: Name of the recipe that was compared upon.
        sentence: What it comes to.
        remarks: By what is picked, and how far that is from the best.
        setup: What all strategies share, by heading.
        headline: Name of the score.
        confidence: Level of the intervals, which hold for all strategies at once.
        seeds: Seeds.
        picked: The strategy that is picked without target labels.
        strategies: In the order of the comparison.
        tuned: By strategy, the settings that its search found; empty without a search.
        failed: By strategy and seed, why training failed.
        made: Where and with what the runs were made, by heading.
        recipe: A recipe that makes the comparison again, as YAML.
        model: Folder, inside the comparison's, of the run to go on with.
        run: What the report of that run tells; None where the run is not there any more.
    """

    name: str
    sentence: str
    remarks: list[str]
    setup: dict[str, str]
    headline: str
    confidence: float
    seeds: list[int]
    picked: str
    strategies: list[Strategy]
    tuned: dict[str, list[str]]
    failed: dict[str, dict[str, str]]
    made: dict[str, str]
    recipe: str
    model: str
    run: RunFacts | None

    @property
    def splits(self) -> list[str]:
        """The splits that were scored."""
        return list(self.strategies[0].scores)

    @property
    def looked_at(self) -> str:
        """The split that counts: the target test, where there is one."""
        return JUDGE if JUDGE in self.splits else "source.dev"

    @property
    def runs(self) -> dict[str, list[float | None]]:
        """Score of each run on that split, by strategy and in the order of the seeds; None where training failed."""
        found = {one.name: iter(one.scores[self.looked_at]["values"]) for one in self.strategies}
        return {
            name: [None if str(seed) in self.failed.get(name, {}) else next(found[name]) for seed in self.seeds]
            for name in dict.fromkeys([*found, *self.failed])
        }


def report_comparison(folder: Path) -> Path:
    """Write the report of a comparison, from what lies in its folder.

    Args:
        folder: The comparison's folder.

    Returns:
        The file ``report.html``.

    Raises:
        RunError: There is no comparison in the folder, or it is damaged.
    """
    path = folder / REPORT
    write_text(path, comparison_page(read_comparison(folder)))
    return path


def comparison_page(facts: ComparisonFacts) -> str:
    """Return the report of a comparison as HTML.

    Args:
        facts: What it tells.
    """
    drawn = None if facts.run is None else draw_run(facts.run)
    return render(
        "comparison.html", facts=facts, gains=_gains(facts), costs=[_costs(facts)], drawn=drawn, findings=findings
    )


def read_comparison(folder: Path) -> ComparisonFacts:
    """Read what a comparison has left.

    Raises:
        RunError: There is no comparison in the folder, or it is damaged.
    """
    try:
        summary = read_json(folder / TABLE, "Compare again, which keeps finished runs.", ["strategies", "seeds"])
        recipe, problems = load(folder / COMPARE_RECIPE)
        if recipe is None:
            raise ValueError(problems[0])
        first = folder / "runs" / next(iter(summary["strategies"])) / str(summary["seeds"][0])
        environment = read_json(first / "environment.json", rerun(first))
        best = summary["strategies"].get(summary.get("best"))
        ceiling = None if best is None else best["scores"][JUDGE]["mean"]
        setup = setup_of(recipe, told_selection(recipe.selection.name))
        # These are what the strategies differ in.
        shared = {key: value for key, value in setup.items() if key not in ("Methods", "Stages", "Seed")}
        return ComparisonFacts(
            name=recipe.name,
            sentence=comparison_in_one_sentence(summary),
            remarks=comparison_words(summary),
            setup=shared,
            headline=summary["headline"],
            confidence=summary["confidence"],
            seeds=summary["seeds"],
            picked=summary["picked"],
            strategies=[_strategy(name, entry, ceiling) for name, entry in summary["strategies"].items()],
            tuned=summary.get("tuned", {}),
            failed=summary.get("failed", {}),
            made=made_with(environment),
            recipe=(folder / COMPARE_RECIPE).read_text(encoding="utf8"),
            model=model_of(summary),
            run=_run_facts(folder / model_of(summary)),
        )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise RunError(f"'{folder}' holds no comparison that can be reported on: {error}") from error


def model_of(summary: Mapping[str, Any]) -> str:
    """Return the run to go on with: the mean of the picked strategy's runs where that is advised, else the best one.

    Args:
        summary: Content of ``comparison.json``.

    Returns:
        Its folder inside the comparison's.
    """
    final = summary.get("final")
    return str(final["run"] if final and final["advised"] else summary["picked_run"])


def _run_facts(folder: Path) -> RunFacts | None:
    # It may have been moved or deleted since, or be of an earlier version: the comparison is told all the same.
    with contextlib.suppress(RunError, KeyError, TypeError, ValueError):
        return gather(read_record(folder))
    return None


def _strategy(name: str, entry: Mapping[str, Any], ceiling: float | None) -> Strategy:
    gain = entry.get("gain")
    return Strategy(
        name=name,
        scores=entry["scores"],
        gain=None if gain is None else Interval(gain["value"], gain["low"], gain["high"]),
        verdict="" if gain is None else gain["verdict"],
        over=entry.get("over", ""),
        behind=None if ceiling is None else ceiling - entry["scores"][JUDGE]["mean"],
        collapsed=entry["collapsed"],
        runs=entry["runs"],
        rank=entry["mean_rank"],
        label_free=entry["label_free"],
        steps=entry["steps"],
        seconds=entry["seconds"],
        times=entry["times_source_only"],
        memory=entry["peak_mib"],
    )


def _gains(facts: ComparisonFacts) -> list[Drawing]:
    gains = {one.name: one.gain for one in facts.strategies if one.gain is not None}
    if not gains:
        return []
    best = max(gains, key=lambda name: gains[name].value)
    told = [f"The largest gain is that of {best}, {interval_text(gains[best].to_dict(), signed=True)}."]
    for verdict in (HELPED, HURT, NO_EVIDENCE):
        names = [one.name for one in facts.strategies if one.verdict == verdict]
        told += [f"{verdict.capitalize()}: {', '.join(names)}."] if names else []
    over = {one.name: f"{one.name} (over {one.over})" if one.over else one.name for one in facts.strategies}
    lines = [Line(over[name], {"gain": gain}) for name, gain in gains.items()]
    scale = Scale(f"gain in {facts.headline} over the twin", zero=True)
    return [draw_intervals(lines, scale, "gains", f"Gains on {JUDGE} over the source-only twin", " ".join(told))]


def _costs(facts: ComparisonFacts) -> Drawing:
    seconds = {one.name: one.seconds for one in facts.strategies}
    labels = {one.name: f"{one.seconds:,.0f} s{_times(one)}" for one in facts.strategies}
    least, most = (pick(seconds, key=lambda name: seconds[name]) for pick in (min, max))
    told = f"The quickest strategy is {least}, {labels[least]}, the slowest {most}, {labels[most]}; × source_only."
    return draw_costs(seconds, labels, "costs", told)


def _times(one: Strategy) -> str:
    return "" if one.times is None else f" ({one.times:.1f}×)"
