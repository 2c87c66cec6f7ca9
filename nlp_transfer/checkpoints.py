"""Checkpoints that can be trusted after a crash: a manifest of hashes, written last, tells complete from damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import transformers

from .processes import wait_for_all

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Write the names, sizes and sha256 of all files in a folder, atomically."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    write_text(folder / MANIFEST, json.dumps(files, indent=1) + "\n")


def damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, or return None when it is complete."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
    except FileNotFoundError:
        return "it has no manifest: the run was stopped while it was being written"
    except (ValueError, OSError) as error:
        return f"its manifest cannot be read ({error})"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
        if _sha256(path) != entry["sha256"]:
            return f"{name} is not what was written (its sha256 differs)"
    return None


def newest_complete(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the checkpoint to resume from; set damaged ones aside.

    Args:
        folder: Folder that holds ``checkpoint-N`` folders.

    Returns:
        The newest complete checkpoint or None, and a line for each damaged one, which is renamed to
        ``damaged-checkpoint-N`` (the rotation of checkpoints would count it otherwise).
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    said: list[str] = []
    for path in found:
        fault = damage(path)
        if fault is None:
            return path, said
        aside = path.with_name(f"damaged-{path.name}")
        if aside.exists():
            shutil.rmtree(aside)
        path.rename(aside)
        said.append(f"{path} is damaged: {fault}. It was renamed to {aside.name}.")
    return None, said


def write_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves either the old or the new content, never half of it."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class ManifestCallback(transformers.TrainerCallback):
    """Write the manifest when all processes have written their files."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the manifest of the checkpoint of this step; ``training_args.bin`` (a pickle) is removed first."""
        wait_for_all()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "training_args.bin").unlink(missing_ok=True)
            write_manifest(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
