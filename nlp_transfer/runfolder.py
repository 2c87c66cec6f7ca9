"""The run folder: whose it is, what lies in it, and that nothing in it is ever half written."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from . import recipe as recipes
from .data.seen import Seen
from .errors import RecipeError, RunBusyError, RunError
from .hardware import describe
from .recipe.schema import Recipe
from .records import look_up, read_json
from .whole import write_text

_FULL = re.compile(r"No space left|Disk quota|unexpected pos|basic_ios")
"""What a failed write says in Rust, and in the two writers of torch."""

PACKAGES = (
    "nlp-transfer",
    "torch",
    "transformers",
    "datasets",
    "peft",
    "accelerate",
    "evaluate",
    "tokenizers",
)


LOCK = ".lock"
SEEN = "corpora.json"
"""Commit, number of rows and fingerprint of each streamed corpus."""


def claim(recipe: Recipe, fresh: bool) -> Path:
    """Make the run folder, or find it again.

    Args:
        recipe: The resolved recipe.
        fresh: Delete an earlier run in the same folder first.

    Returns:
        The folder, which now holds ``recipe.yaml``.

    Raises:
        RunError: The folder belongs to another recipe that has trained something, or is not a run folder.
        RunBusyError: Another process is making it, or writes it where something must be changed.
    """
    assert recipe.output is not None
    folder = Path(recipe.output)
    path = folder / "recipe.yaml"
    text = recipes.dump(recipe)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"output '{folder}' is a file. Set another `output:`.")
    if fresh and path.is_file():
        with locked(folder):
            _empty(folder)
    if folder.is_dir() and any(item.name != LOCK for item in folder.iterdir()):
        if not path.is_file() and (folder / LOCK).is_file():
            with locked(folder):
                pass  # If another process has just begun to write its recipe, this one is told that it is busy.
        if not path.is_file():
            raise RunError(f"output '{folder}' is not empty and holds no run. Set another `output:`, or empty it.")
        old = path.read_text(encoding="utf8")
        if old != text and (folder / "stages").is_dir() and not _same_training(path, recipe):
            raise RunError(
                f"run folder '{folder}' belongs to another recipe. {difference(old, text)} Set another `output:` (or "
                "name), or give --fresh to delete that run and begin anew."
            )
        if old != text:
            # That run stopped before it trained anything, at bad data for instance, and the recipe was mended since;
            # or what changed is only where the folder lies or the model is published.
            with locked(folder):
                write_text(path, text)
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        with locked(folder):
            if not path.is_file():
                write_text(path, text)
    return folder


def _same_training(path: Path, recipe: Recipe) -> bool:
    """Whether the recipe of a folder differs at most in its place, what is told of the model and where it is pushed."""
    try:
        old, _ = recipes.load(path)
    except RecipeError:
        return False
    elsewhere = {"card": recipe.card, "hub": recipe.hub, "output": recipe.output}
    return old is not None and old.model_copy(update=elsewhere) == recipe


def _empty(folder: Path) -> None:
    """Delete all but the lock, which this process holds.

    Stopped halfway, it leaves a run that can be begun anew, with no stage that says it is finished but is not whole.
    """
    for said in (folder / "metrics.json", *folder.glob("stages/**/done.json")):
        said.unlink(missing_ok=True)
    for item in sorted(folder.iterdir(), key=lambda item: item.name == "recipe.yaml"):
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        elif item.name != LOCK:
            item.unlink()


def difference(old: str, new: str) -> str:
    """Return the first lines in which the recipe of a folder and another one differ, as an error shows them."""
    before, after = old.splitlines(), new.splitlines()
    # Settings of the recipe stand in its stages, too.
    changed = list(dict.fromkeys(line.strip() for line in after if line not in before))[:3]
    gone = list(dict.fromkeys(line.strip() for line in before if line not in after))[:3]
    return f"There: {'; '.join(gone) or '-'}. Here: {'; '.join(changed) or '-'}."


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep two runs, or two predictions, from writing one folder at the same time.

    Raises:
        RunBusyError: Another live process holds the folder.
    """
    import fcntl

    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunBusyError(f"folder '{folder}' is in use by another process.") from error
        yield


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Name a full disk as such: torch and safetensors raise errors of their own, some without that word.

    Raises:
        RunError: The disk became full inside the block.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT) and not _FULL.search(str(error)):
            raise
        raise RunError(
            f"the disk of run folder '{folder}' is full ({str(error).splitlines()[0][:120]}). Checkpoints that were "
            "complete are kept: free some space, then run the same recipe again, and it resumes."
        ) from error


def environment(recipe: Recipe, fingerprints: dict[str, str], model: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader needs to judge or repeat the run: versions, hardware, seed, data, model."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "hardware": describe(),
        "commit": _commit(),
        "seed": recipe.seed,
        "data": fingerprints,
        "model": model,
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def write_json(path: Path, values: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_seen(folder: Path) -> dict[str, Seen]:
    """Return what a run has seen of its streamed corpora, by key path: it keeps to the commits that it began with.

    Raises:
        RunError: The file that says so is damaged.
    """
    path = folder / SEEN
    if not path.is_file():
        return {}
    mend = f"Delete '{path}', and the corpora are looked up and checked anew."
    keys = [entry.name for entry in fields(Seen)]
    return {
        role: Seen(**{key: look_up(values, path, mend, role, key) for key in keys})
        for values in [read_json(path, mend)]
        for role in values
    }


def write_seen(folder: Path, seen: Mapping[str, Seen]) -> None:
    """Keep what a run has seen of its streamed corpora."""
    if seen:
        write_json(folder / SEEN, {role: asdict(one) for role, one in seen.items()})
