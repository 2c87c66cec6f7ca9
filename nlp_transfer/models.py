"""Loading models the same way every time: fp32, safetensors, encoders only, no remote code."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from .attention import use_fast_attention
from .errors import ModelError, first_line
from .finding import ResolvedModel
from .model_files import labels_in, read_object


def read_config(model: ResolvedModel, **changes: Any) -> Any:
    """Read a model's configuration and make sure that it is an encoder.

    Args:
        model: A resolved model.
        changes: Configuration values to set.

    Returns:
        A ``PretrainedConfig``.

    Raises:
        ModelError: The model brings its own code, is of an unknown type, or is not an encoder.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(model.folder, trust_remote_code=False, **changes)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"model '{model.id}': its configuration cannot be used: {first_line(error)}") from error
    decoder = getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False)
    if decoder or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelError(
            f"model '{model.id}' is a '{config.model_type}', not an encoder. Take a BERT-family model: BERT, "
            "DistilBERT, RoBERTa, DeBERTa-v2, ELECTRA, ALBERT, MPNet, ModernBERT, …"
        )
    return config


def load_tokenizer(model: ResolvedModel) -> Any:
    """Load the tokenizer of a model.

    Raises:
        ModelError: There is none, it has no fast version (offsets and word borders need one) or no padding token.
    """
    folder = (
        model.adapter if model.adapter is not None and (model.adapter / "tokenizer.json").is_file() else model.folder
    )
    with quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            raise ModelError(f"model '{model.id}': its tokenizer cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"model '{model.id}': its tokenizer has no fast version (tokenizer.json), which word borders and character "
            "offsets need. Convert it with `transformers` or choose another model."
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # transformers makes an empty tokenizer where there are no files: every word would be unknown.
        raise ModelError(f"model '{model.id}': {folder} holds no vocabulary for its tokenizer (tokenizer.json).")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"model '{model.id}': its tokenizer has no padding token.")
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer that neither cuts nor pads by itself.

    Cutting texts into windows leaves truncation switched on in its core, which would be saved, too: whoever reads
    ``tokenizer.json`` without ``transformers`` would then see the first window of a text only.

    Args:
        tokenizer: A fast tokenizer.
        folder: The folder.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def longest_input(config: Any, tokenizer: Any) -> int:
    """Return the number of tokens that the model can read at once, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa and MPNet count positions from padding_idx + 1, and keep two more than they can use.
    if positions is not None and config.model_type in {
        "roberta",
        "xlm-roberta",
        "camembert",
        "mpnet",
        "longformer",
    }:
        positions -= 2
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit is not None and 0 < limit < 10**6]
    return int(min(limits)) if limits else 512


@dataclass(frozen=True)
class Loaded:
    """A model as it comes from a checkpoint.

    Args:
        model: In fp32, on the CPU.
        fresh: Names of parameters that the checkpoint did not hold: they start at random.
        new_rows: Rows of the word embeddings that it did not hold: those of new tokens.
    """

    model: Any
    fresh: frozenset[str]
    new_rows: tuple[int, ...] = ()

    @property
    def fresh_head(self) -> bool:
        """Whether the checkpoint held not all of the head, or nothing of it."""
        return any(not name.startswith(encoder_prefix(self.model)) for name in self.fresh)


def load_model(auto_class: str, source: ResolvedModel, config: Any) -> Loaded:
    """Load weights for one kind of head.

    Args:
        auto_class: Name of a ``transformers`` auto class.
        source: A resolved model. An adapter is merged into its base.
        config: From :func:`read_config`.

    Raises:
        ModelError: There are no safetensors weights, or they are damaged.
    """
    with quiet():
        try:
            model, info = getattr(transformers, auto_class).from_pretrained(
                source.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
            if source.adapter is not None:
                model = _merge_adapter(model, source)
        except Exception as error:
            raise ModelError(
                f"model '{source.id}': its weights cannot be loaded: {first_line(error)}. Weights are read from "
                "safetensors files only; convert others with `transformers` first."
            ) from error
    # A head for other labels has another size and starts anew; an encoder of another size is damage.
    mismatched = {entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]}
    wrong = sorted(name for name in mismatched if name.startswith(encoder_prefix(model)))
    if wrong:
        raise ModelError(f"model '{source.id}': its weights do not fit its config.json: {wrong[:3]}.")
    use_fast_attention(model)
    return Loaded(model, frozenset({*info["missing_keys"], *mismatched}))


def _merge_adapter(model: Any, source: ResolvedModel) -> Any:
    from peft import PeftModel

    assert source.adapter is not None
    if not (source.adapter / "adapter_model.safetensors").is_file():
        # PEFT would take a pickle instead.
        raise ModelError(f"model '{source.adapter}': this adapter has no adapter_model.safetensors. Save it as one.")
    tokens = len(load_tokenizer(source))
    if tokens > model.get_input_embeddings().num_embeddings:
        # The adapter holds the new rows, as PEFT's own loading takes for granted, too.
        model.resize_token_embeddings(tokens, mean_resizing=False)
    return PeftModel.from_pretrained(model, source.adapter).merge_and_unload()


def label_names(source: ResolvedModel) -> list[str] | None:
    """Return the labels that a checkpoint's head was trained for, or None where it has no such head."""
    path = (source.folder if source.adapter is None else source.adapter) / "config.json"
    values = read_object(path) if path.is_file() else {}
    heads = any("Classification" in name for name in values.get("architectures") or [])
    named = heads or (source.adapter is not None and bool(values.get("id2label")))
    return labels_in(values) if named else None


def has_head(source: ResolvedModel, auto_class: str) -> bool:
    """Whether a checkpoint (not an adapter) holds a head of one kind, such as ``AutoModelForTokenClassification``."""
    values = read_object(source.folder / "config.json")
    return any(name.endswith(auto_class.removeprefix("AutoModel")) for name in values.get("architectures") or [])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence load reports and progress bars of transformers inside the block; what matters is said by the run."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # PEFT still asks transformers by an old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def pools_by_mean(config: Any) -> bool:
    """Whether the text head of this architecture reads the mean over tokens (ModernBERT can), not the first token."""
    return getattr(config, "classifier_pooling", "cls") == "mean"


def without_peft(model: Any) -> Any:
    """Return the model inside a PEFT model, any other as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_tied_decoder(model: Any) -> bool:
    """Whether the decoder of a masked-LM model is the matrix of its input embeddings."""
    decoder = model.get_output_embeddings()
    return decoder is not None and decoder.weight is model.get_input_embeddings().weight


def encoder_of(model: Any) -> Any:
    """Return the encoder (``model.bert``, ``model.roberta``, …) inside a model with a head, also under PEFT."""
    inner = without_peft(model)
    return getattr(inner, inner.base_model_prefix)


def encoder_prefix(model: Any) -> str:
    """Return the name under which the encoder hangs in its model, with a dot: ``bert.``."""
    inner = without_peft(model)
    return f"{inner.base_model_prefix}."


def encoder_layers(model: Any) -> list[Any]:
    """Return the encoder's transformer layers from bottom to top.

    Raises:
        ModelError: The architecture keeps them where nothing is known of.
    """
    encoder = encoder_of(model)
    for path in ("encoder.layer", "transformer.layer", "layers", "encoder.albert_layer_groups"):
        found = encoder
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, torch.nn.ModuleList):
            return list(found)
    raise ModelError(f"the layers of a {type(encoder).__name__} were not found; use tuning full, lora or frozen.")
