"""An adapter and its base as one model."""

from __future__ import annotations

from pathlib import Path

from . import finding, models
from .errors import ModelError
from .model_files import ADAPTER_CONFIG, label_config, read_object


def merge_into(source: finding.ResolvedModel, folder: Path) -> finding.ResolvedModel:
    """Write a base with its adapter merged as a model of its own, so that another adapter can go on top of it.

    Args:
        source: A resolved model with an adapter.
        folder: New folder; one that is complete is kept.

    Raises:
        ModelError: The adapter is for no task that is known here.
    """
    assert source.adapter is not None
    if not (folder / "config.json").is_file():
        kind = read_object(source.adapter / ADAPTER_CONFIG).get("task_type")
        heads = {"SEQ_CLS": "AutoModelForSequenceClassification", "TOKEN_CLS": "AutoModelForTokenClassification"}
        labels = models.label_names(source)
        if kind not in heads or labels is None:
            raise ModelError(f"model '{source.id}': an adapter for {kind} cannot be built upon.")
        own, names = read_object(source.adapter / "config.json"), label_config(labels)
        names |= {key: own[key] for key in ("problem_type",) if own.get(key) is not None}
        model = models.load_model(heads[kind], source, models.read_config(source, **names)).model
        part = folder.with_name(f"{folder.name}.part")
        with models.quiet():
            model.save_pretrained(part)
            models.save_tokenizer(models.load_tokenizer(source), part)
        part.replace(folder)
    return finding.ResolvedModel(
        str(folder.resolve()),
        None,
        folder,
        note=f"{source.note}, merged",
        adapter_id=source.adapter_id,
        adapter_commit=source.adapter_commit,
    )
