"""Writing a model in another format: converted, checked against the model on real rows, and only then kept."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets

from .. import models
from ..errors import ModelError, nearest
from ..fetching import without_user
from ..inference import load_predictor
from ..predictor import Predictor
from ..runfolder import write_json
from ..settings import write_settings
from . import graph
from .parity import Parity, compare
from .predictor import load_export
from .processor import saturates
from .record import GRAPH, RECORD, is_export
from .rows import check_rows, run_folder

FORMATS = ("onnx",)
TOLERANCE = 1e-4
"""Largest difference of a logit that an export in fp32 may have."""
PACKAGES = ("nlp-transfer", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What an export left behind.

    Args:
        folder: Its folder, for :func:`nlp_transfer.load_predictor`.
        fp32: How close the graph is to the model.
        int8: How close its int8 form is; None where none was asked for.
        size: Bytes of the graph and its weights.
    """

    folder: Path
    fp32: Parity
    int8: Parity | None
    size: int


def export(
    run: str | Path,
    folder: str | Path | None = None,
    *,
    format: str = "onnx",
    int8: bool = False,
    data: Any = None,
    max_loss: float = 0.01,
    rows: int = 1000,
    force: bool = False,
) -> Exported:
    """Write a model for ONNX Runtime, and check that it answers as the model does.

    The folder holds the graph with adapters merged, the tokenizer, and what prediction needs (labels, windows,
    thresholds): :func:`nlp_transfer.load_predictor` takes it and needs no torch.

    Args:
        run: Run folder, model or adapter folder, or hub id.
        folder: New folder; by default ``onnx`` or ``onnx-int8`` in the run folder.
        format: ``onnx``.
        int8: Round weights to 8 bits: a quarter of the size and quicker, at some loss.
        data: Labelled rows to check on; by default source dev as the run has scored it.
        max_loss: Largest loss of the task's headline score on these rows that int8 may cost, 0 to 1.
        rows: Most rows that are checked.
        force: Keep an int8 export that loses more.

    Raises:
        ModelError: The model is an export itself, the folder is there already, the architecture cannot be exported,
            there are no rows to check on, the graph's logits are off by more than 1e-4, or int8 loses too much. Nothing
            is left behind then.
    """
    if format not in FORMATS:
        raise ModelError(f"format '{format}' is not known. Formats: {', '.join(FORMATS)}.{nearest(format, FORMATS)}")
    if is_export(Path(run).expanduser()):
        raise ModelError(f"'{run}' is an export already, which cannot be exported again. Name the run it was made of.")
    target = _target(run, folder, int8)
    graph.require()
    model = load_predictor(run, precision="fp32", device="cpu")
    checked, origin = check_rows(run, model, data, rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    reduced = saturates()
    part = target.with_name(f".{target.name}-{os.getpid()}")
    part.mkdir()
    try:
        fp32 = _convert(model, part, checked, origin)
        quantised = _quantise(model, part, checked, origin, reduced) if int8 else None
        if quantised is not None and quantised.loss > max_loss and not force:
            raise ModelError(
                f"int8 loses {quantised.loss:.4f} of {quantised.headline}, more than max_loss {max_loss:g}: "
                f"{quantised.told}. Export without int8, allow more, or force it."
            )
        size = sum(path.stat().st_size for path in part.glob(f"{GRAPH}*"))
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        parities = {"fp32": asdict(fp32)} | ({} if quantised is None else {"int8": asdict(quantised)})
        precision = {"precision": "int8", "reduced_range": reduced} if int8 else {"precision": "fp32"}
        # A folder's place is nobody else's business.
        own = Path(run).expanduser()
        made = {"model": own.resolve().name if own.exists() else without_user(str(run)), "commit": model.commit}
        _record(part, model, made | precision | {"parity": parities, "versions": versions})
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(target, fp32, quantised, size)


def _target(run: str | Path, folder: str | Path | None, int8: bool) -> Path:
    """Return where the export goes, which must not be there yet."""
    if folder is not None:
        target = Path(folder).expanduser()
    else:
        home = run_folder(run)
        if home is None:
            raise ModelError(f"'{run}' is no finished run; say where the export goes: --output FOLDER.")
        target = home / ("onnx-int8" if int8 else "onnx")
    if target.exists():
        raise ModelError(f"'{target}' exists already. Delete it, or name another folder: --output FOLDER.")
    return target


def _convert(model: Predictor, folder: Path, rows: datasets.Dataset, origin: str) -> Parity:
    """Write the graph and what goes with it, and check it."""
    graph.write_graph(model.model, model.tokenizer.pad_token_id, folder / GRAPH)
    with models.quiet():
        model.model.config.save_pretrained(folder)
        models.save_tokenizer(model.tokenizer, folder)
    write_settings(folder, model.task, model.limits, model.polarity, model.label_map)
    _record(folder, model, {})
    parity = compare(model, load_export(folder), rows, origin)
    if not parity.largest <= TOLERANCE:
        raise ModelError(f"the exported graph answers otherwise than the model: {parity.told}; allowed: {TOLERANCE:g}.")
    return parity


def _quantise(model: Predictor, folder: Path, rows: datasets.Dataset, origin: str, reduced: bool) -> Parity:
    """Put an int8 graph in the place of the one in fp32, and compare it with the model."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for path in folder.glob(f"{GRAPH}*"):
            path.rename(Path(place) / path.name)
        graph.quantise(Path(place) / GRAPH, folder / GRAPH, reduced)
    return compare(model, load_export(folder), rows, origin)


def _record(folder: Path, model: Predictor, facts: dict[str, Any]) -> None:
    known = {
        "format": "onnx",
        "labels": model.task.labels,
        "longest": models.longest_input(model.model.config, model.tokenizer),
        "mean_pooling": model.task.mean_pooling,
    }
    write_json(folder / RECORD, known | facts)
