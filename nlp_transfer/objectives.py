"""What one optimizer step minimises: a loss summed over labelled units, and how many of them there are."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Any

import torch

from .data.batching import some_rows
from .data.pairs import EpochSampler
from .methods.base import Method
from .methods.mean_teacher import MeanTeacher
from .models import encoder_of, has_tied_decoder, quiet
from .tasks.base import Task
from .tasks.masked_lm import MaskedPositions, freeze_unread
from .units import UNKNOWN, Masked, Step

Batch = dict[str, torch.Tensor]
COUNTED_ROWS = 4096
"""Rows that are counted to know how many units a batch has on average: enough for an error well below 1 %."""


class Objective(ABC):
    """Base class; the trainer knows objectives only through it.

    Attributes:
        methods: Adaptation methods by name, whose terms join the loss.
    """

    methods: Mapping[str, Method]

    @property
    def modules(self) -> Mapping[str, torch.nn.Module]:
        """Modules with weights of their own that are trained and checkpointed beside the model."""
        return self.methods

    @abstractmethod
    def count(self, batch: Batch) -> torch.Tensor:
        """Return the (weighted) number of labelled units of a batch, a scalar."""

    @abstractmethod
    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, Step | None]:
        """Run the model on a batch.

        Args:
            model: The (possibly wrapped) model.
            batch: From the collator.
            progress: Share of the optimizer steps that are done.

        Returns:
            The loss summed over labelled units, and the step that methods see (None without methods).
        """


def mean_units(objective: Objective, data: Any, sampler: EpochSampler, collate: Callable[[list[Any]], Batch]) -> float:
    """Return the mean number of labelled units of a global batch, over the first rows of the first epoch.

    It is the same number in every process, after every resume, and however a batch is cut into forward passes.

    Args:
        objective: Counts the units of a batch.
        data: Items by ``Pick``.
        sampler: The order of the rows; its epoch is left as it is.
        collate: Turns items into a batch.
    """
    first = copy.copy(sampler)
    first.set_epoch(0)
    size = sampler.batch_size
    picks = list(islice(first, max(size, COUNTED_ROWS - COUNTED_ROWS % size)))
    batches = (collate([data[pick] for pick in picks[at : at + size]]) for at in range(0, len(picks), size))
    total = sum(float(objective.count(batch)) for batch in batches)
    return max(total * size / len(picks), 1e-9)


class TaskObjective(Objective):
    """A task's loss on source units, with methods that see source and target units.

    Args:
        task: The task.
        methods: Methods by name.

    Attributes:
        average: The method among them that keeps an averaged teacher, or None.
    """

    def __init__(self, task: Task, methods: Mapping[str, Method] | None = None):
        self.task = task
        self.methods = {} if methods is None else dict(methods)
        self.average = next((method for method in self.methods.values() if isinstance(method, MeanTeacher)), None)

    def count(self, batch: Batch) -> torch.Tensor:
        """Return the (weighted) number of labelled units."""
        return self.task.count(batch)

    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, Step | None]:
        """One forward pass on the joint batch of source, target and masked copies.

        An averaged teacher answers for the target rows in a pass of its own.
        """
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
        hidden_NTH, logits, masked = output.hidden_states[-1], output.logits, None
        if "masked_units" in batch:
            rows = len(batch["domain"])
            masked = _masked(hidden_NTH[rows:], batch)
            hidden_NTH, logits = hidden_NTH[:rows], logits[:rows]
            batch = batch | {key: batch[key][:rows] for key in ("input_ids", "attention_mask")}
        units = self.task.units(hidden_NTH, logits, batch)
        step = Step(**units, progress=progress, model=model, teacher_UC=batch.get("teacher"), masked=masked)
        if self.average is not None:
            step = replace(step, average_UC=self._average(self.average, model, batch, progress))
        return self.task.loss_sum(step), step

    def _average(self, average: MeanTeacher, model: Any, batch: Batch, progress: float) -> torch.Tensor:
        """Return the averaged teacher's logits of the target units."""
        target = some_rows(batch, batch["domain"] == 1)
        with average.instead_of(model, progress) as teacher:
            given = {key: target[key] for key in ("input_ids", "attention_mask")}
            output = teacher(**given, output_hidden_states=True)
        logits_UC: torch.Tensor = self.task.units(output.hidden_states[-1], output.logits, target)["logits_UC"]
        return logits_UC


def _masked(hidden_KTH: torch.Tensor, batch: Batch) -> Masked:
    units_KT = batch["masked_units"]
    # As many rows have labels as have masked copies, but for windows in which no word is labelled.
    labels = batch["labels"]
    labelled = int((labels.reshape(len(labels), -1) != UNKNOWN).any(-1).sum())
    return Masked(hidden_KTH[units_KT], batch["masked_labels"][units_KT], len(units_KT) / max(1, labelled))


def _freeze_unread_of(model: Any) -> None:
    """Freeze what the logits of a model do not depend on; found with a copy, as some models remember what they read."""
    with torch.random.fork_rng(devices=[]), quiet():
        double = copy.deepcopy(model).eval()
        ids_1T = torch.arange(5, device=next(model.parameters()).device).unsqueeze(0)
        freeze_unread(double.parameters(), double(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).logits)
    for parameter, other in zip(model.parameters(), double.parameters(), strict=True):
        parameter.requires_grad = other.requires_grad


class MaskedLMObjective(Objective):
    """Masked language modelling with the head at masked positions only; a context manager that hooks the encoder.

    Args:
        model: The masked-LM model, plain or under PEFT.
    """

    def __init__(self, model: Any):
        self.methods = {}
        self.positions = MaskedPositions()
        self.encoder = encoder_of(model)
        if not has_tied_decoder(model):
            _freeze_unread_of(model)

    def __enter__(self) -> MaskedLMObjective:
        self.handle = self.encoder.register_forward_hook(self.positions)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.handle.remove()

    def count(self, batch: Batch) -> torch.Tensor:
        """Return the number of masked tokens."""
        return (batch["labels"] != UNKNOWN).sum().float()

    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, Step | None]:
        """Cross-entropy summed over the masked tokens."""
        units_NT = batch["units"]
        self.positions.units_NT = units_NT
        logits_MV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0]
        self.positions.units_NT = None
        return torch.nn.functional.cross_entropy(logits_MV.float(), batch["labels"][units_NT], reduction="sum"), None
