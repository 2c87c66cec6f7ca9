"""What the runs of a comparison left: scores, answers on the target test, label-free scores, cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..guard import ADAPTED, TWIN, has_collapsed, own_role
from ..model_files import labels_in
from ..parts import build_task
from ..predictions import answer_of, file_of, read_answers, read_target
from ..records import damaged, read_json, rerun
from ..tasks.base import Score
from ..verdict import JUDGES
from .runs import COST, Member

JUDGE = JUDGES[0]


@dataclass(frozen=True)
class Result:
    """What one run says.

    Args:
        strategy: What the strategy is called.
        seed: Seed of the run.
        metrics: Content of ``metrics.json``.
        cost: Seconds and steps of training (the twin's only where it learns from that), with those of the runs that it
            is made of; peak memory.
        counts_NK: Counts of each test row for the headline number, None without target test.
        twin_NK: Those of the source-only twin of the same run, None where it has none.
        score: Score of the target test, for its statistic.
        target_DUC: Probabilities of units of unlabelled target text, None where there is none.
        made_of_others: The run learned from the others of its comparison, or is their mean.
    """

    strategy: str
    seed: int
    metrics: dict[str, Any]
    cost: dict[str, Any]
    counts_NK: np.ndarray | None
    twin_NK: np.ndarray | None
    score: Score | None
    target_DUC: np.ndarray | None = None
    made_of_others: bool = False

    @property
    def role(self) -> str:
        """Under which name the strategy's own model stands in the metrics."""
        return own_role(self.metrics["scores"])

    @property
    def target_labels(self) -> int:
        """Number of labelled target rows that were trained on."""
        return int(self.metrics.get("target_labels", {"rows": 0})["rows"])

    @property
    def collapsed(self) -> bool:
        """Whether the guard found the strategy's own model collapsed."""
        return has_collapsed(self.metrics)

    def value(self, split: str) -> float | None:
        """Return the headline number on a split."""
        found = self.metrics["scores"][self.role].get(split)
        return None if found is None else float(found["interval"]["value"])

    def label_free(self, name: str) -> float:
        """Return a score of this run alone that needs no target labels; NaN where there is none."""
        if name == "source_dev":
            value = self.value("source.dev")
        else:
            value = self.metrics.get("label_free", {}).get(self.role, {}).get(name)
        return float("nan") if value is None else float(value)


def read_result(member: Member) -> Result:
    """Read what a finished run left.

    Args:
        member: The run.

    Raises:
        RunError: A file of it is missing or damaged.
    """
    folder = member.folder
    metrics = read_json(folder / "metrics.json", rerun(folder), ["scores", "headline"])
    roles = metrics["scores"]
    own = own_role(roles)
    scores = {role: _score(member, role) for role in roles if JUDGE in roles[role]}
    score = scores.get(own)
    twin = scores.get(TWIN) if own == ADAPTED else None
    return Result(
        member.strategy,
        member.seed,
        metrics,
        _cost(member),
        counts_NK=None if score is None else score.counts_NK,
        twin_NK=None if twin is None else twin.counts_NK,
        score=score,
        target_DUC=read_target(folder, own),
        made_of_others=bool(member.others),
    )


def _cost(member: Member) -> dict[str, Any]:
    """What it takes to have the run's model: its own cost, and that of the runs that it is made of."""
    keys = ["seconds", "steps", "peak_mib"]
    made_of = [one for one in member.others if one.failure is None]
    own, *others = (read_json(one.folder / COST, rerun(one.folder), keys) for one in (member, *made_of))
    memory = [cost["peak_mib"] for cost in (own, *others) if cost["peak_mib"] is not None]
    return {
        "seconds": round(sum(cost["seconds"] for cost in (own, *others)), 1),
        "steps": sum(cost["steps"] for cost in (own, *others)),
        "peak_mib": max(memory, default=None),
    }


def _score(member: Member, role: str) -> Score:
    """Score the answers that a run has written, as the run itself did."""
    folder = member.folder
    config = read_json(folder / "model" / "config.json", rerun(folder))
    task = build_task(member.recipe.task, labels_in(config))
    rows = read_answers(folder, role, JUDGE)
    scored = read_json(folder / "environment.json", rerun(folder)).get("rows", {}).get(JUDGE, len(rows))
    if len(rows) != scored:
        place = f"'{file_of(folder, role, JUDGE)}'"
        raise damaged(place, f"it holds {len(rows)} rows, but {scored} were scored", rerun(folder))
    return task.score([row["gold"] for row in rows], [answer_of(row) for row in rows], 0.95, 100)
