"""The few forward passes of a report: vectors of a sample of texts of both domains, before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from .. import models, parts
from ..data.split import normalise
from ..data.windows import Limits
from ..diagnosis.texts import words_of
from ..diagnosis.vocabulary import overlap
from ..guard import ADAPTED, TWIN
from ..hardware import default_device
from ..inference import load_resolved
from ..outputs import text_vectors
from ..predictor import Predictor
from ..preparing.splits import Splits
from ..sequence import Outcome
from ..stages.base import StageResult
from ..stages.model import output_of
from ..verdict import JUDGES
from ..whole import write_text
from ..workspace import Workspace
from .domains import SIDES, compare_domains
from .record import DOMAINS

PRETRAINED, FROZEN = "pretrained", "frozen"
MOST_ROWS = 300
"""Texts of a domain that are looked at."""
WORD_ROWS = 1000
"""Texts of a split whose words are looked at."""
MAX_LENGTH = 128
"""Tokens of a text that are read: its first ones. Enough to know a domain by."""
FEWEST_ROWS = 2
"""Rows of a domain below which there is nothing to look at."""


def write_domains(space: Workspace, outcome: Outcome, folder: Path) -> None:
    """Look at both domains with the model before and the model after, and write ``domains.json``.

    Before is the source-only twin, else the pretrained encoder. The texts are drawn, by the recipe's seed, from rows
    that nothing was trained on where there are any: source dev, and the target's test (or dev) split, whose labels are
    not read. The words of the domains are compared, too, those of the source by rows that were trained on. Nothing is
    written without target text, or where a model's outputs are not finite numbers. For the first process only.

    Args:
        space: The run's workspace.
        outcome: What its stages left.
        folder: The run folder.
    """
    splits = _splits(space.splits)
    if splits is None:
        return
    rows = {side: _sample(split, space.recipe.seed) for side, (_, split) in splits.items()}
    vectors = {
        name: {side: _read(predictor, own) for side, own in rows.items()}
        for name, predictor in _before_after(space, outcome)
    }
    if not all(np.isfinite(own).all() for sides in vectors.values() for own in sides.values()):
        return
    texts = {side: [normalise(text) for text in own["text"]] for side, own in rows.items()}
    names = {side: name for side, (name, _) in splits.items()}
    found = compare_domains(vectors, texts, names, space.recipe.seed)
    unseen = _unseen(space.splits, space.recipe.seed)
    write_text(folder / DOMAINS, json.dumps(found.to_dict() | {"words": unseen}) + "\n")


def _unseen(splits: Splits, seed: int) -> dict[str, float]:
    """Return which share of the running words of source dev and of the target is not in the source's training text.

    Of samples, as ``diagnose`` measures it.
    """
    target = splits.unlabelled or next(splits.scored[name] for name in JUDGES if name in splits.scored)
    train, dev, away = (
        words_of(replace(split, rows=_sample(split.rows, seed, WORD_ROWS)))
        for split in (splits.train, splits.dev, target)
    )
    found = overlap(train, dev, away)
    return {"source.dev": found.unseen_at_home, target.name: found.unseen}


def _splits(splits: Splits) -> dict[str, tuple[str, datasets.Dataset]] | None:
    """Return by domain the split to look at, with its name."""
    named = {name: splits.scored[name] for name in JUDGES if name in splits.scored}
    if splits.unlabelled is not None:
        named["target.unlabelled"] = splits.unlabelled
    sides = [("source.dev", splits.dev), *list(named.items())[:1]]
    if len(sides) < len(SIDES) or min(len(split) for _, split in sides) < FEWEST_ROWS:
        return None
    return {side: (name, split.rows) for side, (name, split) in zip(SIDES, sides, strict=True)}


def _before_after(space: Workspace, outcome: Outcome) -> Iterator[tuple[str, Predictor]]:
    """Yield the model before and the model after, one at a time; only one where the encoder never moves."""
    recipe = space.recipe

    def trained(result: StageResult) -> Predictor:
        source = output_of(space, result.model)
        return load_resolved(source, batch_tokens=recipe.evaluate.batch_tokens, precision=recipe.train.precision)

    if not parts.TUNINGS[recipe.tuning.name].moves_features:
        yield FROZEN, trained(outcome.final)
        return
    if outcome.twin is None:
        yield PRETRAINED, _pretrained(space)
    else:
        yield TWIN, trained(outcome.twin)
    yield ADAPTED if recipe.adapts else TWIN, trained(outcome.final)


def _pretrained(space: Workspace) -> Predictor:
    config = models.read_config(space.base)
    model = models.load_model(space.task.auto_class, space.base, config).model.to(default_device())
    tokens = space.recipe.evaluate.batch_tokens
    return Predictor(model, space.tokenizer, space.task, space.limits, tokens, space.precision.bf16)


def _sample(rows: datasets.Dataset, seed: int, most: int = MOST_ROWS) -> datasets.Dataset:
    order = np.random.default_rng((seed, 2007)).permutation(len(rows))[:most]
    return rows.select(np.sort(order).tolist())


def _read(predictor: Predictor, rows: datasets.Dataset) -> np.ndarray:
    short = Limits(min(predictor.limits.max_length, MAX_LENGTH), 0, truncate=True)
    encoded = predictor.task.encode(rows, predictor.tokenizer, short, labelled=False)
    return text_vectors(
        predictor.model,
        predictor.task,
        encoded,
        predictor.tokenizer.pad_token_id,
        batch_tokens=predictor.batch_tokens,
        autocast=predictor.bf16,
    )
