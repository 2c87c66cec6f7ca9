"""How long each strategy would take on this machine: a few real steps, multiplied up.

An estimate, not a promise: other work on the machine, and the last percent of long trainings, are not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers.trainer_utils import set_seed

from .. import models, parts
from ..arguments import optimizer_steps
from ..data.batching import PairCollator
from ..data.blocks import pack
from ..data.load import ORIGIN, Split
from ..data.masking import MaskedBlocks
from ..data.mixture import Mixture
from ..data.pairs import EpochSampler, PairedDomains, Pick
from ..hardware import default_device
from ..last_layer import read_first_token
from ..objectives import MaskedLMObjective, Objective, TaskObjective
from ..recipe.comparing import StrategySpec
from ..recipe.defaults import resolve
from ..recipe.schema import Part, Recipe, TrainSpec
from ..recipe.stages import PretrainStage
from ..stages.model import dropouts, task_model
from ..stages.pretrain import DEFAULT_BLOCK, FRESH_HEAD_STEPS
from ..strategies import SOURCE_ONLY, strategy_recipe
from ..tasks.base import Encoded
from ..workspace import Workspace
from .result import Estimate

MEASURED = (50, 20, 50, 80)
"""Percentiles of the padded size of the batches that are measured; the first one warms up."""
JOINT_MLM = "joint_mlm"
MASK_RATE = 0.15
"""Share of masked words; it hardly changes the time."""


@dataclass(frozen=True)
class Side:
    """A domain, known by a sample of it.

    Args:
        encoded: The sample, cut into windows as a run does.
        times: Rows of the whole ÷ rows of the sample.
        repeats: Rows that an epoch draws ÷ rows of the whole: above 1 where small source domains repeat.
    """

    encoded: Encoded
    times: float
    repeats: float = 1.0

    @property
    def windows(self) -> float:
        """Windows of an epoch."""
        return len(self.encoded.windows) * self.times * self.repeats

    @property
    def tokens(self) -> float:
        """Tokens of the whole split."""
        return sum(self.encoded.lengths) * self.times


@dataclass(frozen=True)
class Speed:
    """What was measured on the task model.

    Args:
        alone: Seconds of one optimizer step on source rows.
        joint: The same with as many target rows beside them; None without target text.
        forward: Seconds of a forward pass over one token, without gradients.
        steps: Optimizer steps of the training.
        epochs: Its epochs.
    """

    alone: float
    joint: float | None
    forward: float
    steps: int
    epochs: float


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
    found: list[tuple[str, float, float, str]] = [
        ("frozen", speed.forward * (source.tokens + home.tokens), False, "forward pass; the head adds seconds"),
        (SOURCE_ONLY, twin, False, f"training step, tuning {tuning}"),
    ]
    if away is not None and speed.joint is not None:
        found += _with_methods(space, source, away, twin, speed, names)
        found += _with_masked_lm(space, away, target, twin, speed, names)
        if "self_train" in names:
            stage, changed = _settings(space, "self_train")
            rounds = getattr(stage, "rounds", 1)
            steps = rounds * optimizer_steps(changed, round(source.windows))
            seconds = twin + rounds * speed.forward * away.tokens + speed.joint * steps
            told = f"training step on source and target rows together, {rounds} rounds"
            # The twin takes the steps of the rounds, too.
            found.append(("self_train", seconds, 1 + steps / speed.steps, told))
    both = [
        Estimate(name, seconds, seconds + twin * twins * recipe.source_only, basis)
        for name, seconds, twins, basis in found
    ]
    return sorted(both, key=lambda estimate: estimate.run_seconds)


def _with_methods(
    space: Workspace, source: Side, away: Side, twin: float, speed: Speed, names: Collection[str]
) -> list[tuple[str, float, float, str]]:
    """Estimate fine-tuning with each method but those that read masked text."""
    assert speed.joint is not None
    beside = (speed.joint - speed.alone) * speed.steps
    found: list[tuple[str, float, float, str]] = []
    for name, method in space.methods.items():
        if name not in names or name == JOINT_MLM:
            continue
        seconds, told = twin + beside, "training step on source and target rows together"
        if method.needs_teacher:
            # The twin answers for all rows once, before the training.
            seconds += speed.forward * (source.tokens + away.tokens)
            told += ", and the twin's answers for them"
        elif not method.needs_target:
            seconds, told = twin, f"training step, tuning {space.recipe.tuning.name}"
        found.append((name, seconds, True, told))
    return found


def _side(space: Workspace, sample: Split, total: int, labelled: bool) -> Side:
    encoded = space.task.encode(sample.rows, space.tokenizer, space.limits, labelled=labelled)
    return Side(encoded, total / len(sample))


def _repeats(train: Split, shares: Mapping[int, float] | None) -> float:
    several = ORIGIN in train.rows.column_names
    return len(Mixture(train.rows[ORIGIN][:], shares)) / len(train) if several else 1.0


def variant(recipe: Recipe, strategy: str, methods: parts.Known) -> Recipe:
    """Return the resolved recipe of a strategy as ``compare`` runs it; where features are frozen, with full tuning.

    Args:
        recipe: The recipe as written.
        strategy: A method, a stage or ``source_only``.
        methods: The methods that may be named.

    Raises:
        RecipeError: The strategy does not go with the task or the data.
    """
    moves = parts.TUNINGS[recipe.tuning.name].moves_features
    named = StrategySpec(name=strategy if moves else f"full+{strategy}")
    return resolve(strategy_recipe(recipe, named, recipe.seed, str(recipe.output), methods))


def _settings(space: Workspace, strategy: str, index: int = -1) -> tuple[Any, TrainSpec]:
    """Return a stage of a strategy and its training settings."""
    stage = list(variant(space.recipe, strategy, space.methods).trainings.values())[index]
    return stage, TrainSpec.model_validate(stage.train)


def _task_speed(space: Workspace, source: Side, away: Side | None) -> Speed:
    _, train = _settings(space, SOURCE_ONLY)
    set_seed(space.recipe.seed)
    model = task_model(space, train, None, "diagnose").to(default_device())
    read_first_token(model)
    space.task.mean_pooling = models.pools_by_mean(model.config)
    objective = TaskObjective(space.task)
    share = max(1, int(train.batch_size or 1) // train.accumulation)

    def order(target: Encoded | None) -> list[list[Pick]]:
        lengths = None if target is None else target.lengths
        picks = list(EpochSampler(source.encoded.lengths, share, space.recipe.seed, lengths, train.group_by_length))
        return [picks[at : at + share] for at in range(0, len(picks), share)]

    def step_seconds(target: Encoded | None) -> float:
        data = PairedDomains(source.encoded.features, None if target is None else target.features)
        rate, mean = _rate(space, model, objective, data, order(target))
        return rate * mean * train.accumulation

    alone = step_seconds(None)
    joint = None if away is None else step_seconds(away.encoded)
    forward = _forward_rate(space, model, PairedDomains(source.encoded.features), order(None))
    return Speed(alone, joint, forward, optimizer_steps(train, round(source.windows)), float(train.epochs or 1))


def _rate(
    space: Workspace, model: Any, objective: Objective, data: Any, batches: list[list[Pick]]
) -> tuple[float, float]:
    """Time optimizer steps on batches of typical sizes.

    Returns:
        Seconds per padded token, and the mean number of padded tokens in a batch.
    """
    collate = PairCollator(space.tokenizer.pad_token_id)
    sizes = [_padded([data[pick] for pick in batch]) for batch in batches]
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # A rate of 0: the weights stay as they are for what is measured next.
    optimizer = torch.optim.AdamW(moving, lr=0.0)
    device = next(model.parameters()).device
    model.train()

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=space.precision.bf16):
            loss_sum, _ = objective.loss_sum(model, batch, 0.0)
        (loss_sum / objective.count(batch).clamp(min=1e-9)).backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    chosen = [_at_percentile(sizes, percentile) for percentile in MEASURED]
    made = [collate([data[pick] for pick in batches[index]]) for index in chosen]
    seconds = [_timed(step, {key: value.to(device) for key, value in batch.items()}) for batch in made]
    tokens = [sizes[index] for index in chosen]
    return sum(seconds[1:]) / sum(tokens[1:]), float(np.mean(sizes))


def _forward_rate(space: Workspace, model: Any, data: Any, batches: list[list[Pick]]) -> float:
    """Return seconds per padded token of a forward pass without gradients."""
    collate = PairCollator(space.tokenizer.pad_token_id)
    items = [data[pick] for pick in batches[_at_percentile([len(batch) for batch in batches], 50)]]
    device = next(model.parameters()).device
    batch = {key: value.to(device) for key, value in collate(items).items()}
    model.eval()

    @torch.inference_mode()
    def forward(given: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=space.precision.bf16):
            model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])

    seconds = [_timed(forward, batch) for _ in range(3)]
    return min(seconds[1:]) / _padded(items)


def _timed(work: Callable[[dict[str, torch.Tensor]], None], batch: dict[str, torch.Tensor]) -> float:
    begun = time.perf_counter()
    work(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _padded(items: Sequence[dict[str, Any]]) -> int:
    rows = [row for item in items for row in item.values()]
    return len(rows) * max(len(row["input_ids"]) for row in rows)


def _at_percentile(sizes: Sequence[int], percentile: int) -> int:
    order = np.argsort(sizes, kind="stable")
    return int(order[round(percentile / 100 * (len(order) - 1))])


def _with_masked_lm(
    space: Workspace, away: Side, target: Split | None, twin: float, speed: Speed, names: Collection[str]
) -> list[tuple[str, float, bool, str]]:
    """Estimate what masked language modelling adds: as a stage before, or as a loss beside the task's."""
    if target is None or "pretrain" not in names or space.tokenizer.mask_token_id is None:
        return []
    stage, train = _settings(space, "pretrain", 0)
    assert isinstance(stage, PretrainStage)
    config = models.read_config(space.base, **dropouts(train, models.read_config(space.base)))
    loaded = models.load_model("AutoModelForMaskedLM", space.base, config)
    fresh = loaded.fresh_head
    model = parts.build_tuning(space.recipe.tuning).apply(loaded, None).to(default_device())
    block = min(DEFAULT_BLOCK, space.limits.max_length) if stage.block_length is None else stage.block_length
    blocks = list(pack(space.tokenizer, list(target.rows["text"]), block))
    data = MaskedBlocks(blocks, MASK_RATE, space.tokenizer.mask_token_id, len(space.tokenizer), space.recipe.seed)
    share = max(1, int(train.batch_size or 1) // train.accumulation)
    batches = [
        [Pick(at, -1, 0) for at in range(begin, min(begin + share, len(blocks)))]
        for begin in range(0, len(blocks), share)
    ]
    with MaskedLMObjective(model) as objective:
        rate, _ = _rate(space, model, objective, data, batches)
    full = rate * share * block * train.accumulation
    head = (FRESH_HEAD_STEPS if fresh else 0) if stage.head_steps is None else stage.head_steps
    steps = optimizer_steps(train, round(len(blocks) * away.times))
    # Fitting the head leaves out the encoder's backward pass, about two thirds of a step.
    before = full * (steps + head / 3)
    found = [
        (
            "pretrain",
            before + twin,
            True,
            f"masked-LM step, {steps} of them" + (f" and {head} for the head" * bool(head)),
        )
    ]
    if JOINT_MLM in names:
        _, finetune = _settings(space, SOURCE_ONLY)
        beside = rate * int(finetune.batch_size or 1) * float(np.mean(away.encoded.lengths)) * speed.steps
        beside += full * (FRESH_HEAD_STEPS if fresh else 0) / 3
        found.append((JOINT_MLM, twin + beside, True, "training step and a masked-LM step beside it"))
    return found
