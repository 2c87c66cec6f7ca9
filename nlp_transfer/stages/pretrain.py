"""Continued pretraining of the encoder on unlabelled text (Gururangan et al. 2020, arXiv 2004.10964)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import chain, compress
from pathlib import Path
from typing import Any

from transformers.trainer_utils import set_seed

from .. import jobs, models, parts
from ..data.blocks import BlockFile, pack, write_blocks
from ..data.choice import best_rows, score_rows
from ..data.corpus import Corpus
from ..data.pairs import RowOrder
from ..errors import DataError, ModelError, Problem
from ..hardware import is_main_process
from ..jobs import Job
from ..pretraining.base import Pretraining
from ..pretraining.masked_lm import MaskedLM
from ..pretraining.pooling import default_pooling
from ..pretraining.simcse import SimCse
from ..pretraining.tsdae import Tsdae
from ..processes import wait_for_all
from ..recipe.schema import TrainSpec
from ..recipe.stages import PretrainStage
from ..reporter import Reporter
from ..workspace import Workspace
from . import base
from .model import dropouts, load_base
from .weights import continue_from

FRESH_HEAD_STEPS = 200
DEFAULT_BLOCK = 128


def pretrain(
    space: Workspace,
    stage: PretrainStage,
    folder: Path,
    fingerprint: str,
    before: base.Before,
    corpus: Corpus | None = None,
) -> base.StageResult:
    """Continue the training of the encoder on unlabelled text.

    Args:
        space: The run's workspace.
        stage: The stage's settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        before: What earlier stages left: an earlier pretrain stage's encoder and masked-LM head are trained on.
        corpus: Further text, where the stage names some.

    Returns:
        The result; ``model/`` is a masked-LM checkpoint (or adapter) whose encoder the next stage adopts. Objectives
        that train no masked-LM head leave the one that was there.
    """
    done = base.resumed(space, folder, fingerprint)
    if done is not None:
        return done
    train = TrainSpec.model_validate(stage.train)
    longest = min(DEFAULT_BLOCK, space.limits.max_length) if stage.block_length is None else stage.block_length
    pretraining = pretraining_of(space, stage, longest)
    blocks = _blocks(space, stage, folder, corpus, longest, pretraining.joined)
    set_seed(space.recipe.seed)
    tuned, fresh_head = masked_lm(space, train, before.encoder)
    with pretraining.objective(tuned) as objective:
        job = Job(space, train, folder, "pretrain", objective, pretraining.items(blocks), RowOrder(blocks.lengths))
        head_steps = _fit_head(job, tuned, stage, fresh_head) if pretraining.trains_head else 0
        facts = jobs.train(job, tuned)
        if objective.modules:
            del tuned.adaptation
    facts |= blocks.facts | {"objective": stage.objective, "head_steps": head_steps, "fresh_head": fresh_head}
    facts["untrained_head"] = fresh_head and not pretraining.trains_head
    if is_main_process():
        shutil.rmtree(folder / "blocks")
    return base.finish(space, folder, fingerprint, tuned, facts)


def pretraining_of(space: Workspace, stage: PretrainStage, longest: int) -> Pretraining:
    """Return the stage's objective with its settings."""
    seed = space.recipe.seed
    if stage.objective == "mlm":
        if space.tokenizer.mask_token_id is None:
            raise ModelError(f"model '{space.base.id}': its tokenizer has no mask token, which objective 'mlm' needs.")
        assert stage.mask_rate is not None
        return MaskedLM(space.tokenizer, seed, stage.mask_rate)
    pooling = stage.pooling or default_pooling(space.base.folder, models.read_config(space.base))
    which = "the mean over its tokens" if pooling == "mean" else "that of its first token"
    space.reporter.say(f"pretrain: a text's vector is {which}.")
    if stage.objective == "tsdae":
        assert stage.delete_rate is not None
        return Tsdae(seed, pooling, stage.delete_rate, longest)
    assert stage.temperature is not None
    return SimCse(pooling, stage.temperature)


def masked_lm(space: Workspace, train: TrainSpec, encoder: Path | None) -> tuple[Any, bool]:
    """Return the tuned masked-LM model of the base, and whether its head has never been trained.

    Args:
        space: The run's workspace.
        train: Training settings, resolved.
        encoder: Output model of an earlier pretrain stage, all of whose weights are taken.
    """
    config = models.read_config(space.base, **dropouts(train, models.read_config(space.base)))
    loaded = load_base(space, "AutoModelForMaskedLM", config)
    tuned = parts.build_tuning(space.recipe.tuning).apply(loaded, None)
    if encoder is not None:
        continue_from(tuned, encoder)
        return tuned, bool(base.recorded(encoder)["untrained_head"])
    return tuned, loaded.fresh_head


