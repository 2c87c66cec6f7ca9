"""How a run judges what it has trained: the score that selects a checkpoint, and the guard over the adapted model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Section

Selection = Literal["source_dev", "entropy", "information_maximisation", "bnm", "class_ami", "dev", "oracle"]


class SelectionSpec(Section):
    """Which score selects the checkpoint of the finetune stage (and stops it early).

    Attributes:
        name: ``source_dev``, the headline score on labelled source rows (stages that train on target rows alone, or on
            labels that the source lacks, keep the weights of the last step instead); a score of unlabelled target text,
            see :mod:`nlp_transfer.selection`; or ``oracle``, the headline score on the labels of ``data.target.dev``,
            which no one has who needs adaptation: for upper bounds only, and named wherever scores are shown.
        max_rows: Target rows (and for ``dev`` source-dev rows) that each evaluation predicts for a label-free score.
    """

    shorthand = "name"

    name: Selection = "source_dev"
    max_rows: Annotated[int, Field(ge=2)] = 2000


class GuardSpec(Section):
    """When the source-only twin is kept instead of the adapted model; see :mod:`nlp_transfer.guard`.

    Attributes:
        evidence: Keep the adapted model only where label-free evidence favours it. Otherwise it is kept wherever it has
            not collapsed; so it is in the runs of a comparison, which picks among them.
        max_rows: Unlabelled target rows, and source-dev rows, that both models are compared on.
        min_share: Share of the twin's answers from which on a class must not vanish.
        lost_class: A class has vanished when its share falls below this fraction of the twin's.
        max_share: Share of all answers that no class may reach, unless the twin gives it nearly as often.
        max_divergence: Largest Kullback-Leibler divergence (nats) of the shares of the adapted model's answers from
            the nearer of the twin's shares and the source's.
        min_confidence: Part of the twin's mean confidence above chance that must be left.
        min_kappa: Cohen's kappa, the agreement beyond chance, that the adapted model's answers must have with those of
            a twin that is sure of its own, where no label-free evidence favours them. Up to 0.4 is called fair at best,
            up to 0.6 moderate (Landis and Koch 1977); sound models of reviews had 0.75 and more.
        min_kappa_against: The same where label-free evidence speaks against them.
        max_source_loss: Source-dev score that adaptation may cost; more is a fault only where the interval of the loss
            does not reach 0, so that a few rows by chance are none.
        min_gain: Least difference from which on a label-free score speaks for or against the adapted model.
        min_errors: Standard errors of that difference that it must be, too.
    """

    evidence: bool = True
    max_rows: Annotated[int, Field(ge=2)] = 2000
    min_share: Annotated[float, Field(gt=0, lt=1)] = 0.005
    lost_class: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_share: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    max_divergence: Annotated[float, Field(gt=0)] = 0.4
    min_confidence: Annotated[float, Field(ge=0, lt=1)] = 0.3
    min_kappa: Annotated[float, Field(ge=-1, lt=1)] = 0.4
    min_kappa_against: Annotated[float, Field(ge=-1, lt=1)] = 0.6
    max_source_loss: Annotated[float, Field(ge=0, le=1)] = 0.05
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.01
    min_errors: Annotated[float, Field(ge=0, le=10)] = 1.0
