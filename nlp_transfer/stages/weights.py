"""Weights of one saved model put into another: encoders, adapters, or all of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from .. import models
from ..errors import ModelError
from ..model_files import has_adapter


def adopt_encoder(model: Any, folder: Path) -> None:
    """Give a model the encoder (or the adapters) that a pretrain stage has trained.

    The rest of the model stays as its base checkpoint has it: a masked-LM checkpoint holds no pooler, and reading the
    whole model from it would replace a trained pooler by a random one.

    Args:
        model: A model with a task head, after tuning.
        folder: Output model of the stage.

    Raises:
        ModelError: The folder's weights do not belong to this encoder.
    """
    adapter = has_adapter(folder)
    weights = load_file(folder / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    if adapter:
        own = {_saved_name(name): parameter for name, parameter in model.named_parameters() if _adapts(name)}
        wanted = {key: value for key, value in weights.items() if _adapts(key)}
    else:
        prefix = models.encoder_prefix(model)
        own = {name: parameter for name, parameter in model.named_parameters() if name.startswith(prefix)}
        wanted = {key: value for key, value in weights.items() if key.startswith(prefix)}
    missing = [name for name in own if name not in wanted and ".pooler." not in name]
    if missing or not wanted:
        raise ModelError(f"{folder} does not hold the weights of this encoder: {missing[:3]} …")
    with torch.no_grad():
        for key, value in wanted.items():
            if key in own:
                own[key].copy_(value)


def take_encoder(model: Any, other: Any) -> None:
    """Give a plain model the encoder of another one, with its adapters merged if it has any.

    Args:
        model: A model of the same architecture, whatever its head.
        other: The model whose encoder is copied; it stays as it is.
    """
    plain = copy.deepcopy(other).merge_and_unload() if hasattr(other, "peft_config") else other
    missing, _ = models.encoder_of(model).load_state_dict(models.encoder_of(plain).state_dict(), strict=False)
    assert not missing, missing


def continue_from(model: Any, folder: Path) -> None:
    """Give a masked-LM model everything that an earlier pretrain stage of the same recipe has trained, head included.

    Args:
        model: The masked-LM model of the base, after the same tuning.
        folder: Output model of the earlier stage.

    Raises:
        ModelError: The folder holds weights that this model has no place for.
    """
    outcome: Any
    if has_adapter(folder):
        from peft import set_peft_model_state_dict

        with models.quiet():
            outcome = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    else:
        # Tied decoders are not saved: they follow the embeddings, which are loaded in place.
        outcome = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    if outcome.unexpected_keys:
        raise ModelError(f"{folder} does not hold the weights of this model: {outcome.unexpected_keys[:3]} …")


def adopt_model(model: Any, folder: Path) -> None:
    """Give a model all weights that a task stage of the same recipe has saved, head included.

    Args:
        model: A model with a task head, after tuning.
        folder: Output model of the stage.
    """
    if has_adapter(folder):
        weights = load_file(folder / "adapter_model.safetensors")
        own = {_saved_name(name).replace(".modules_to_save", ""): name for name in model.state_dict()}
    else:
        weights = load_file(folder / "model.safetensors")
        own = {name: name for name in model.state_dict()}
    unknown = [key for key in weights if key not in own]
    assert not unknown, f"{folder}: {unknown[:3]}"
    model.load_state_dict({own[key]: value for key, value in weights.items()}, strict=False)


def _adapts(name: str) -> bool:
    """Whether a parameter under PEFT belongs to the encoder's adapters, or to its rows for new tokens."""
    return "lora_" in name or "trainable_tokens_" in name


def _saved_name(name: str) -> str:
    """Return the key under which PEFT saves a parameter: without the adapter's name (DoRA's also without `.weight`)."""
    magnitude = "lora_magnitude_vector" in name
    return name.replace(".default.weight" if magnitude else ".default", "")