def _blocks(
    space: Workspace, stage: PretrainStage, folder: Path, corpus: Corpus | None, longest: int, joined: bool
) -> BlockFile:
    """Tokenise the stage's text into blocks on disk, unless an interrupted run has done it."""
    place = folder / "blocks"
    if is_main_process() and not place.is_dir():
        facts: dict[str, Any] = {"block_length": longest, "texts": 0}
        texts = _counted(_texts(space, stage, corpus), facts)
        write_blocks(place, pack(space.tokenizer, texts, longest, stage.whole_words is not False, joined), facts)
    wait_for_all()
    blocks = BlockFile(place)
    if not len(blocks):
        raise DataError([Problem("the text of stage 'pretrain' holds no tokens.", str(folder))])
    space.reporter.say(
        f"pretrain ({stage.objective}): {blocks.facts['texts']} texts {'packed' if joined else 'cut'} into "
        f"{len(blocks)} blocks of up to {longest} tokens."
    )
    blocks.facts["blocks"] = len(blocks)
    return blocks


def _texts(space: Workspace, stage: PretrainStage, corpus: Corpus | None) -> Iterable[str]:
    parts_of = {"target": ["target"], "source": ["source"], "both": ["source", "target"]}
    named = [_rows(space, domain) for domain in parts_of.get(str(stage.text), [])]
    return chain(*named, () if corpus is None else _chosen(space, stage, corpus))


def _rows(space: Workspace, domain: str) -> Iterable[str]:
    split = space.splits.train if domain == "source" else space.splits.unlabelled
    assert split is not None
    return split.rows["text"]


def _chosen(space: Workspace, stage: PretrainStage, corpus: Corpus) -> Iterable[str]:
    """Return the corpus, or those of its rows that look most like what the stage names."""
    assert stage.corpus is not None
    choice = stage.corpus.choose
    if choice is None:
        return corpus
    count = min(len(corpus), choice.rows or max(1, round(len(corpus) * (choice.share or 0))))
    scores_R = score_rows(corpus, _rows(space, choice.like), space.recipe.seed)
    kept_R = best_rows(scores_R, count)
    space.reporter.say(
        f"pretrain: {count} of {len(corpus)} rows of the corpus are kept, those most like the {choice.like} "
        f"(cross-entropy difference up to {scores_R[kept_R].max():.2f} nats a word)."
    )
    return compress(corpus, kept_R)


def _counted(texts: Iterable[str], facts: dict[str, Any]) -> Iterable[str]:
    for text in texts:
        facts["texts"] += 1
        yield text


def head_steps(asked: int | None, fresh: bool) -> int:
    """Return the steps in which a masked-LM head is fitted with the encoder frozen, before both train together.

    Args:
        asked: What the recipe says, None where it says nothing.
        fresh: The head starts at random.
    """
    return (FRESH_HEAD_STEPS if fresh else 0) if asked is None else asked


def say_head(reporter: Reporter, title: str, steps: int, fresh: bool) -> None:
    """Say that a masked-LM head is about to be fitted, and why."""
    which = "the checkpoint has no masked-LM head: a fresh one" if fresh else "the masked-LM head"
    why = " (a random head would damage the encoder)" if fresh else ""
    reporter.say(f"{title}: {which} is fitted for {steps} steps, encoder frozen, first{why}.")


def _fit_head(job: Job, tuned: Any, stage: PretrainStage, fresh: bool) -> int:
    """Fit the masked-LM head alone where it is fresh or the recipe says so; return the number of steps."""
    steps = head_steps(stage.head_steps, fresh)
    if steps and not jobs.moving_outside_encoder(tuned):
        raise ModelError(
            f"stage 'pretrain': head_steps is {steps}, but tuning '{job.space.recipe.tuning.name}' leaves the "
            "masked-LM head of this checkpoint as it is. Set head_steps: 0, or leave it out."
        )
    if steps:
        say_head(job.space.reporter, "pretrain", steps, fresh)
        jobs.fit_head(job, tuned, steps)
    return steps
