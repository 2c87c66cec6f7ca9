"""What a recipe may say about a pretrain stage: on which text, with which objective, and the settings of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .files import DataFile
from .section import Section

Portion = Annotated[float, Field(gt=0, lt=1)]

OBJECTIVE_SETTINGS = {
    "mask_rate": ("mlm",),
    "whole_words": ("mlm",),
    "head_steps": ("mlm",),
}
"""Settings that not every objective has, with those that do."""

WORK = {"mlm": "predicts hidden words with a vocabulary head"}
"""What an objective does: the reason why it has no use for the settings of another."""

OBJECTIVE_DEFAULTS: dict[str, dict[str, float | bool]] = {"mlm": {"mask_rate": 0.15, "whole_words": True}}


class CorpusFile(DataFile):
    """A further file of unlabelled text; rows are read one at a time, so it may be larger than memory."""


class PretrainSettings(Section):
    """Continue the encoder's pretraining by masked language modelling (Gururangan et al. 2020).

    Attributes:
        text: Whose text: ``target`` (unlabelled rows), ``source`` or ``both``; by default ``target``, or with a
            ``corpus`` the corpus alone.
        corpus: A further file of unlabelled text of any size, read in addition to ``text``.
        mask_rate: Share of the words that are masked; by default 0.15.
        whole_words: Mask all pieces of a word together; by default true.
        head_steps: Optimizer steps in which a fresh masked-LM head is fitted with the encoder frozen before
            both train together; by default 200 when the checkpoint has no such head, else 0.
        block_length: Tokens in one packed block; by default ``data.max_length``, at most 128.
    """

    shorthand = "name"

    name: Literal["pretrain"] = "pretrain"
    text: Literal["target", "source", "both"] | None = None
    corpus: CorpusFile | None = None
    mask_rate: Portion | None = None
    whole_words: bool | None = None
    head_steps: Annotated[int, Field(ge=0)] | None = None
    block_length: Annotated[int, Field(ge=16, le=8192)] | None = None
