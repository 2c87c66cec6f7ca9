"""One training job: build the trainer, resume from what is there, train, and say what came of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import transformers
from transformers.trainer_callback import TrainerState

from . import models
from .arguments import training_arguments
from .averaging import WeightAverage
from .callbacks import Bar, LogFile, Meter
from .checkpoints import ManifestCallback, any_complete, damage, newest_complete
from .data.pairs import EpochSampler, RowOrder
from .errors import RunError
from .forward import window_logits
from .hardware import choose_precision, is_main_process
from .objectives import Objective
from .preparation import prepared, preparing
from .processes import agree, wait_for_all
from .recipe.schema import TrainSpec
from .records import LOG
from .selecting import Selector
from .tasks.base import Encoded
from .trainer import TransferTrainer
from .workspace import Workspace

HEAD_RATE = 1e-3


@dataclass(frozen=True)
class Job:
    """What is trained on what.

    Args:
        space: The run's workspace.
        train: Training settings, resolved.
        folder: Where checkpoints go.
        title: Name on the progress bar and in the log.
        objective: What is minimised.
        data: Dataset indexed by ``Pick``.
        order: What the order of its rows goes by.
        dev: Encoded source dev that selects the checkpoint; None where the weights of the last step are kept.
        selector: Scores checkpoints in place of source dev, which is scored and logged all the same.
    """

    space: Workspace
    train: TrainSpec
    folder: Path
    title: str
    objective: Objective
    data: Any
    order: RowOrder
    dev: Encoded | None = None
    selector: Selector | None = None

    @property
    def metric(self) -> str | None:
        """Name of the score that selects the checkpoint."""
        if self.dev is None:
            return None
        return self.space.task.headline if self.selector is None else self.selector.metric


def train(job: Job, model: Any) -> dict[str, Any]:
    """Train a model in place, resuming from the newest complete checkpoint in the job's folder.

    Args:
        job: The job.
        model: The model, after tuning. It ends with the weights of the selected checkpoint.

    Returns:
        Steps, seconds (with what was prepared for it, see :mod:`.preparation`) and peak memory over all starts, steps
        in which a head was fitted first, last loss, the best score (of source dev, unless the job has a selector),
        selected step, number of processes.
    """
    trainer, bar = _trainer(job, model)
    checkpoint, said = newest_complete(job.folder) if is_main_process() else (None, [])
    checkpoint = agree(checkpoint)
    for line in said:
        job.space.reporter.warn(line)
    try:
        with models.quiet():
            if checkpoint is not None and _trained_to_the_end(checkpoint):
                # The Trainer would do one step more than asked for.
                _restore(trainer, checkpoint)
            else:
                if checkpoint is not None:
                    job.space.reporter.say(f"{job.title}: resuming from {checkpoint}.")
                lost = None if checkpoint is None else _lost(job, checkpoint)
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
                if lost is not None and trainer.state.best_global_step == lost.step:
                    # The Trainer has kept its score, which no later one has beaten, and the weights of the last step.
                    raise lost.error
    finally:
        bar.close()
    state = trainer.state
    losses = [line["loss"] for line in state.log_history if "loss" in line]
    trainer.accelerator.free_memory()
    before = prepared(job.folder)
    best = {} if job.dev is None else {"best_dev" if job.selector is None else f"best_{job.metric}": state.best_metric}
    return {
        "steps": state.global_step,
        "seconds": round(before.seconds + _meter(trainer).seconds, 2),
        "peak_mib": max(before.peak_mib, _meter(trainer).peak) or None,
        "last_loss": losses[-1] if losses else None,
        **best,
        "selected_step": state.best_global_step or state.global_step,
        "processes": trainer.args.world_size,
        **({"head_steps": before.steps} if before.steps else {}),
    }


def fit_head(job: Job, model: Any, steps: int) -> None:
    """Train only what is outside the encoder. It leaves nothing behind, and resumes like any training.

    Args:
        job: The job that comes after it; a job that has checkpoints has done this already.
        model: A masked-LM model, after tuning.
        steps: Optimizer steps.
    """
    if any_complete(job.folder):
        return
    moving = [parameter for parameter in models.encoder_of(model).parameters() if parameter.requires_grad]
    for parameter in moving:
        parameter.requires_grad = False
    rates = {"max_steps": steps, "learning_rate": HEAD_RATE, "head_learning_rate": HEAD_RATE, "average": None}
    folder = job.folder / "head"
    head = replace(job, train=job.train.model_copy(update=rates), folder=folder, title=f"{job.title} head")
    with preparing(job.folder, "head", steps) as work:
        work.seconds = train(head, model)["seconds"]
    for parameter in moving:
        parameter.requires_grad = True
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)


def moving_outside_encoder(model: Any) -> list[Any]:
    """Return the trained parameters that are not the encoder's: those of the head."""
    inside = {id(parameter) for parameter in models.encoder_of(model).parameters()}
    return [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in inside]


