"""Which weights may move: full, lora, frozen or top_layers.

A tuning's keyword-only constructor arguments are its settings in a recipe.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from .errors import ModelError
from .models import Loaded, encoder_layers, encoder_of, encoder_prefix, quiet

LORA_TARGETS = {
    "bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"],
    "distilbert": ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
    "albert": ["query", "key", "value", "attention.dense", "ffn", "ffn_output"],
    "mpnet": ["attn.q", "attn.k", "attn.v", "attn.o", "intermediate.dense", "output.dense"],
    "modernbert": ["attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"],
    "deberta-v2": ["query_proj", "key_proj", "value_proj", "output.dense", "intermediate.dense"],
    "deberta": ["in_proj", "output.dense", "intermediate.dense"],
}
"""Linear layers inside the encoder by architecture (PEFT knows defaults for some only)."""

BERT_LIKE = {
    "bert",
    "roberta",
    "xlm-roberta",
    "electra",
    "camembert",
    "ernie",
    "layoutlm",
    "mobilebert",
    "data2vec-text",
}


class Tuning:
    """Base class: decides which parameters of a freshly loaded model are trained.

    Attributes:
        moves_features: Whether the encoder's features change in training.
        trains_new_tokens: Whether the vectors of tokens that the checkpoint did not have are trained.
    """

    moves_features: ClassVar[bool] = True
    trains_new_tokens: ClassVar[bool] = False

    def apply(self, loaded: Loaded, peft_type: str | None) -> Any:
        """Return the model to train.

        Args:
            loaded: The model as loaded, with the names of its fresh parameters.
            peft_type: PEFT task type, for adapters; None for masked LM.
        """
        raise TypeError(f"{type(self).__name__} does not define apply()")


class Full(Tuning):
    """All weights move."""

    trains_new_tokens = True

    def __init__(self) -> None:
        pass

    def apply(self, loaded: Loaded, peft_type: str | None) -> Any:
        """Return the model as it is."""
        return loaded.model


class Frozen(Tuning):
    """Only what comes after the encoder's hidden states moves: pooler and task head.

    The hidden states are computed once and cached; see :mod:`nlp_transfer.caching`.
    """

    moves_features = False

    def __init__(self) -> None:
        pass

    def apply(self, loaded: Loaded, peft_type: str | None) -> Any:
        """Freeze the encoder except its pooler, which is a part of the head that BERT keeps inside the encoder."""
        for parameter in encoder_of(loaded.model).parameters():
            parameter.requires_grad = False
        pooler = getattr(encoder_of(loaded.model), "pooler", None)
        if pooler is not None:
            for parameter in pooler.parameters():
                parameter.requires_grad = True
        return loaded.model


class TopLayers(Tuning):
    """The last transformer layers, the pooler and the head move; embeddings and lower layers stay.

    Args:
        n: Number of layers, counted from the top.
    """

    def __init__(self, *, n: Annotated[int, Field(ge=1)] = 2):
        self.n = n

    def apply(self, loaded: Loaded, peft_type: str | None) -> Any:
        """Freeze all but the top layers.

        Raises:
            ModelError: The encoder has fewer layers, or shares them (ALBERT).
        """
        layers = encoder_layers(loaded.model)
        if self.n > len(layers):
            raise ModelError(f"tuning.n is {self.n}, but the encoder has {len(layers)} layers.")
        if loaded.model.config.model_type == "albert":
            raise ModelError("ALBERT shares one layer at all depths, so top_layers cannot divide it; use full or lora.")
        for parameter in encoder_of(loaded.model).parameters():
            parameter.requires_grad = False
        top = [*layers[-self.n :], *_modules_above_layers(loaded.model)]
        for module in top:
            for parameter in module.parameters():
                parameter.requires_grad = True
        return loaded.model


def _modules_above_layers(model: Any) -> list[torch.nn.Module]:
    """Poolers and final norms, which come after the last layer."""
    names = ("pooler", "final_norm")
    found = [getattr(encoder_of(model), name, None) for name in names]
    return [module for module in found if module is not None]


class Lora(Tuning):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on the encoder's linear layers.

    The task head with its pooler, and every other module that the checkpoint did not hold, is trained in full and
    saved with the adapter: a head that starts at random and is not saved would be another one after every reload. Of
    the word embeddings the rows of new tokens are trained and saved, and no others.

    Args:
        rank: Rank r of the adapters.
        alpha: Scale: updates are multiplied by alpha / r (``rslora``: alpha / √r). By default 2 · rank.
        dropout: Dropout before the adapters.
        targets: Names of linear layers; by default all of them in the encoder's layers.
        variant: ``lora``, ``rslora`` (arXiv 2312.03732) or ``dora`` (arXiv 2402.09353).
    """

    trains_new_tokens = True

    def __init__(
        self,
        *,
        rank: Annotated[int, Field(ge=1)] = 16,
        alpha: Annotated[float, Field(gt=0)] | None = None,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        targets: list[str] | None = None,
        variant: Literal["lora", "rslora", "dora"] = "lora",
    ):
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = targets
        self.variant = variant

    def apply(self, loaded: Loaded, peft_type: str | None) -> Any:
        """Wrap the model with PEFT.

        Raises:
            ModelError: No layer of the model has one of the target names.
        """
        from peft import LoraConfig, get_peft_model

        targets = self._target_modules(loaded.model)
        alpha = 2 * self.rank if self.alpha is None else self.alpha
        config = LoraConfig(
            task_type=peft_type,
            r=self.rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            modules_to_save=_saved_modules(loaded) or None,
            use_rslora=self.variant == "rslora",
            use_dora=self.variant == "dora",
            trainable_token_indices=list(loaded.new_rows) or None,
        )
        with quiet():
            model = get_peft_model(loaded.model, config)
        if loaded.new_rows:
            _mend_new_rows(model)
        return model

    def _target_modules(self, model: Any) -> list[str]:
        names = self.targets
        if names is None:
            kind = model.config.model_type
            names = LORA_TARGETS["bert"] if kind in BERT_LIKE else LORA_TARGETS.get(kind)
        prefix = encoder_prefix(model)
        linear = [
            name
            for name, module in model.named_modules()
            if name.startswith(prefix) and isinstance(module, torch.nn.Linear) and ".pooler" not in name
        ]
        # Full names, so that nothing in the head is hit by a name that also occurs in the encoder.
        found = (
            linear if names is None else [name for name in linear if name.endswith(tuple(f".{end}" for end in names))]
        )
        unmatched = [end for end in names or [] if not any(name.endswith(f".{end}") for name in linear)]
        if not found or (self.targets is not None and unmatched):
            short = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ModelError(
                f"tuning.targets {unmatched} name no linear layer of the encoder. Layers: {', '.join(short)}."
            )
        return found


