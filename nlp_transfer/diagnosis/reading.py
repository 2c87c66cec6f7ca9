"""How long it takes to read text: in ``pretrain`` stages, or as a masked-LM loss beside the task's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..arguments import optimizer_steps
from ..data.blocks import pack
from ..data.corpus import Corpus
from ..data.load import Split
from ..data.pairs import EpochSampler, Pick
from ..hardware import default_device
from ..preparing.splits import corpus_role
from ..pretraining.base import Pretraining
from ..recipe.comparing import SOURCE_ONLY
from ..recipe.schema import TrainSpec
from ..recipe.stages import PretrainStage
from ..reporter import Reporter
from ..stages.pretrain import DEFAULT_BLOCK, head_steps, masked_lm, pretraining_of
from ..workspace import Workspace
from .measured import Cost, Side, Speed, padded_tokens, step_rate
from .variant import settings_of, variant

PRETRAIN, JOINT_MLM = "pretrain", "joint_mlm"
FITTING = 1 / 3
"""Part of a step that one of fitting the masked-LM head takes: it leaves out the encoder's backward pass."""
MASK_RATE = 0.15
"""Share of masked words; it hardly changes the time."""
Text = tuple[Sequence[str], float]
"""Texts of a sample; and texts of the whole ÷ texts of the sample."""


@dataclass(frozen=True)
class Reading:
    """A pretrain stage on a sample of its text.

    Args:
        stage: The stage.
        train: Its training settings.
        pretraining: Its objective.
        items: What it is trained on.
        batches: The items that share a forward pass.
        blocks: Blocks of the whole text.
    """

    stage: PretrainStage
    train: TrainSpec
    pretraining: Pretraining
    items: Any
    batches: list[list[Pick]]
    blocks: float

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return optimizer_steps(self.train, round(self.blocks))

    @property
    def tokens(self) -> float:
        """Padded tokens of a step."""
        each = [padded_tokens([self.items[pick] for pick in batch]) / len(batch) for batch in self.batches]
        return float(np.mean(each)) * int(self.train.batch_size or 1)

    @property
    def told(self) -> str:
        """What an estimate says of it."""
        chosen = self.stage.corpus is not None and self.stage.corpus.choose is not None
        what = "masked-LM" if self.stage.objective == "mlm" else self.stage.objective
        return f"{what} step, {self.steps} of them" + (" (choosing rows of the corpus left out)" if chosen else "")


def pretraining_times(
    space: Workspace, samples: Mapping[str, Split], away: Side, twin: float, speed: Speed, names: Collection[str]
) -> list[Cost]:
    """Estimate what reading text adds: in stages before, as a masked-LM loss beside the task's, and as both."""
    readings = _readings(space, samples) if PRETRAIN in names else []
    found = []
    # An objective takes as long for a token in one stage as in another.
    rates: dict[str, tuple[float, bool]] = {}
    before, fitted = 0.0, False
    if readings:
        told = []
        for one in readings:
            rate, fresh = _reading_rate(space, one, rates)
            trains_head = one.pretraining.trains_head
            head = head_steps(one.stage.head_steps, fresh and not fitted) if trains_head else 0
            fitted = fitted or trains_head
            before += rate * one.tokens * (one.steps + head * FITTING)
            told.append(one.told + (f" and {head} for the head" if head else ""))
        found.append(Cost(PRETRAIN, before + twin, "; ".join(told)))
    if JOINT_MLM in names and space.tokenizer.mask_token_id is not None:
        _, train = settings_of(space, SOURCE_ONLY)
        text = samples["target"].rows["text"][:]
        one = _reading(space, PretrainStage(mask_rate=MASK_RATE), train, [(text, away.times)])
        rate, fresh = _reading_rate(space, one, rates)
        beside = rate * int(train.batch_size or 1) * float(np.mean(away.encoded.lengths)) * speed.steps
        fitting = rate * one.tokens * head_steps(None, fresh) * FITTING
        basis = "training step and a masked-LM step beside it"
        found.append(Cost(JOINT_MLM, twin + beside + fitting, basis))
        if readings:
            seconds = before + twin + beside + (0 if fitted else fitting)
            found.append(Cost(f"{PRETRAIN}+{JOINT_MLM}", seconds, f"those of {PRETRAIN}, then {basis}"))
    return found


def _readings(space: Workspace, samples: Mapping[str, Split]) -> list[Reading]:
    """Return the stages that ``pretrain`` stands for: the recipe's own, else one with the defaults.

    None of them where one masks words and the tokenizer has no mask.
    """
    stages = [one for one in variant(space.recipe, PRETRAIN, space.methods).stages if isinstance(one, PretrainStage)]
    if space.tokenizer.mask_token_id is None and any(stage.objective == "mlm" for stage in stages):
        return []
    own = [number for number, stage in enumerate(space.recipe.stages) if isinstance(stage, PretrainStage)]
    corpora = [space.splits.corpora.get(corpus_role(number)) for number in own] or [None]
    return [
        _reading(space, stage, TrainSpec.model_validate(stage.train), _texts(space, stage, corpus, samples))
        for stage, corpus in zip(stages, corpora, strict=True)
    ]


def _texts(space: Workspace, stage: PretrainStage, corpus: Corpus | None, samples: Mapping[str, Split]) -> list[Text]:
    """Return samples of the text of a stage."""
    wholes = {"source": space.splits.train, "target": space.splits.unlabelled}
    found: list[Text] = [
        (samples[side].rows["text"][:], len(whole) / len(samples[side]))
        for side, whole in wholes.items()
        if stage.text in (side, "both") and whole is not None
    ]
    if corpus is not None:
        assert stage.corpus is not None
        choice, rows = stage.corpus.choose, len(corpus)
        if choice is not None:
            rows = min(rows, choice.rows or max(1, round(rows * (choice.share or 0))))
        first = list(islice(corpus, max(map(len, samples.values()))))
        found.append((first, rows / len(first)))
    return found


def _reading(space: Workspace, stage: PretrainStage, train: TrainSpec, texts: Sequence[Text]) -> Reading:
    """Cut samples of text into what an objective is trained on."""
    longest = min(DEFAULT_BLOCK, space.limits.max_length) if stage.block_length is None else stage.block_length
    pretraining = pretraining_of(replace(space, reporter=Reporter()), stage, longest)
    whole_words, joined = stage.whole_words is not False, pretraining.joined
    cut = [(list(pack(space.tokenizer, sample, longest, whole_words, joined)), times) for sample, times in texts]
    blocks = [block for sample, _ in cut for block in sample]
    share = max(1, int(train.batch_size or 1) // train.accumulation)
    lengths = [len(block.input_ids) for block in blocks]
    picks = list(EpochSampler(lengths, share, space.recipe.seed, None, train.group_by_length))
    batches = [picks[at : at + share] for at in range(0, len(picks), share)]
    whole = sum(len(sample) * times for sample, times in cut)
    return Reading(stage, train, pretraining, pretraining.items(blocks), batches, whole)


def _reading_rate(space: Workspace, one: Reading, rates: dict[str, tuple[float, bool]]) -> tuple[float, bool]:
    """Return the seconds of a padded token, measured once for an objective; and whether the masked-LM head is fresh."""
    if one.stage.objective not in rates:
        tuned, fresh = masked_lm(space, one.train, None)
        with one.pretraining.objective(tuned) as objective:
            if objective.modules:
                tuned.adaptation = torch.nn.ModuleDict(dict(objective.modules))
            rate, _ = step_rate(space, tuned.to(default_device()), objective, one.items, one.batches)
        rates[one.stage.objective] = rate, fresh
    return rates[one.stage.objective]
