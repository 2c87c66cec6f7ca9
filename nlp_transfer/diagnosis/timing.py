"""How long each strategy would take on this machine: a few real steps, multiplied up.

An estimate, not a promise: other work on the machine, and the last percent of long trainings, are not in it; nor are
cutting text into blocks and choosing rows of a corpus.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from transformers.trainer_utils import set_seed

from .. import parts
from ..arguments import optimizer_steps
from ..data.load import ORIGIN, Split
from ..data.mixture import Mixture
from ..data.pairs import EpochSampler, PairedDomains, Pick
from ..hardware import default_device
from ..last_layer import read_first_token
from ..objectives import TaskObjective
from ..recipe.comparing import SOUP, SOURCE_ONLY
from ..recipe.schema import Part
from ..stages.model import task_model
from ..tasks.base import Encoded
from ..workspace import Workspace
from .advice import SOUP_OF
from .measured import Cost, Side, Speed, forward_rate, step_rate
from .reading import JOINT_MLM, pretraining_times
from .result import Estimate
from .variant import settings_of

SELF_TRAIN = "self_train"


def estimate_times(
    space: Workspace, train: Split, dev: Split, target: Split | None, names: Collection[str]
) -> list[Estimate]:
    """Estimate how long the strategies would take with the recipe's settings.

    Args:
        space: The workspace; its splits give the true sizes.
        train: Sample of the source training rows.
        dev: Sample of source dev.
        target: Sample of the target text, or None.
        names: Names of the methods and stages that the recipe could have.

    Returns:
        Estimates, shortest first.
    """
    recipe = space.recipe
    if not parts.TUNINGS[recipe.tuning.name].moves_features:
        space = replace(space, recipe=recipe.model_copy(update={"tuning": Part(name="full")}))
    tuning = space.recipe.tuning.name
    whole = space.splits.train
    source = replace(_side(space, train, len(whole), labelled=True), repeats=_repeats(whole, recipe.data.source_shares))
    home = _side(space, dev, len(space.splits.dev), labelled=False)
    away = None
    if target is not None and space.splits.unlabelled is not None:
        away = _side(space, target, len(space.splits.unlabelled), labelled=False)
    speed = _task_speed(space, source, away)
    twin = speed.alone * speed.steps + speed.epochs * speed.forward * home.tokens
    found = [
        Cost("frozen", speed.forward * (source.tokens + home.tokens), "forward pass; the head adds seconds", twins=0),
        Cost(SOURCE_ONLY, twin, f"training step, tuning {tuning}", twins=0),
    ]
    if away is not None and target is not None and speed.joint is not None:
        found += _with_methods(space, source, away, twin, speed, names)
        found += _with_soup(found, names)
        found += pretraining_times(space, {"source": train, "target": target}, away, twin, speed, names)
        found += _with_rounds(space, source, away, twin, speed, names)
    both = [
        Estimate(one.strategy, one.seconds, one.seconds + twin * one.twins * recipe.source_only, one.basis)
        for one in found
    ]
    return sorted(both, key=lambda estimate: estimate.run_seconds)


def _with_methods(
    space: Workspace, source: Side, away: Side, twin: float, speed: Speed, names: Collection[str]
) -> list[Cost]:
    """Estimate fine-tuning with each method but those that read masked text."""
    assert speed.joint is not None
    beside = (speed.joint - speed.alone) * speed.steps
    found = []
    for name, method in space.methods.items():
        if name not in names or name == JOINT_MLM:
            continue
        seconds, told = twin + beside, "training step on source and target rows together"
        if method.needs_teacher:
            # The twin is trained, and answers for all rows once, before the training.
            seconds += twin + speed.forward * (source.tokens + away.tokens)
            told += ", and the twin's answers for them"
        elif not method.needs_target:
            seconds, told = twin, f"training step, tuning {space.recipe.tuning.name}"
        found.append(Cost(name, seconds, told, twins=0 if method.needs_teacher else 1))
    return found


def _with_soup(found: Sequence[Cost], names: Collection[str]) -> list[Cost]:
    """Return what a soup takes: its members are trained, itself is not, and source-only is its twin."""
    seconds = sum(one.seconds for one in found if one.strategy in (SOURCE_ONLY, *SOUP_OF))
    told = f"{', '.join((SOURCE_ONLY, *SOUP_OF))} together, whose weights it averages"
    return [Cost(SOUP, seconds, told, twins=0)] if SOUP in names else []


def _with_rounds(
    space: Workspace, source: Side, away: Side, twin: float, speed: Speed, names: Collection[str]
) -> list[Cost]:
    """Estimate self-training, whose twin takes the steps of the rounds, too."""
    assert speed.joint is not None
    if SELF_TRAIN not in names:
        return []
    stage, train = settings_of(space, SELF_TRAIN)
    rounds = getattr(stage, "rounds", 1)
    steps = rounds * optimizer_steps(train, round(source.windows))
    seconds = twin + rounds * speed.forward * away.tokens + speed.joint * steps
    told = f"training step on source and target rows together, {rounds} rounds"
    return [Cost(SELF_TRAIN, seconds, told, twins=1 + steps / speed.steps)]


def _side(space: Workspace, sample: Split, total: int, labelled: bool) -> Side:
    encoded = space.task.encode(sample.rows, space.tokenizer, space.limits, labelled=labelled)
    return Side(encoded, total / len(sample))


def _repeats(train: Split, shares: Mapping[int, float] | None) -> float:
    several = ORIGIN in train.rows.column_names
    return len(Mixture(train.rows[ORIGIN][:], shares)) / len(train) if several else 1.0


def _task_speed(space: Workspace, source: Side, away: Side | None) -> Speed:
    _, train = settings_of(space, SOURCE_ONLY)
    set_seed(space.recipe.seed)
    model = task_model(space, train, None, "diagnose").to(default_device())
    read_first_token(model)
    objective = TaskObjective(space.task)
    share = max(1, int(train.batch_size or 1) // train.accumulation)

    def order(target: Encoded | None) -> list[list[Pick]]:
        lengths = None if target is None else target.lengths
        picks = list(EpochSampler(source.encoded.lengths, share, space.recipe.seed, lengths, train.group_by_length))
        return [picks[at : at + share] for at in range(0, len(picks), share)]

    def step_seconds(target: Encoded | None) -> float:
        data = PairedDomains(source.encoded.features, None if target is None else target.features)
        rate, mean = step_rate(space, model, objective, data, order(target))
        return rate * mean * train.accumulation

    alone = step_seconds(None)
    joint = None if away is None else step_seconds(away.encoded)
    forward = forward_rate(space, model, PairedDomains(source.encoded.features), order(None))
    return Speed(alone, joint, forward, optimizer_steps(train, round(source.windows)), float(train.epochs or 1))
