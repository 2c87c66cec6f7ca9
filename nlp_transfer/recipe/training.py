"""What a recipe says about a training: how long, how fast, and which weights it ends with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .section import Positive, Rate, Section, Share


class AverageSpec(Section):
    """Which average of the weights over the optimizer steps a training ends with.

    Attributes:
        name: ``ema``, an exponential moving average with bias-corrected warm-up; or ``swa``, the plain mean over the
            last steps (stochastic weight averaging), best with ``schedule: constant``.
        decay: Of ema: share of the average that a step keeps, by default 0.999; 1 / (1 − decay) steps count.
        begin: Of swa: share of the steps that is left out, by default 0.75. Until then the plain weights are scored.
    """

    shorthand = "name"

    name: Literal["ema", "swa"]
    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    begin: Share | None = None

    @model_validator(mode="after")
    def _settings_fit_name(self) -> AverageSpec:
        other = {"ema": "begin", "swa": "decay"}[self.name]
        if getattr(self, other) is not None:
            raise ValueError(f"average '{self.name}' has no setting '{other}'")
        if self.name == "ema" and self.decay is None:
            self.decay = 0.999
        if self.name == "swa" and self.begin is None:
            self.begin = 0.75
        return self


class TrainSpec(Section):
    """How long and how fast a stage trains; ``None`` is the default of the tuning or stage, see ``resolve``.

    Attributes:
        epochs: Passes over the source rows (for ``pretrain``: over the blocks of text).
        max_steps: Optimizer steps; wins over ``epochs`` beside it, but makes way for a stage's own ``epochs``.
        batch_size: Rows in one optimizer step over all processes (the global batch).
        accumulation: Forward passes that one optimizer step is divided into, in each process.
        learning_rate: Peak rate of the encoder (under LoRA: of the adapters).
        head_learning_rate: Peak rate of the task head; by default ``learning_rate``.
        layer_decay: Factor on the rate from each encoder layer to the one below it; 1 is off.
        weight_decay: Decoupled weight decay (AdamW).
        warmup: Share of the steps over which the rate rises from 0.
        schedule: Shape of the rate after the warm-up.
        max_grad_norm: Gradients are clipped to this norm; 0 is off.
        precision: ``auto`` takes bf16 where the hardware computes it natively, else fp32.
        dropout: Dropout of hidden states; ``null`` keeps the model's own.
        attention_dropout: Dropout of attention weights; 0 allows fused attention kernels.
        group_by_length: Batches of rows of like length (little padding).
        evaluate_every: ``epoch`` or a number of steps; source dev is scored then, and a checkpoint written. Where the
            last step is kept (of target labels that source dev does not know), nothing is scored on the way.
        early_stopping: Evaluations without a better source-dev score after which training stops; 0 is off.
        keep_checkpoints: Checkpoints kept in the stage's folder, the best one included.
        average: ``ema`` or ``swa``: scores on source dev, selection and the final model use an average of the weights
            over the steps instead of the last weights.
    """

    epochs: Annotated[float, Field(gt=0)] | None = None
    max_steps: Positive | None = None
    batch_size: Positive | None = None
    accumulation: Positive = 1
    learning_rate: Rate | None = None
    head_learning_rate: Rate | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    warmup: Share = 0.1
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    dropout: Share | None = None
    attention_dropout: Share | None = 0.0
    group_by_length: bool = True
    evaluate_every: Literal["epoch"] | Positive = "epoch"
    early_stopping: Annotated[int, Field(ge=0)] = 0
    keep_checkpoints: Positive = 2
    average: AverageSpec | None = None


class MeanTeacher(Section):
    """A teacher whose weights are the running average of the student's (Tarvainen and Valpola 2017).

    Attributes:
        decay: Share of the old average that stays in each step; smaller in the first steps.
        weight: Weight of the consistency loss between student and teacher on target rows.
        ramp: Share of the round's steps over which that weight rises from almost 0.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    weight: Annotated[float, Field(gt=0)] = 1.0
    ramp: Annotated[float, Field(ge=0, le=1)] = 0.3
