"""Training without a run folder, for tests of the trainer itself, and checks of whole runs; processes use it, too."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from helpers import TASKS, read_lines, rows_of

from nlp_transfer import finding, models, parts
from nlp_transfer.arguments import training_arguments
from nlp_transfer.checkpoints import ManifestCallback
from nlp_transfer.data.load import load_split
from nlp_transfer.data.pairs import EpochSampler, PairedDomains
from nlp_transfer.data.split import distinct_labels
from nlp_transfer.data.windows import Limits
from nlp_transfer.hardware import Precision
from nlp_transfer.objectives import TaskObjective
from nlp_transfer.recipe.schema import Recipe, TaskSpec, TrainSpec
from nlp_transfer.tasks.base import Encoded, Task
from nlp_transfer.trainer import TransferTrainer
from nlp_transfer.units import Sizes

SETTINGS = {"top_layers": {"n": 1}, "joint_mlm": {"head_steps": 2}}
"""Settings that a tiny encoder of two layers needs, and a quick test."""


def part(name: str) -> dict[str, Any]:
    """A tuning or method as recipes write it, with the settings that it needs here."""
    return {"name": name, **SETTINGS.get(name, {})}


class Watcher(transformers.TrainerCallback):
    """Remembers the gradients of every optimizer step and everything that is logged."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.logs: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        self.gradients.append(found)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append({"step": state.global_step, **logs})


class StopAfter(transformers.TrainerCallback):
    """Ends a training after some steps, as if it had been interrupted."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


@dataclass
class Bench:
    """Everything that a small training needs; ``start`` builds the trainer."""

    kind: str
    model: Any
    task: Task
    source: Encoded
    target: Encoded | None
    tokenizer: Any
    methods: dict[str, Any] = field(default_factory=dict)

    def start(self, folder: Path, methods: bool = True, **train: Any) -> tuple[TransferTrainer, Watcher]:
        """Build a trainer with SGD (which, unlike Adam, does not hide the scale of a gradient), no dropout."""
        settings = {"max_steps": 3, "batch_size": 8, "learning_rate": 0.1, "warmup": 0.0, "schedule": "constant"}
        spec = TrainSpec(**(settings | {"weight_decay": 0.0, "max_grad_norm": 0.0, "evaluate_every": 1000} | train))
        args = training_arguments(spec, folder, recipe_stub(), Precision(False, ""), None)
        args.optim = transformers.training_args.OptimizerNames.SGD
        args.logging_steps = 1
        target = self.target if methods and self.methods else None
        watcher = Watcher()
        trainer = TransferTrainer(
            self.model,
            args,
            TaskObjective(self.task, self.methods if methods else {}),
            PairedDomains(self.source.features, None if target is None else target.features),
            self.sampler(int(spec.batch_size or 0), target),
            pad_id=self.tokenizer.pad_token_id,
            tokenizer=self.tokenizer,
            callbacks=[ManifestCallback(spec.keep_checkpoints), watcher],
        )
        return trainer, watcher

    def sampler(self, batch_size: int, target: Encoded | None = None) -> EpochSampler:
        """The order of rows that the trainer uses."""
        return EpochSampler(self.source.lengths, batch_size, 3, None if target is None else target.lengths)


def recipe_stub() -> Recipe:
    """The part of a recipe that training arguments look at."""
    data = {"source": {"train": "memory"}}
    return Recipe.model_validate({"name": "small", "seed": 3, "model": "x", "task": "ner", "data": data})


def build(
    folder: Path,
    kind: str,
    count: int = 24,
    tuning: str = "full",
    dann: bool = False,
    max_length: int = 32,
    with_methods: dict[str, dict[str, Any]] | None = None,
    **task: Any,
) -> Bench:
    """Build a model without dropout, its task and its rows; methods by their settings, ``dann`` as a shorthand."""
    given = TASKS[kind] if isinstance(TASKS[kind], dict) else {"name": TASKS[kind]}
    spec = TaskSpec.model_validate(given | task)
    rows_kind = parts.row_kind(spec)
    split = load_split(rows_of(kind, count), name="source.train", kind=rows_kind)
    made = parts.build_task(spec, parts.label_names(spec, distinct_labels(split, rows_kind)))
    made.fit(split.rows)
    base = finding.resolve(str(folder))
    tokenizer = models.load_tokenizer(base)
    torch.manual_seed(5)
    dropless = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = models.read_config(base, num_labels=len(made.labels), problem_type=made.problem_type, **dropless)
    loaded = models.load_model(made.auto_class, base, config)
    model = parts.TUNINGS[tuning]().apply(loaded, made.peft_type)
    limits = Limits(max_length, 4)
    source = made.encode(split.rows, tokenizer, limits, labelled=True)
    target = None
    methods: dict[str, Any] = {}
    wanted = {"dann": {"dropout": 0.0, "hidden": 8}} if dann else (with_methods or {})
    if wanted:
        text_kind = "words" if kind == "ner" else "text"
        other = load_split(rows_of(kind, count - 5, 7), name="target.unlabelled", kind=text_kind)
        target = made.encode(other.rows, tokenizer, limits, labelled=False)
        sizes = Sizes(hidden=model.config.hidden_size, labels=len(made.labels))
        methods = {name: parts.METHODS[name](sizes, **settings) for name, settings in wanted.items()}  # type: ignore[call-arg]
    return Bench(kind, model, made, source, target, tokenizer, methods)


def losses_are_finite_and_named(folder: Path, methods: tuple[str, ...]) -> None:
    """Check the losses that a run's fine-tuning logged: that of the task and those of each method, all finite."""
    logged = [line for line in read_lines(folder / "log.jsonl") if "loss" in line and line["stage"] == "finetune"]
    assert logged
    for line in logged:
        named = {key: value for key, value in line.items() if key.startswith("loss_")}
        assert "loss_task" in named
        assert all(any(key.startswith(f"loss_{name}_") for key in named) for name in methods)
        assert len(named) >= 1 + len(methods)
        assert all(math.isfinite(value) for value in [line["loss"], line["grad_norm"], *named.values()])


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of two mappings of tensors, relative to the largest value."""
    assert one.keys() == other.keys()
    scale = max(float(value.abs().max()) for value in other.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale
