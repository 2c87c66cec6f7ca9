"""The stages of a recipe: what is trained, on what, in which order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .pretraining import PretrainSettings
from .section import Section, SomeOf
from .training import MeanTeacher, TrainSpec

Changes = Annotated[dict[str, Any], SomeOf(TrainSpec)]


class FinetuneStage(Section):
    """Train the task on labelled rows, with the recipe's methods.

    Attributes:
        on: Whose labelled rows: ``source``, ``target`` (``data.target.train``), or ``both``.
        target_share: Share of the target rows among those of ``both``, by default 0.5: the fewer rows are drawn more
            often, as in joint training (Liu et al. 2021, CrossNER, arXiv 2012.04373).
        adapt: Use the recipe's methods in this stage.
        train: Settings that differ from the recipe's ``train`` section.
    """

    shorthand = "name"

    name: Literal["finetune"] = "finetune"
    on: Literal["source", "target", "both"] = "source"
    target_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    adapt: bool = True
    train: Changes = Field(default_factory=dict)

    @model_validator(mode="after")
    def _share_fits(self) -> FinetuneStage:
        if self.target_share is not None and self.on != "both":
            raise ValueError(f"target_share mixes source and target rows, but this stage trains on: {self.on}")
        if self.target_share is None and self.on == "both":
            self.target_share = 0.5
        return self


class PretrainStage(PretrainSettings):
    """Continue the encoder's pretraining, see :class:`~nlp_transfer.recipe.pretraining.PretrainSettings`.

    Attributes:
        train: Settings that differ from the recipe's ``train`` section.
    """

    train: Changes = Field(default_factory=dict)


class SelfTrainStage(Section):
    """Train on source rows and on the target rows that the last model is sure of, in rounds (Zou et al. 2018).

    Attributes:
        rounds: How often the target is labelled anew.
        select: ``top_share`` keeps the most confident share of the rows; ``threshold`` those above ``threshold``.
        threshold: Calibrated probability that a row must reach under ``threshold``; under both, words (ner) below it
            are left out of the loss.
        share: Share that ``top_share`` keeps in the first round.
        growth: What is added to the share in each further round.
        class_balanced: ``share`` is taken of each predicted class apart, and no class takes more than ``class_cap``
            times an equal part of what is kept. By default true for ``top_share`` and for ner, where sentences
            without entities would take over.
        class_cap: See ``class_balanced``.
        soft_labels: Train on calibrated probabilities instead of labels.
        target_weight: Weight of a pseudo-label in the loss, where a gold label weighs 1.
        restart: Each round starts from where ``finetune`` started, not from the last round's model. It unlearns what
            wrong pseudo-labels have taught, for the steps of a whole fine-tuning a round.
        adapt: Use the recipe's methods in the rounds too.
        mean_teacher: Keep an averaged teacher beside the student in every round.
        train: Settings that differ from the recipe's ``train`` section. Its length and rates are not taken from there:
            by default 1 epoch at half the rate of ``finetune``; with ``restart`` those of ``finetune``.
    """

    shorthand = "name"

    name: Literal["self_train"] = "self_train"
    rounds: Annotated[int, Field(ge=1, le=50)] = 2
    select: Literal["top_share", "threshold"] = "top_share"
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.9
    share: Annotated[float, Field(gt=0, le=1)] = 0.4
    growth: Annotated[float, Field(ge=0, le=1)] = 0.2
    class_balanced: bool | None = None
    class_cap: Annotated[float, Field(ge=1)] = 1.5
    soft_labels: bool = False
    target_weight: Annotated[float, Field(gt=0, le=10)] = 1.0
    restart: bool = False
    adapt: bool = True
    mean_teacher: MeanTeacher | None = None
    train: Changes = Field(default_factory=dict)


class SoupStage(Section):
    """Leave the mean of the weights of several fine-tuned models, without training (Wortsman et al. 2022).

    Attributes:
        models: Models whose weights are averaged with those of the stage before, each with the same share: folders or
            hub ids, fine-tuned from the same pretrained weights for the same labels.
        twins: Models whose weights are averaged with those of the source-only twin, so that the gain over it is that of
            adaptation and not of averaging. By default the twin is a single model.
        adapt: Whether the models are adapted to the target, so that a twin stands beside their mean. Set it to false
            for models of labelled rows alone.
    """

    shorthand = "name"

    name: Literal["soup"] = "soup"
    models: Annotated[list[str], Field(min_length=1)]
    twins: Annotated[list[str], Field(min_length=1)] | None = None
    adapt: bool = True


def _name_only(value: Any) -> Any:
    """Expand a stage's name before pydantic picks the stage's class by it."""
    return {"name": value} if isinstance(value, str) else value


Training = FinetuneStage | PretrainStage | SelfTrainStage
AnyStage = Training | SoupStage
Stage = Annotated[Annotated[AnyStage, Field(discriminator="name")], BeforeValidator(_name_only)]
