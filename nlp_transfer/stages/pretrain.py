"""Continued pretraining of the encoder on unlabelled text (Gururangan et al. 2020, arXiv 2004.10964)."""

from __future__ import annotations

from pathlib import Path

from transformers.trainer_utils import set_seed

from .. import jobs, models, parts
from ..data.masking import MaskedBlocks, pack
from ..errors import ModelError
from ..jobs import Job
from ..objectives import MaskedLMObjective
from ..prepare import Splits
from ..recipe.schema import PretrainStage, TrainSpec
from ..workspace import Workspace
from . import base
from .model import continue_from, dropouts

FRESH_HEAD_STEPS = 200
DEFAULT_BLOCK = 128


def pretrain(
    space: Workspace, stage: PretrainStage, folder: Path, fingerprint: str, before: base.Before
) -> base.StageResult:
    """Continue masked-LM training of the encoder on unlabelled text.

    Args:
        space: The run's workspace.
        stage: The stage's settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        before: What earlier stages left: an earlier pretrain stage's encoder and masked-LM head are trained on.

    Returns:
        The result; ``model/`` is a masked-LM checkpoint (or adapter) whose encoder the next stage adopts.
    """
    done = base.finished(folder, fingerprint)
    if done is not None:
        return done
    base.begin(space, folder, fingerprint)
    train = TrainSpec.model_validate(stage.train)
    texts = _texts(space.splits, stage.text)
    if space.tokenizer.mask_token_id is None:
        raise ModelError(f"model '{space.base.id}': its tokenizer has no mask token, which stage 'pretrain' needs.")
    set_seed(space.recipe.seed)
    config = models.read_config(space.base, **dropouts(train, models.read_config(space.base)))
    loaded = models.load_model("AutoModelForMaskedLM", space.base, config)
    fresh_head = before.encoder is None and any(
        not name.startswith(models.encoder_prefix(loaded.model)) for name in loaded.fresh
    )
    block = min(DEFAULT_BLOCK, space.limits.max_length) if stage.block_length is None else stage.block_length
    blocks = pack(space.tokenizer, texts, block, stage.whole_words)
    data = MaskedBlocks(blocks, stage.mask_rate, space.tokenizer.mask_token_id, len(space.tokenizer), space.recipe.seed)
    space.reporter.say(f"pretrain: {len(texts)} texts packed into {len(blocks)} blocks of up to {block} tokens.")
    tuned = parts.build_tuning(space.recipe.tuning).apply(loaded, None)
    if before.encoder is not None:
        continue_from(tuned, before.encoder)
    head_steps = (FRESH_HEAD_STEPS if fresh_head else 0) if stage.head_steps is None else stage.head_steps
    if head_steps and not jobs.moving_outside_encoder(tuned):
        raise ModelError(
            f"stage 'pretrain': head_steps is {head_steps}, but tuning '{space.recipe.tuning.name}' leaves the "
            "masked-LM head of this checkpoint as it is. Set head_steps: 0, or leave it out."
        )
    lengths = [len(item.input_ids) for item in blocks]
    with MaskedLMObjective(tuned) as objective:
        job = Job(space, train, folder, "pretrain", objective, data, lengths)
        if head_steps:
            which = "the checkpoint has no masked-LM head: a fresh one" if fresh_head else "the masked-LM head"
            why = " (a random head would damage the encoder)" if fresh_head else ""
            space.reporter.say(f"pretrain: {which} is fitted for {head_steps} steps, encoder frozen, first{why}.")
            jobs.fit_head(job, tuned, head_steps)
        facts = jobs.train(job, tuned)
    facts |= {"blocks": len(blocks), "block_length": block, "head_steps": head_steps, "fresh_head": fresh_head}
    return base.finish(space, folder, fingerprint, tuned, facts)


def _texts(splits: Splits, wanted: str) -> list[str]:
    texts = [] if wanted == "target" else list(splits.train.rows["text"])
    if wanted != "source":
        assert splits.unlabelled is not None
        texts += list(splits.unlabelled.rows["text"])
    return texts