def dev_logits(space: Workspace, model: Any, encoded: Encoded) -> list[Any]:
    """Return the combined logits of each encoded row."""
    tokens = space.recipe.evaluate.batch_tokens
    values = window_logits(
        model, encoded.windows, space.tokenizer.pad_token_id, tokens, autocast=space.precision.bf16, shared=True
    )
    return space.task.combine(encoded, values)


def _trainer(job: Job, model: Any) -> tuple[TransferTrainer, Bar]:
    space, settings = job.space, job.train
    precision = choose_precision(settings.precision)
    args = training_arguments(settings, job.folder, space.recipe, precision, job.metric)
    order = job.order
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    bar = Bar(job.title, space.reporter)
    callbacks: list[Any] = [ManifestCallback(settings.keep_checkpoints), bar, Meter()]
    if is_main_process():
        callbacks.append(LogFile(job.title, space.log, job.folder / LOG))
    if settings.early_stopping and job.dev is not None:
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stopping))
    head = settings.learning_rate if settings.head_learning_rate is None else settings.head_learning_rate
    trainer = TransferTrainer(
        model,
        args,
        job.objective,
        job.data,
        EpochSampler(
            order.lengths,
            batch,
            space.recipe.seed,
            order.target_lengths,
            settings.group_by_length,
            order.mixture,
            order.text_lengths,
        ),
        pad_id=space.tokenizer.pad_token_id,
        tokenizer=space.tokenizer,
        score_dev=None if job.dev is None else lambda current: _dev_scores(job, current),
        rates={"head": args.learning_rate if head is None else head, "layer_decay": settings.layer_decay},
        average=None if settings.average is None else WeightAverage(settings.average),
        callbacks=callbacks,
    )
    return trainer, bar


def _meter(trainer: TransferTrainer) -> Meter:
    # The Trainer puts another one in its place when it resumes.
    return next(one for one in trainer.callback_handler.callbacks if isinstance(one, Meter))


def _dev_scores(job: Job, model: Any) -> dict[str, float]:
    space = job.space
    assert job.dev is not None
    logits = dev_logits(space, model, job.dev)
    space.task.tune(space.splits.dev.rows, logits)
    score = space.task.score(space.task.gold(space.splits.dev.rows), space.task.answer(logits), 0.95, 100)
    scores = {key: value for key, value in score.metrics.items() if isinstance(value, float)}
    return scores if job.selector is None else scores | {job.selector.metric: job.selector.score(model)}


def _trained_to_the_end(checkpoint: Path) -> bool:
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    control = state.stateful_callbacks.get("TrainerControl", {})
    stopped = isinstance(control, dict) and control.get("args", {}).get("should_training_stop", False)
    return state.global_step >= state.max_steps or bool(stopped)


@dataclass(frozen=True)
class _Lost:
    """A checkpoint that was selected and cannot be had any more.

    Args:
        place: Its folder.
        step: Its step.
        fault: What is wrong with it.
    """

    place: Path
    step: int
    fault: str

    @property
    def error(self) -> RunError:
        """Why the run cannot come to its end."""
        return RunError(
            f"'{self.place}' is lost, the checkpoint that was selected: {self.fault}. Run the recipe again with "
            "--fresh."
        )


def _selected(checkpoint: Path) -> Path | _Lost:
    """Return the checkpoint that was selected when another one was written; it may be that one."""
    step = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).best_global_step
    if step is None:
        return checkpoint
    # By its step: the folder may have been moved since the state noted where its best checkpoint was.
    best = checkpoint.with_name(f"checkpoint-{step}")
    fault = damage(best) if best.is_dir() else "it is not there"
    return best if fault is None else _Lost(best, step, fault)


def _lost(job: Job, checkpoint: Path) -> _Lost | None:
    """Say whether what was selected before training goes on is lost; a damaged one is set aside."""
    found = _selected(checkpoint)
    if isinstance(found, Path):
        return None
    told = f"'{found.place}', selected so far, is lost: {found.fault}. A better one must come."
    job.space.reporter.warn(f"{job.title}: {told}")
    if is_main_process() and found.place.is_dir():
        found.place.rename(found.place.with_name(f"damaged-{found.place.name}"))
    wait_for_all()
    return found


def _restore(trainer: TransferTrainer, checkpoint: Path) -> None:
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    kept: Any = trainer.state.stateful_callbacks
    # A checkpoint of an earlier version has measured otherwise.
    measured = kept.get(Meter.__name__, {}).get("attributes", {})
    meter = _meter(trainer)
    meter.before, meter.peak_before = measured.get("before", 0.0), measured.get("peak_before", 0)
    found = _selected(checkpoint)
    if isinstance(found, _Lost):
        raise found.error
    trainer._load_from_checkpoint(str(found))
    trainer.take_average()