def _mend_new_rows(model: Any) -> None:
    """Put right what PEFT does with a matrix that has new rows."""
    decoder = model.get_output_embeddings()
    if hasattr(decoder, "token_adapter"):
        # A decoder that is tied to the embeddings is run without its bias.
        decoder.register_forward_hook(_with_bias)
    # Checkpoints would hold the whole matrix, because it has grown; the new rows are saved anyway.
    model.save_pretrained = functools.partial(model.save_pretrained, save_embedding_layers=False)


def _with_bias(decoder: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
    bias = decoder.original_module.bias
    return logits if bias is None else logits + bias


def _saved_modules(loaded: Loaded) -> list[str]:
    """Modules that an adapter must carry: the task head, and whatever else the checkpoint did not hold.

    A tied masked-LM decoder shares the embedding matrix; saving a copy would untie it, so it stays frozen.
    """
    model = loaded.model
    prefix = encoder_prefix(model)
    embedding = model.get_input_embeddings().weight
    masked_lm = model.get_output_embeddings() is not None
    saved: list[str] = []
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own or any(parameter is embedding for parameter in own.values()):
            continue
        fresh = any(f"{name}.{key}" in loaded.fresh for key in own)
        outside = not name.startswith(prefix)
        if not masked_lm and outside:
            # The head as a whole, as PEFT names it too: its layers would be wrapped twice otherwise.
            saved.append(name.split(".")[0])
        elif (not masked_lm and ".pooler." in f".{name}.") or (fresh and not list(module.children())):
            saved.append(name)
    return list(dict.fromkeys(saved))
