"""What a method that reads masked target rows needs: the copies, and a masked-LM head that is no longer random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import jobs, models
from ..data.blocks import Block, pack
from ..data.masking import MaskedBlocks, Masking, blocks_of_rows
from ..data.pairs import RowOrder
from ..errors import ModelError
from ..hardware import choose_precision
from ..jobs import Job
from ..methods.base import Method
from ..objectives import MaskedLMObjective
from ..recipe.schema import TrainSpec
from ..tasks.base import Encoded
from ..tasks.masked_lm import MaskedLMHead
from ..workspace import Workspace
from .pretrain import DEFAULT_BLOCK, head_steps, masked_lm, say_head
from .weights import take_encoder


def masked_copies(
    space: Workspace,
    train: TrainSpec,
    folder: Path,
    encoder: Path | None,
    methods: Mapping[str, Method],
    model: Any,
    target: Encoded | None,
    continued: bool = False,
) -> Callable[[int, int, int], dict[str, Any]] | None:
    """Prepare the method that reads masked copies of target rows, where there is one: its rows and its head.

    Args:
        space: The run's workspace.
        train: Training settings of the stage, resolved.
        folder: The stage's folder; with checkpoints in it, the head's weights come from there.
        encoder: Output model of a pretrain stage, whose head is taken; else that of the base model.
        methods: The methods by name.
        model: The task model, whose hidden states the head will read.
        target: The encoded target rows.
        continued: The task model goes on from an earlier stage: its encoder is not the one that the head belongs to.

    Returns:
        From the number of a target row, the epoch and the turn in it to the masked copy; None without such a method.

    Raises:
        ModelError: The tokenizer has no mask token, the head cannot be run apart from its encoder, or several methods
            want copies.
    """
    asking = {name: method for name, method in methods.items() if method.masking is not None}
    if not asking:
        return None
    if len(asking) > 1:
        raise ModelError(f"methods {', '.join(asking)} each read masked copies of target rows; use one of them.")
    ((name, method),) = asking.items()
    masking = method.masking
    assert masking is not None
    assert target is not None
    method.head = _head(space, train, folder, encoder, name, masking, model, continued)
    blocks = blocks_of_rows(space.tokenizer, _texts(space), target.windows, space.limits, masking.whole_words)
    return _dataset(space, masking, blocks).masked


def _head(
    space: Workspace,
    train: TrainSpec,
    folder: Path,
    encoder: Path | None,
    name: str,
    masking: Masking,
    model: Any,
    continued: bool,
) -> MaskedLMHead:
    """Return a masked-LM head, fitted with the encoder frozen where it would start at random."""
    if space.tokenizer.mask_token_id is None:
        raise ModelError(f"model '{space.base.id}': its tokenizer has no mask token, which method '{name}' needs.")
    tuned, fresh = masked_lm(space, train, encoder)
    whole = tuned.merge_and_unload() if hasattr(tuned, "peft_config") else tuned
    whole.requires_grad_(True)
    if continued:
        take_encoder(whole, model)
    steps = head_steps(masking.head_steps, fresh)
    if steps:
        say_head(space.reporter, name, steps, fresh)
        if fresh:
            space.reporter.warn(
                f"{name}: without a trained head the masked-LM loss is large, and may leave little of each step to the "
                "task: put a 'pretrain' stage before it, or lower its weight."
            )
        _fit(space, train, folder, masking, whole, steps)
    try:
        return MaskedLMHead(whole, models.encoder_of(model), choose_precision(train.precision).bf16)
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(
            f"model '{space.base.id}': method '{name}' cannot use its masked-LM head ({error}). Use a 'pretrain' stage "
            "instead, or another encoder."
        ) from error


def _fit(space: Workspace, train: TrainSpec, folder: Path, masking: Masking, model: Any, steps: int) -> None:
    block = min(DEFAULT_BLOCK, space.limits.max_length)
    data = _dataset(space, masking, list(pack(space.tokenizer, _texts(space), block, masking.whole_words)))
    with MaskedLMObjective(model) as objective:
        lengths = [len(item.input_ids) for item in data.blocks]
        jobs.fit_head(Job(space, train, folder, "finetune", objective, data, RowOrder(lengths)), model, steps)


def _dataset(space: Workspace, masking: Masking, blocks: Sequence[Block]) -> MaskedBlocks:
    tokenizer = space.tokenizer
    return MaskedBlocks(blocks, masking.rate, tokenizer.mask_token_id, len(tokenizer), space.recipe.seed)


def _texts(space: Workspace) -> list[str]:
    assert space.splits.unlabelled is not None
    return list(space.splits.unlabelled.rows["text"])
