"""From a recipe's ``train`` settings to ``transformers.TrainingArguments``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers

from .errors import Problem, RecipeError
from .hardware import Precision, world_size
from .parts import METHODS, Known
from .recipe.schema import Part, Recipe, TrainSpec
from .recipe.stages import FinetuneStage, SelfTrainStage


def training_arguments(
    train: TrainSpec, folder: Path, recipe: Recipe, precision: Precision, metric: str | None
) -> transformers.TrainingArguments:
    """Translate settings; what is not optional for correct numbers is fixed here.

    Args:
        train: Resolved settings of a stage.
        folder: Where checkpoints go.
        recipe: The recipe, for seed and loggers.
        precision: Number format.
        metric: Score that selects the checkpoint, higher is better; None where the last step's weights are kept, and
            nothing is scored on the way.

    Raises:
        RecipeError: The global batch cannot be divided over processes and accumulation steps.
    """
    share = _share(train)
    if share is None:
        raise RecipeError([Problem(_division(train), "train.batch_size")])
    steps = None if train.evaluate_every == "epoch" else int(train.evaluate_every)
    args = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=float(train.epochs or 1),
        max_steps=-1 if train.max_steps is None else train.max_steps,
        per_device_train_batch_size=share,
        gradient_accumulation_steps=train.accumulation,
        learning_rate=float(train.learning_rate or 0),
        weight_decay=train.weight_decay,
        warmup_steps=train.warmup,
        # The library's "constant" has no warm-up.
        lr_scheduler_type="constant_with_warmup" if train.schedule == "constant" else train.schedule,
        max_grad_norm=train.max_grad_norm,
        bf16=precision.bf16,
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="no" if metric is None else "epoch" if steps is None else "steps",
        eval_steps=steps,
        save_strategy="epoch" if steps is None else "steps",
        save_steps=500 if steps is None else steps,
        # Older checkpoints are deleted by ManifestCallback, when the new one is complete.
        save_total_limit=None,
        load_best_model_at_end=metric is not None,
        metric_for_best_model=None if metric is None else f"eval_{metric}",
        greater_is_better=None if metric is None else True,
        logging_steps=10,
        logging_first_step=True,
        seed=recipe.seed,
        report_to=list(recipe.report_to) if recipe.report_to else "none",
        run_name=recipe.name,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        # Batches hold columns that the model's forward does not know (domain, units, weight).
        remove_unused_columns=False,
        # The default fails as soon as a method runs after DDP's forward; every trained parameter is used in each step.
        ddp_find_unused_parameters=False,
        # Otherwise the patience of early stopping begins anew after a resume.
        restore_callback_states_from_checkpoint=True,
    )
    # Several visible GPUs would silently become nn.DataParallel; a launcher is the supported way to use them.
    if args.n_gpu > 1:
        args._n_gpu = 1
    return args


def optimizer_steps(train: TrainSpec, rows: int) -> int:
    """Return the optimizer steps of a training on ``rows`` labelled rows (windows), as the Trainer counts them."""
    if train.max_steps is not None:
        return train.max_steps
    return math.ceil(float(train.epochs or 1) * math.ceil(rows / int(train.batch_size or 1)))


def check_batches(recipe: Recipe, methods: Known = METHODS) -> None:
    """Make sure that the batches of all stages can be divided, before the first stage trains.

    Args:
        recipe: A resolved recipe.
        methods: The methods that it may name.

    Raises:
        RecipeError: Naming every stage whose batch cannot, or is left with too few rows for a method.
    """
    problems = []
    for number, stage in recipe.trainings.items():
        train = TrainSpec.model_validate(stage.train)
        shared = all(getattr(recipe.train, key) == getattr(train, key) for key in ("batch_size", "accumulation"))
        share, where = _share(train), "train.batch_size" if shared else f"stages.{number}.train.batch_size"
        if share is None:
            problems.append(Problem(_division(train), where))
        elif isinstance(stage, FinetuneStage | SelfTrainStage) and stage.adapt and not recipe.task.labels_words:
            problems += [Problem(text, where) for text in _too_few(train, share, recipe.methods, methods)]
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))


def _too_few(train: TrainSpec, share: int, named: Sequence[Part], methods: Known) -> Iterator[str]:
    """Yield which methods compare rows with each other, where a forward pass holds too few."""
    for part in named:
        fewest = methods[part.name].fewest_units
        if share < fewest:
            yield (
                f"'{part.name}' compares the rows of one forward pass, but a batch of {train.batch_size} in "
                f"{world_size()} process(es) × {train.accumulation} accumulation step(s) leaves {share} of each "
                f"domain: its loss would always be 0. Leave it at least {fewest}, better 8."
            )


def _share(train: TrainSpec) -> int | None:
    """Rows of one forward pass in one process; None where the batch cannot be divided evenly."""
    share, rest = divmod(int(train.batch_size or 0), world_size() * train.accumulation)
    return None if rest or not share else share


def _division(train: TrainSpec) -> str:
    return (
        f"a batch of {train.batch_size} cannot be divided evenly over {world_size()} process(es) × "
        f"{train.accumulation} accumulation step(s). Choose a multiple of {world_size() * train.accumulation}."
    )
