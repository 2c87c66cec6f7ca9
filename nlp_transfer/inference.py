"""Answers for new text: load a run, a folder, a hub model or an export, predict with it and score it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import finding
from .data.label_map import map_labels
from .data.load import Split, load_split
from .errors import DataError, ModelError, Problem
from .exporting.predictor import load_export
from .exporting.record import is_export
from .fetching import is_url
from .model_files import label_config, labels_in, read_object
from .predictor import Predictor as Predictor
from .recipe.schema import Columns
from .settings import limits_of, read_settings, task_of
from .tasks.base import Score
from .tasks.ner import Ner
from .tasks.sentiment import polarised

if TYPE_CHECKING:
    from .tasks.base import Task


def load_predictor(
    model: str | Path,
    *,
    revision: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    precision: str = "auto",
    device: str | None = None,
) -> Predictor:
    """Load a run, a model or adapter folder, a hub model or an export for prediction.

    Args:
        model: Run folder, model folder, or hub id of a text- or token-classification model, as ``owner/name`` or
            ``owner/name@revision``; or the folder of an export, which answers without torch.
        revision: Revision of a hub id: a branch, tag or commit.
        max_length: Tokens in a window; by default as in training, else what the model can read (at most 512).
        batch_tokens: Most padded tokens in one forward pass.
        precision: ``auto`` (bf16 where native), ``fp32`` or ``bf16``. An export has the precision it was written in.
        device: ``cpu``, ``cuda``, …; by default a GPU if there is one. An export runs on the CPU.

    Raises:
        ModelError: The model is not found or has no task head; or an export is damaged or asked for what it is not.
    """
    return load_found(find(model, revision), max_length, batch_tokens, precision, device)


def find(model: str | Path, revision: str | None = None) -> Path | finding.ResolvedModel:
    """Find what :func:`load_predictor` is given: a hub id may stand for other weights a moment later.

    Args:
        model: As there.
        revision: As there.

    Returns:
        The folder of an export, for which torch is not loaded; else the resolved model.
    """
    folder = Path(model).expanduser()
    if is_export(folder):
        return folder
    name, _, pinned = str(model).partition("@")
    local = is_url(str(model)) or folder.exists() or Path(name).expanduser().exists()
    if pinned and revision is None and name.count("/") == 1 and not local:
        return finding.resolve(name, pinned)
    return finding.resolve(str(model), revision)


def load_found(
    found: Path | finding.ResolvedModel,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    precision: str = "auto",
    device: str | None = None,
) -> Predictor:
    """Load for prediction what :func:`find` has found; see :func:`load_predictor`."""
    if isinstance(found, Path):
        if precision == "bf16" or device not in (None, "cpu"):
            raise ModelError(
                f"'{found}' is an export: it runs on the CPU in the precision it was written in. For precision "
                f"{precision} on {device or 'the default device'}, load the run that it was made of."
            )
        return load_export(found, max_length, batch_tokens)
    return load_resolved(found, max_length, batch_tokens, precision, device)


def load_resolved(
    source: finding.ResolvedModel,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    precision: str = "auto",
    device: str | None = None,
) -> Predictor:
    """Load a resolved model for prediction; see :func:`load_predictor`."""
    from . import models
    from .hardware import choose_precision, default_device
    from .last_layer import read_first_token

    folder = source.folder if source.adapter is None else source.adapter
    head = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    labels = labels_in(head)
    settings = read_settings(folder)
    settings = _guess(source, head) if settings is None else settings
    task = task_of(settings, labels, source.id)
    config = models.read_config(source, **label_config(labels))
    task.mean_pooling = models.pools_by_mean(config)
    loaded = models.load_model(task.auto_class, source, config)
    if source.adapter is None and loaded.fresh:
        raise ModelError(
            f"model '{source.id}' has no trained task head: {sorted(loaded.fresh)[:3]} are missing. Train it first."
        )
    read_first_token(loaded.model)
    tokenizer = models.load_tokenizer(source)
    longest = models.longest_input(config, tokenizer)
    limits = limits_of(settings, longest, max_length, source.id)
    place = default_device() if device is None else device
    elsewhere = device is not None and device.partition(":")[0] != default_device().partition(":")[0]
    bf16 = choose_precision("fp32" if elsewhere and precision == "auto" else precision).bf16
    maps = {key: settings.get(key) for key in ("polarity", "label_map")}
    model, commit = loaded.model.to(place).eval(), source.own_commit
    return Predictor(model, tokenizer, task, limits, batch_tokens, bf16, **maps, commit=commit)


def _guess(source: finding.ResolvedModel, head: dict[str, Any]) -> dict[str, Any]:
    """Settings of a model that was not trained here, from its architecture."""
    architecture = " ".join(head.get("architectures") or [])
    if "ForTokenClassification" in architecture:
        return {"task": "ner"}
    if "ForSequenceClassification" in architecture:
        return {
            "task": "classification",
            "multi_label": head.get("problem_type") == "multi_label_classification",
        }
    raise ModelError(
        f"model '{source.id}' is a {architecture or 'model without a head'}: neither a text nor a token classifier. "
        "Fine-tune it with a recipe first."
    )


def evaluate(
    model: str | Path | Predictor,
    data: Any,
    *,
    columns: Columns | None = None,
    format: str | None = None,
    repair_tags: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Score:
    """Score a model on labelled rows.

    Args:
        model: Anything :func:`load_predictor` takes, or a predictor.
        data: A file, ``hub:owner/name``, or a ``datasets.Dataset``.
        columns: Names of the columns.
        format: Format of the file, where its suffix does not tell.
        repair_tags: Repair IOB2 violations instead of refusing the file.
        confidence: Level of the interval.
        resamples: Bootstrap resamples.

    Returns:
        Metrics, and the headline number with its interval. Labels are mapped as those of the target were in training;
        ``dropped`` says what that left out, ``commit`` which commit of a model of the hub has answered.

    Raises:
        DataError: Bad rows, or labels that the model does not know.
    """
    from .data.split import label_problems

    predictor = model if isinstance(model, Predictor) else load_predictor(model)
    task = predictor.task
    split = load_split(data, name="data", kind=task.row_kind, columns=columns, format=format, repair_tags=repair_tags)
    split, dropped = in_task_labels(predictor, split)
    problems = label_problems(known_labels(task), split)
    if problems:
        raise DataError(problems)
    answers = task.answer(predictor.logits(split.rows))
    score = task.score(task.gold(split.rows), answers, confidence, resamples)
    known = {"dropped": dropped, "commit": predictor.commit}
    return replace(score, metrics=score.metrics | {key: value for key, value in known.items() if value})


def in_task_labels(predictor: Predictor, split: Split) -> tuple[Split, dict[str, str]]:
    """Map raw labels as the run mapped those of its target; return what was dropped, too, by the setting's name."""
    dropped = {}
    if predictor.label_map is not None:
        mapped = map_labels(split, predictor.label_map)
        split, dropped["label_map"] = mapped.split, mapped
    if predictor.polarity is not None and not set(split.rows["label"][:]) <= set(predictor.task.labels):
        mapped = polarised(split, predictor.polarity)
        split, dropped["polarity"] = mapped.split, mapped
    if not len(split):
        raise DataError([Problem("the model's label maps drop every row (null)", split.origin)])
    return split, {name: mapped.told for name, mapped in dropped.items() if mapped.dropped}


def known_labels(task: Task) -> list[str]:
    """Return the labels that data may hold: entity types for NER."""
    return sorted({label[2:] for label in task.labels if label != "O"}) if isinstance(task, Ner) else task.labels
