"""What in the data's labels keeps a run from starting."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.load import Split, joined
from ..data.split import distinct_labels, label_problems, one_class_problem
from ..errors import Problem, nearest
from ..recipe.schema import Recipe


def problems_of_labels(
    recipe: Recipe, sources: Sequence[Split], learned: Sequence[Split], scored: Sequence[Split], found: list[str]
) -> list[Problem]:
    """Return what is wrong with the labels of all splits.

    Args:
        recipe: The recipe.
        sources: Training rows of each source domain.
        learned: All labelled rows that are trained on: those, and perhaps rows of the target.
        scored: Labelled rows that are scored: they may have no label that training does not know.
        found: Labels of the rows that are trained on.
    """
    named = recipe.task.labels
    problems = [] if named is None else _misnamed(named, found, learned)
    for split in scored:
        problems += label_problems(found if named is None else named, split)
    problems += _class_weight_problems(recipe, found)
    # What a stage learns alone must have several labels: target rows where a stage trains on them only.
    alone = any(stage.on == "target" for stage in recipe.finetunes)
    lone = [joined(sources, "source.train"), *(learned[len(sources) :] if alone else [])]
    return problems + [problem for split in lone if (problem := one_class_problem(split)) is not None]


def _misnamed(named: list[str], found: list[str], trained: Sequence[Split]) -> list[Problem]:
    """Say where ``task.labels`` and the labels of training rows differ."""
    missing = sorted(set(named) - set(found))
    problems = [
        Problem(f"label '{label}' is not one of task.labels {named}.{nearest(label, named)}", train.origin)
        for train in trained
        for label in sorted(set(distinct_labels(train)) - set(named))
    ]
    if missing:
        text = f"no training row has the label(s) {missing} that task.labels names."
        problems.append(Problem(text, ", ".join(train.origin for train in trained)))
    return problems


def _class_weight_problems(recipe: Recipe, found: list[str]) -> list[Problem]:
    given = recipe.task.class_weights
    return [
        Problem(
            f"there is no label '{label}'. Labels: {', '.join(found)}.{nearest(label, found)}", "task.class_weights"
        )
        for label in (given if isinstance(given, dict) else {})
        if label not in found
    ]
