"""Reload a saved model in a fresh process, and compare its logits with those that the trained model gave.

A process of its own, with another seed, has nothing of this one: a head or pooler that was not saved starts at random
there, and is seen. It takes the seconds that importing ``transformers`` takes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ..errors import RunError
from ..model_files import ADAPTER_CONFIG, has_adapter
from . import fresh_process
from .examples import Example

SEED = 999
TOLERANCE = 1e-3
"""Largest difference, as a part of the largest logit (at least 1): other kernels and merged adapters round otherwise.
A head that was not saved is off by a hundred times as much."""
DEADLINE = 600.0
"""Seconds that loading may take."""


def check_reload(folder: Path, examples: list[Example], base: Path | None = None) -> float:
    """Make sure that a saved model is the one that was trained.

    Args:
        folder: A model or adapter folder.
        examples: What the trained model gave.
        base: Where the base of an adapter lies on this machine, whatever the adapter calls it.

    Returns:
        The largest difference of a logit.

    Raises:
        RunError: The model does not load with plain ``transformers`` or ``peft``, or gives other logits.
    """
    with tempfile.TemporaryDirectory(prefix="reload-") as name:
        place = Path(name)
        (place / "examples.json").write_text(json.dumps(examples), encoding="utf8")
        found = _in_fresh_process(_on_local_base(folder, place, base), place)
    differences, largest = [0.0], 1.0
    for given, example in zip(found, examples, strict=True):
        logits, expected = np.asarray(given), np.asarray(example["logits"])
        if logits.shape != expected.shape:
            raise RunError(f"'{folder}' gives {logits.shape} logits after reloading, {expected.shape} in training.")
        differences.append(float(np.abs(logits - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    # NumPy's maximum is not a number where one difference is not; Python's may be 0.
    worst = float(np.max(differences))
    if not worst <= TOLERANCE * largest:
        raise RunError(
            f"'{folder}' is not the model that was trained: loaded in a fresh process, its logits differ by up to "
            f"{worst:.2g}. Some weights were not saved, or have changed since. Please report this with the recipe."
        )
    return worst


def _on_local_base(folder: Path, place: Path, base: Path | None) -> Path:
    """Return an adapter that finds its base here; any other folder as it is."""
    if base is None or not has_adapter(folder):
        return folder.resolve()
    copy = place / "adapter"
    shutil.copytree(folder, copy)
    config = json.loads((copy / ADAPTER_CONFIG).read_text(encoding="utf8"))
    config |= {"base_model_name_or_path": str(base.resolve()), "revision": None}
    (copy / ADAPTER_CONFIG).write_text(json.dumps(config), encoding="utf8")
    return copy


def _in_fresh_process(folder: Path, place: Path) -> list[object]:
    # -P: modules that lie beside the script must not be taken for others of the same name.
    command = [sys.executable, "-P", fresh_process.__file__, str(folder), str(place / "examples.json"), str(SEED)]
    settings = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(
            command, cwd=place, env=os.environ | settings, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"'{folder}' does not load within {DEADLINE:.0f} s in a fresh process.") from error
    if done.returncode:
        raise RunError(
            f"'{folder}' does not load in a fresh process with plain transformers or peft: "
            f"{(done.stderr.strip() or f'exit code {done.returncode}').splitlines()[-1][:300]}"
        )
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found
