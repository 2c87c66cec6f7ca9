"""The mean of the weights of several fine-tuned models: one model that answers much as all of them together do.

Wortsman et al. (2022, *Model soups*, arXiv 2203.05482): models that were fine-tuned from the same pretrained weights
mostly lie in one basin of the loss, where the mean of their weights is about as good as the mean of their answers, at
the price of one of them. Rame et al. (2022, *Diverse Weight Averaging*, arXiv 2205.09739) show why it helps out of the
domain: what runs that differ have in common stays, where each of them errs on its own is averaged away. Nothing is
trained, and every model has the same share, so that no labels are needed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import jobs, models
from ..errors import ModelError, RunError
from ..guard import TWIN
from ..hardware import default_device
from ..recipe.schema import TrainSpec
from ..records import LOG, read_json_lines, warnings_in
from ..workspace import Workspace
from . import base
from .model import finished_model, other_model

FARTHEST = 0.5
"""Distance of the matrices of two encoders, relative to the length of one, from which on they are not of one origin.
Fine-tuning moves those of all-MiniLM-L6-v2 by 0.01; of two encoders that were drawn apart the distance is √2."""


def soup(
    space: Workspace, others: Sequence[str], folder: Path, fingerprint: str, before: base.Before
) -> base.StageResult:
    """Leave the mean of the weights of the model before and of others.

    Adapters are merged into their bases first: the mean of the factors of two adapters is not that of what they add.

    Args:
        space: The run's workspace.
        others: Folders or hub ids of the other models.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        before: What earlier stages left.

    Raises:
        ModelError: A model has other labels, other tokens or other layers, or comes from other pretrained weights.
    """
    done = base.resumed(space, folder, fingerprint)
    if done is not None:
        return done
    begun, last = time.monotonic(), space.recipe.finetunes[-1]
    assert before.model is not None
    model = finished_model(space, TrainSpec.model_validate(last.train), before.model)
    average(model, ((place, other_model(space, place)) for place in others))
    model.to(default_device())
    space.reporter.say(f"soup: the mean of the weights of {1 + len(others)} models")
    dev = space.task.encode(space.splits.dev.rows, space.tokenizer, space.limits, labelled=False)
    space.task.tune(space.splits.dev.rows, jobs.dev_logits(space, model, dev))
    seconds = round(time.monotonic() - begun, 2)
    facts = {"models": 1 + len(others), "steps": 0, "seconds": seconds, "task": space.task.settings()}
    warnings = _warnings(others)
    facts |= {"warnings": warnings} if warnings else {}
    return base.finish(space, folder, fingerprint, model, facts)


def _warnings(others: Sequence[str]) -> list[str]:
    """Return what methods warned of in the training of each model that comes from a run."""
    found = []
    for place in others:
        stage = Path(place).resolve().parent
        run = stage.parents[1] if stage.parent.name == "stages" else stage
        # Of a run that is no longer there, or of a model that is none of a run's, nothing is known.
        with contextlib.suppress(RunError):
            log = [line for line in read_json_lines(run / LOG, "") if not line.get("stage", "").startswith(TWIN)]
            # What tells the run from others of a comparison, but not where it lies.
            found += [f"{run.parent.name}/{run.name}, {warning}" for warning in warnings_in(log)]
    return found


def average(model: Any, others: Iterable[tuple[str, Any]]) -> None:
    """Give a model the mean of its weights and of those of others, in double precision on the way.

    Args:
        model: The model.
        others: What models of the same architecture are called, and the models; one at a time is held.

    Raises:
        ModelError: One has other layers, or weights that cannot come from the same pretrained ones.
    """
    own = model.state_dict()
    prefix = models.encoder_prefix(model)
    # Scales and offsets are alike in all models, wherever they come from.
    matrices = [name for name, value in own.items() if name.startswith(prefix) and value.ndim > 1]
    total = {name: value.double() for name, value in own.items() if value.is_floating_point()}
    count = 1
    for place, other in others:
        weights, count = other.state_dict(), count + 1
        if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in own.items()}:
            raise ModelError(f"'{place}' has other layers than the model of this run: their weights have no mean.")
        if _distance(own, weights, matrices) > FARTHEST:
            raise ModelError(
                f"'{place}' was not fine-tuned from the same pretrained weights as the model of this run: the mean of "
                "their weights would be neither. Take models of one origin."
            )
        for name, value in total.items():
            value += weights[name]
    with torch.no_grad():
        for name, value in total.items():
            own[name].copy_(value / count)


def _distance(own: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], names: list[str]) -> float:
    """Return the length of the difference of two encoders, relative to that of the first."""
    apart = sum(float((own[name].double() - other[name].double()).square().sum()) for name in names)
    return float((apart / sum(float(own[name].double().square().sum()) for name in names)) ** 0.5)
