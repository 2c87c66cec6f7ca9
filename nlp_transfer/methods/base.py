"""What a method is: a module that turns a step into named loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from ..data.masking import Masking
from ..functional import ramp
from ..units import Step


class Method(torch.nn.Module):
    """Base class of adaptation methods.

    A subclass takes the feature sizes as its only positional argument; its keyword-only arguments are its settings
    in a recipe, documented and typed there and nowhere else. It hands on those of this class, which every method has.

    Args:
        weight: Factor on the method's loss terms.
        schedule: How the factor moves over the training: ``constant``; ``ramp`` (from 0, steep at first, see
            :func:`~nlp_transfer.functional.ramp`); ``linear`` (from 0 to the full weight at the end).
        begin: Share of the training after which the method sets in; the schedule runs over what is left.

    Attributes:
        moves_features: The method works by changing features, so frozen features refuse it.
        needs_target: The method needs unlabelled target text, unless :meth:`reads_target` says otherwise.
        compares_domains: The method compares units of the two domains: a stage that trains on labelled target rows
            alone gives it source text, too, unless :meth:`reads_source` says otherwise.
        needs_teacher: The method reads a teacher's logits (``Step.teacher_UC``).
        teachers: Runs or models that are this teacher, several as their mean; none: the source-only twin.
        taught_on: Rows on which the teacher's logits are read: ``source``, ``target`` or ``both``.
        fewest_units: Units of each domain in a forward pass without which the method's terms are 0.
        in_rounds: The method can take part in rounds of self-training.
        masking: Set by a method that reads masked copies of target rows (``Step.masked``); target rows themselves
            then take part only where another method reads them.
        head: The masked-LM head that such a method is given before training: (M, H) in, (M, V) out.
        citation: Paper, as the model card shows it.
    """

    moves_features: ClassVar[bool] = True
    needs_target: ClassVar[bool] = True
    compares_domains: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    in_rounds: ClassVar[bool] = True
    fewest_units: ClassVar[int] = 1
    citation: ClassVar[str] = ""

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        schedule: Literal["constant", "ramp", "linear"] = "constant",
        begin: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        super().__init__()
        self.masking: Masking | None = None
        self.head: torch.nn.Module | None = None
        self.teachers: list[str] = []
        self.taught_on = "both"
        self.weight = weight
        self.schedule = schedule
        self.begin = begin

    @classmethod
    def reads_target(cls, settings: Mapping[str, Any]) -> bool:
        """Whether the method needs unlabelled target text with these settings; a recipe is checked before it is built.

        Args:
            settings: Those that the recipe gives it; of any type, as they may be wrong.
        """
        return cls.needs_target

    @classmethod
    def reads_source(cls, settings: Mapping[str, Any]) -> bool:
        """Whether the method, with these settings, needs source text beside labelled rows that are all the target's.

        Args:
            settings: Those that the recipe gives it.
        """
        return cls.compares_domains

    def attach(self, model: Any) -> None:
        """Look at the model before the first step; most methods need nothing of it.

        The trainer calls this once, when the model holds the weights that training begins with: a resumed run, too,
        builds them again before it reads its checkpoint.

        Args:
            model: The model after tuning, plain or under PEFT.
        """
        return

    def own_progress(self, progress: float) -> float:
        """Return the share of the method's own time that is done, 0 to 1: schedules begin with the method."""
        return max(0.0, progress - self.begin) / (1 - self.begin)

    def factor(self, progress: float) -> float:
        """Return what the terms are multiplied with.

        Args:
            progress: Share of the optimizer steps that are done, 0 to 1.
        """
        if progress < self.begin:
            return 0.0
        own = self.own_progress(progress)
        return self.weight * {"constant": 1.0, "linear": own, "ramp": ramp(own)}[self.schedule]

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return the raw (unweighted) loss terms of a step by name; their sum joins the loss.

        Args:
            step: Units of the joint batch of source and target.

        Returns:
            Scalars. Every trainable parameter of the method must take part in each step, or training over several
            processes stops with an error.
        """
        raise TypeError(f"{type(self).__name__} does not define terms()")

    def nothing(self, step: Step) -> torch.Tensor:
        """Return a zero that can be differentiated, for a step with too few units: every parameter takes part."""
        taking_part = [step.features_UH, step.logits_UC, *self.parameters()]
        return torch.stack([tensor.sum() * 0.0 for tensor in taking_part]).sum()

    def watch(self, step: Step) -> dict[str, float]:
        """Return numbers to log that are not losses, such as the accuracy of a discriminator."""
        return {}

    def learning_rate(self, base: float) -> float:
        """Return the learning rate of the method's own layers, given that of the encoder."""
        return base

    def advice(self, averages: dict[str, float]) -> str | None:
        """Look at the logged averages of the terms and the watched numbers; return a warning with advice, or None."""
        return None
