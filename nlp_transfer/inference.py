"""Answers for new text: load a run, a folder or a hub model, and predict in length-sorted batches.

Texts may be of any length and number; order is kept; results are the same whatever batch a text falls into (up to
rounding).
"""

from __future__ import annotations

import itertools
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from . import models
from .data.label_map import LabelMap, map_labels
from .data.load import Split, load_split
from .data.spans import words as split_words
from .data.tags import to_spans
from .data.windows import Limits
from .errors import DataError, ModelError, Problem
from .forward import window_logits
from .hardware import choose_precision, default_device
from .recipe.schema import Columns
from .tasks.base import Score, Task
from .tasks.classification import Classification, MultiLabel
from .tasks.ner import Ner
from .tasks.sentiment import polarised

SETTINGS = "nlp_transfer.json"
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs, which JSON escapes can bring in; no encoding can write them."""

CHUNK = 4096
"""Texts that are sorted by length together: memory stays bounded while batches hold little padding."""


@dataclass
class Predictor:
    """A model with everything that turns text into answers.

    Args:
        model: The model, adapters merged, in evaluation mode.
        tokenizer: Its tokenizer.
        task: The task with its labels and thresholds.
        limits: How texts are cut into windows.
        batch_tokens: Most padded tokens in one forward pass.
        bf16: Compute in bfloat16.
        polarity: Which raw labels mean what, for the scoring of rows with raw labels.
        label_map: New names for the labels of target rows, which rows that are scored are taken for.
    """

    model: Any
    tokenizer: Any
    task: Task
    limits: Limits
    batch_tokens: int = 2048
    bf16: bool = False
    polarity: LabelMap | None = None
    label_map: LabelMap | None = None

    def __call__(self, texts: str | Sequence[str]) -> list[dict[str, Any]]:
        """Answer for some texts.

        Args:
            texts: One text, or a list of them.

        Returns:
            One mapping a text, in order. Classification: ``label``, ``score`` and ``probabilities`` by label;
            multi-label: ``labels`` and ``probabilities``. NER: ``words`` (``word``, ``start``, ``end``, ``tag``,
            ``score``) and ``entities`` (``text``, ``label``, ``start``, ``end``, ``score``), offsets in characters.
            Empty texts are answered too (with ``empty: true``): without words there are no entities, and a
            classifier says what it says of nothing. Lone surrogates are read (and given back) as U+FFFD.

        Raises:
            TypeError: Something is not a text.
        """
        return list(self.stream([texts] if isinstance(texts, str) else texts))

    def stream(self, texts: Iterable[str], chunk: int = CHUNK) -> Iterator[dict[str, Any]]:
        """Answer for any number of texts, holding ``chunk`` of them in memory; see :meth:`__call__`."""
        source = iter(texts)
        while batch := list(itertools.islice(source, chunk)):
            for number, text in enumerate(batch):
                if not isinstance(text, str):
                    raise TypeError(f"text {number} is a {type(text).__name__}, not a string: {text!r}")
            yield from self._answer([_SURROGATE.sub("\ufffd", text) for text in batch])

    def logits(self, rows: datasets.Dataset, shared: bool = False) -> list[np.ndarray]:
        """Return combined logits of canonical rows; see :meth:`nlp_transfer.tasks.base.Task.combine`.

        Args:
            rows: Canonical rows.
            shared: Under several processes, share the work; all of them must call then.
        """
        encoded = self.task.encode(rows, self.tokenizer, self.limits, labelled=False)
        values = window_logits(
            self.model,
            encoded.windows,
            self.tokenizer.pad_token_id,
            self.batch_tokens,
            autocast=self.bf16,
            shared=shared,
        )
        return self.task.combine(encoded, values)

    def _answer(self, texts: list[str]) -> list[dict[str, Any]]:
        if isinstance(self.task, Ner):
            return self._entities(texts)
        rows = datasets.Dataset.from_dict({"text": texts})
        logits = self.logits(rows)
        answers = self.task.answer(logits)
        return [
            text_answer(self.task, text, answer, row) for text, answer, row in zip(texts, answers, logits, strict=True)
        ]

    def _entities(self, texts: list[str]) -> list[dict[str, Any]]:
        spans = [split_words(text) for text in texts]
        words = [[text[start:end] for start, end in found] for text, found in zip(texts, spans, strict=True)]
        starts = [[start for start, _ in found] for found in spans]
        features = datasets.Features(
            {
                "text": datasets.Value("string"),
                "words": datasets.List(datasets.Value("string")),
                "starts": datasets.List(datasets.Value("int32")),
            }
        )
        rows = datasets.Dataset.from_dict({"text": texts, "words": words, "starts": starts}, features=features)
        logits = self.logits(rows)
        tags = self.task.answer(logits)
        return [token_answer(self.task, *row) for row in zip(texts, words, starts, tags, logits, strict=True)]


def text_answer(task: Task, text: str, answer: Any, logits_C: np.ndarray) -> dict[str, Any]:
    """Return the answer for one text as :meth:`Predictor.__call__` describes it."""
    assert isinstance(task, Classification)
    values = [round(float(value), 6) for value in task.probabilities(logits_C)]
    probabilities = dict(zip(task.labels, values, strict=True))
    result: dict[str, Any] = {"text": text}
    if isinstance(task, MultiLabel):
        result |= {"labels": answer, "probabilities": probabilities}
    else:
        result |= {"label": answer, "score": probabilities[answer], "probabilities": probabilities}
    return result if text.strip() else result | {"empty": True}


def token_answer(
    task: Task,
    text: str,
    words: Sequence[str],
    starts: Sequence[int],
    tags: Sequence[str],
    logits_UC: np.ndarray,
) -> dict[str, Any]:
    """Return the answer for one text of a token task as :meth:`Predictor.__call__` describes it."""
    assert isinstance(task, Ner)
    tags = [*tags, *["O"] * (len(words) - len(tags))]
    probabilities_UC = task.probabilities(logits_UC)
    scores = [float(row[task.index[tag]]) for tag, row in zip(tags, probabilities_UC, strict=False)]
    scores += [1.0] * (len(words) - len(scores))
    listed = [
        {"word": word, "start": start, "end": start + len(word), "tag": tag, "score": round(score, 6)}
        for word, start, tag, score in zip(words, starts, tags, scores, strict=True)
    ]
    entities = []
    for span in to_spans(words, starts, tags):
        inside = scores[bisect_left(starts, span["start"]) : bisect_left(starts, span["end"])]
        entities.append({"text": text[span["start"] : span["end"]], **span, "score": round(min(inside), 6)})
    result: dict[str, Any] = {"text": text, "words": listed, "entities": entities}
    return result if text.strip() else result | {"empty": True}


def write_settings(
    folder: Path, task: Task, limits: Limits, polarity: LabelMap | None = None, label_map: LabelMap | None = None
) -> None:
    """Write beside a model what prediction needs and plain Hugging Face files do not hold."""
    values = {
        "task": task.name,
        "multi_label": isinstance(task, MultiLabel),
        "limits": {"max_length": limits.max_length, "stride": limits.stride, "truncate": limits.truncate},
        **({} if polarity is None else {"polarity": polarity}),
        **({} if label_map is None else {"label_map": label_map}),
        **task.settings(),
    }
    (folder / SETTINGS).write_text(json.dumps(values, indent=2) + "\n", encoding="utf8")


def load_predictor(
    model: str | Path,
    *,
    revision: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    precision: str = "auto",
    device: str | None = None,
) -> Predictor:
    """Load a run, a model or adapter folder, or a hub model for prediction.

    Args:
        model: Run folder, model folder, or hub id of a text- or token-classification model.
        revision: Revision of a hub id.
        max_length: Tokens in a window; by default as in training, else what the model can read (at most 512).
        batch_tokens: Most padded tokens in one forward pass.
        precision: ``auto`` (bf16 where native), ``fp32`` or ``bf16``.
        device: ``cpu``, ``cuda``, …; by default a GPU if there is one.

    Raises:
        ModelError: The model is not found or has no task head.
    """
    source = models.resolve(str(model), revision)
    return load_resolved(source, max_length, batch_tokens, precision, device)


def load_resolved(
    source: models.ResolvedModel,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    precision: str = "auto",
    device: str | None = None,
) -> Predictor:
    """Load a resolved model for prediction; see :func:`load_predictor`."""
    folder = source.folder if source.adapter is None else source.adapter
    head = json.loads((folder / "config.json").read_text(encoding="utf8")) if (folder / "config.json").is_file() else {}
    # Two labels with the library's own names are left out of config.json.
    names = head.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    labels = [names[key] for key in sorted(names, key=int)]
    settings_file = folder / SETTINGS
    settings = json.loads(settings_file.read_text(encoding="utf8")) if settings_file.is_file() else _guess(source, head)
    if settings["task"] == "ner":
        _check_tags(source, labels)
    task = _task(settings, labels)
    changes = {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "label2id": task.index}
    config = models.read_config(source, **changes)
    task.mean_pooling = models.pools_by_mean(config)
    loaded = models.load_model(task.auto_class, source, config)
    if source.adapter is None and loaded.fresh:
        raise ModelError(
            f"model '{source.id}' has no trained task head: {sorted(loaded.fresh)[:3]} are missing. Train it first."
        )
    tokenizer = models.load_tokenizer(source)
    longest = models.longest_input(config, tokenizer)
    limits = Limits(**settings["limits"]) if "limits" in settings else Limits(min(512, longest))
    if max_length is not None:
        if max_length > longest:
            raise ModelError(f"max_length {max_length} is more than the {longest} tokens that '{source.id}' can read.")
        limits = Limits(max_length, limits.stride, limits.truncate)
    place = default_device() if device is None else device
    elsewhere = device is not None and device.partition(":")[0] != default_device().partition(":")[0]
    bf16 = choose_precision("fp32" if elsewhere and precision == "auto" else precision).bf16
    maps = {key: settings.get(key) for key in ("polarity", "label_map")}
    return Predictor(loaded.model.to(place).eval(), tokenizer, task, limits, batch_tokens, bf16, **maps)


def _guess(source: models.ResolvedModel, head: dict[str, Any]) -> dict[str, Any]:
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


def _check_tags(source: models.ResolvedModel, labels: list[str]) -> None:
    """Refuse label names that are no IOB2 tags: decoding them as such would answer ``O`` everywhere."""
    kinds = {label[2:] for label in labels if label != "O"}
    if set(labels) != {"O", *(f"{side}-{kind}" for kind in kinds for side in "BI")}:
        raise ModelError(
            f"model '{source.id}' is a token classifier whose labels {labels[:6]} are no IOB2 tags ('O', and 'B-…' "
            "with 'I-…' of each entity type), so its entities cannot be read off."
        )


def _task(settings: dict[str, Any], labels: list[str]) -> Task:
    if settings["task"] == "ner":
        return Ner(labels)
    if settings.get("multi_label"):
        thresholds = settings.get("thresholds", {})
        return MultiLabel(labels, [thresholds.get(label, 0.5) for label in labels])
    return Classification(labels)


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
        ``dropped`` says what that left out.

    Raises:
        DataError: Bad rows, or labels that the model does not know.
    """
    from .data.split import label_problems

    predictor = model if isinstance(model, Predictor) else load_predictor(model)
    task = predictor.task
    split = load_split(data, name="data", kind=task.row_kind, columns=columns, format=format, repair_tags=repair_tags)
    split, dropped = _in_task_labels(predictor, split)
    problems = label_problems(known_labels(task), split)
    if problems:
        raise DataError(problems)
    answers = task.answer(predictor.logits(split.rows))
    score = task.score(task.gold(split.rows), answers, confidence, resamples)
    return replace(score, metrics=score.metrics | {"dropped": dropped}) if dropped else score


def _in_task_labels(predictor: Predictor, split: Split) -> tuple[Split, dict[str, str]]:
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
