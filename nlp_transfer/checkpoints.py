"""Checkpoints that can be trusted after a crash: a manifest of hashes, written last, tells complete from damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers.trainer_utils import rotate_checkpoints

from .hashing import file_sha256
from .processes import wait_for_all
from .whole import write_text

MANIFEST = "manifest.json"
MARK = "fingerprint"


def write_manifest(folder: Path) -> None:
    """Write the names, sizes and sha256 of all files in a folder, atomically."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    write_text(folder / MANIFEST, json.dumps(files, indent=1) + "\n")


def damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, or return None when it is complete."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
        listed = [(name, entry["bytes"], entry["sha256"]) for name, entry in files.items()]
    except FileNotFoundError:
        return "it has no manifest: the run was stopped while it was being written"
    except (ValueError, OSError, AttributeError, KeyError, TypeError) as error:
        return f"its manifest cannot be read ({error})"
    for name, size, sha256 in listed:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if file_sha256(path) != sha256:
            return f"{name} is not what was written (its sha256 differs)"
    return None


def any_complete(folder: Path) -> bool:
    """Whether a folder holds a checkpoint to resume from."""
    return any(damage(path) is None for path in _checkpoints(folder))


def discard_others(folder: Path, fingerprint: str) -> bool:
    """Delete what a stage of other data or settings has left, and mark the folder as this stage's.

    Args:
        folder: Folder of a stage.
        fingerprint: Hash of everything that determines the stage's result.

    Returns:
        Whether there was something else.
    """
    mark = folder / MARK
    other = mark.is_file() and mark.read_text(encoding="utf8") != fingerprint
    if other:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(mark, fingerprint)
    return other


def newest_complete(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the checkpoint to resume from; set damaged ones aside.

    Args:
        folder: Folder that holds ``checkpoint-N`` folders.

    Returns:
        The newest complete checkpoint or None, and a line for each damaged one, which is renamed to
        ``damaged-checkpoint-N`` (the rotation of checkpoints would count it otherwise).
    """
    said: list[str] = []
    for path in _checkpoints(folder):
        fault = damage(path)
        if fault is None:
            return path, said
        aside = path.with_name(f"damaged-{path.name}")
        if aside.exists():
            shutil.rmtree(aside)
        path.rename(aside)
        said.append(f"{path} is damaged: {fault}. It was renamed to {aside.name}.")
    return None, said


class ManifestCallback(transformers.TrainerCallback):
    """Write the manifest when all processes have written their files, and only then delete older checkpoints.

    The Trainer deletes them before: a run that is killed in between would have no complete checkpoint left.

    Args:
        keep: Checkpoints to keep; the newest and the best one always stay.
    """

    def __init__(self, keep: int):
        self.keep = keep

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the manifest of the checkpoint of this step; ``training_args.bin`` (a pickle) is removed first."""
        wait_for_all()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "training_args.bin").unlink(missing_ok=True)
            write_manifest(folder)
            rotate_checkpoints(args.output_dir, self.keep, state.best_model_checkpoint, use_mtime=True)


def _checkpoints(folder: Path) -> list[Path]:
    """Folders that the Trainer named ``checkpoint-N``, newest first."""
    numbers = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")}
    found = [path for path, number in numbers.items() if number.isdecimal()]
    return sorted(found, key=lambda path: int(numbers[path]), reverse=True)


def copy_folder(source: Path, target: Path, ignore: Callable[[str, list[str]], list[str]] | None = None) -> None:
    """Copy a folder so that the target is either whole or absent.

    Args:
        source: The folder.
        target: The copy.
        ignore: Of a folder and the names in it, those that are not copied.
    """
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part, ignore=ignore)
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
