"""What one optimizer step minimises: a loss summed over labelled units, and how many of them there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch

from .data.batching import some_rows
from .methods.base import Method
from .methods.mean_teacher import MeanTeacher
from .models import encoder_of
from .tasks.base import Task
from .tasks.masked_lm import MaskedPositions
from .units import UNKNOWN, Step

Batch = dict[str, torch.Tensor]


class Objective(ABC):
    """Base class; the trainer knows objectives only through it.

    Attributes:
        methods: Adaptation methods by name, whose terms join the loss.
    """

    methods: Mapping[str, Method]

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


class TaskObjective(Objective):
    """A task's loss on source units, with methods that see source and target units.

    Args:
        task: The task.
        methods: Methods by name.

    Attributes:
        teacher: The method among them that keeps an averaged teacher, or None.
    """

    def __init__(self, task: Task, methods: Mapping[str, Method] | None = None):
        self.task = task
        self.methods = {} if methods is None else dict(methods)
        self.teacher = next((method for method in self.methods.values() if isinstance(method, MeanTeacher)), None)

    def count(self, batch: Batch) -> torch.Tensor:
        """Return the (weighted) number of labelled units."""
        return self.task.count(batch)

    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, Step | None]:
        """One forward pass on the joint batch of source and target, and one of the teacher on the target rows."""
        step = Step(**self._units(model, batch), progress=progress, model=model)
        if self.teacher is not None:
            target = some_rows(batch, batch["domain"] == 1)
            with self.teacher.instead_of(model, progress) as teacher:
                step = replace(step, teacher_UC=self._units(teacher, target)["logits_UC"])
        return self.task.loss_sum(step), step

    def _units(self, model: Any, batch: Batch) -> dict[str, Any]:
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
        return self.task.units(output.hidden_states[-1], output.logits, batch)


class MaskedLMObjective(Objective):
    """Masked language modelling with the head at masked positions only; a context manager that hooks the encoder.

    Args:
        model: The masked-LM model, plain or under PEFT.
    """

    def __init__(self, model: Any):
        self.methods = {}
        self.positions = MaskedPositions()
        self.encoder = encoder_of(model)

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
