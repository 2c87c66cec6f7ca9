"""Mean teacher (Tarvainen and Valpola 2017, arXiv 1703.01780).

The teacher's weights are the exponential moving average of the student's, θ'_t = α θ'_{t−1} + (1 − α) θ_t (equation 2),
and the student is drawn towards the teacher's probabilities on unlabelled rows by their mean squared difference
(equation 1). The student sees dropout, the teacher does not: its answer is the best guess of the average model.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch

from ..units import Step
from .base import Method


class MeanTeacher(Method):
    """Consistency of the student with an averaged teacher on target rows.

    Only weights that are trained are averaged; they are buffers of this module, so that they go into checkpoints with
    it and come back in a resumed run.

    Args:
        model: The student, after tuning.
        decay: α at its largest; in step t it is at most 1 − 1/(t + 1), so that the first average is the student.
        ramp: Share of the steps over which the weight rises as exp(−5 (1 − x)²), as in the paper.
        shared: ``weight``, ``schedule`` and ``begin`` of every method.
    """

    moves_features = False
    compares_domains = False
    citation = "Tarvainen and Valpola 2017, Mean teachers are better role models, arXiv 1703.01780"

    def __init__(self, model: Any, *, decay: float = 0.99, ramp: float = 0.3, **shared: Any):
        super().__init__(**shared)
        self.decay = decay
        self.ramp = ramp
        self.names = [name for name, value in model.named_parameters() if value.requires_grad]
        for number, name in enumerate(self.names):
            self.register_buffer(f"average_{number}", model.get_parameter(name).detach().clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._progress: float | None = None

    def factor(self, progress: float) -> float:
        """Return the weight, times the ramp-up at the beginning."""
        share = min(1.0, progress / self.ramp) if self.ramp else 1.0
        return super().factor(progress) * math.exp(-5.0 * (1.0 - share) ** 2)

    @contextlib.contextmanager
    def instead_of(self, model: Any, progress: float) -> Iterator[Any]:
        """Give a callable that answers with the teacher's weights, without dropout and gradients.

        Args:
            model: The student, possibly wrapped for several processes.
            progress: Share of the optimizer steps that are done. When it has moved on since the last call, the
                student has learned a step, and is averaged into the teacher first.
        """
        student = getattr(model, "module", model)
        if progress != self._progress:
            self._update(student)
            self._progress = progress
        weights = {name: self.get_buffer(f"average_{number}") for number, name in enumerate(self.names)}
        student.eval()
        try:
            with torch.no_grad():
                yield lambda **inputs: torch.func.functional_call(student, weights, kwargs=inputs)
        finally:
            student.train()

    @torch.no_grad()
    def _update(self, student: Any) -> None:
        steps = self.get_buffer("steps")
        decay = min(self.decay, 1.0 - 1.0 / (int(steps) + 1))
        for number, name in enumerate(self.names):
            self.get_buffer(f"average_{number}").lerp_(student.get_parameter(name).detach(), 1.0 - decay)
        steps += 1

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"consistency": mean over target units of the squared difference, summed over labels}``."""
        assert step.average_UC is not None
        squash = torch.sigmoid if step.multi_label else lambda logits_UC: torch.softmax(logits_UC, dim=-1)
        difference_UC = squash(step.logits_UC[step.domain_U == 1]) - squash(step.average_UC)
        if not len(difference_UC):  # windows without a word that begins in them
            return {"consistency": self.nothing(step)}
        return {"consistency": difference_UC.pow(2).sum(-1).mean()}
