"""The metadata of a card, by the hub's rules (https://huggingface.co/docs/hub/model-cards)."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..chosen import is_oracle
from ..guard import ADAPTED
from ..recipe.files import DataFile
from ..recipe.shipped import HUB
from ..recipe.stages import PretrainStage
from ..report.record import Record
from .facts import Facts
from .origins import ORACLES, with_origins

PIPELINES = {"AutoModelForTokenClassification": "token-classification"}
NAMES = {"text-classification": "Text classification", "token-classification": "Token classification"}


def metadata(record: Record, facts: Facts) -> ModelCardData:
    """Return the metadata of a run's card. What nobody has told is left out, never made up.

    Args:
        record: The run's record.
        facts: What else is known.
    """
    pipeline = pipeline_of(facts)
    recipe, adapted = record.recipe, record.metrics["kept"] == ADAPTED
    known: dict[str, Any] = {
        "language": facts.spec.languages or None,
        "license": facts.spec.license,
        "base_model": facts.base,
        "base_model_relation": None if facts.base is None else facts.relation,
        "datasets": hub_datasets(record, facts) or None,
    }
    return ModelCardData(
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag=pipeline,
        metrics=["f1"] if record.kind == "ner" else ["accuracy", "f1"],
        tags=[
            *("nlp_transfer", recipe.task.name),
            *(["domain-adaptation", *(part.name for part in recipe.methods)] if adapted else []),
            *facts.spec.tags,
        ],
        model_name=recipe.name,
        eval_results=_results(record, pipeline),
        **{key: value for key, value in known.items() if value is not None},
    )


def pipeline_of(facts: Facts) -> str:
    """Return the hub's name of the task."""
    return PIPELINES.get(facts.auto_class, "text-classification")


def hub_datasets(record: Record, facts: Facts) -> list[str]:
    """Return the hub ids of the data sets that the kept model was trained on, each once."""
    recipe = record.recipe
    files: list[DataFile | None] = [source.train for source in recipe.data.sources.values()]
    if recipe.uses_target_labels:
        files.append(recipe.data.target.train)
    if record.metrics["kept"] == ADAPTED:
        files.append(recipe.data.target.unlabelled or recipe.data.target.train)
        files += [stage.corpus for stage in recipe.stages if isinstance(stage, PretrainStage)]
    read = [file.path.removeprefix(HUB) for file in files if file is not None and file.path.startswith(HUB)]
    return list(dict.fromkeys([*read, *facts.spec.datasets]))


def _results(record: Record, pipeline: str) -> list[EvalResult]:
    """Return the scores of the model that is kept: one result a split and metric."""
    files = record.recipe.data.files
    metrics = with_origins(record.metrics, record.folder)
    kept, chosen = metrics["kept"], ""
    if kept in metrics.get(ORACLES, {}):
        chosen = " (made of a model that was selected with target labels)"
    # The twin's checkpoint is source dev's.
    if kept == ADAPTED and is_oracle(metrics["selection"]):
        chosen = " (checkpoint selected with target labels)"
    found: list[EvalResult] = []
    for split, scores in metrics["scores"][kept].items():
        data = _data_of(split, files.get(split))
        if any(data == {key: getattr(one, key) for key in data} for one in found):
            # Results of equal data are taken for one, and these rows were read in another way: with other labels.
            data = _data_of(split, None)
        for name in ("accuracy", "f1", "macro_f1", "micro_f1"):
            if not isinstance(scores.get(name), float):
                continue
            found.append(
                EvalResult(
                    task_type=pipeline,
                    task_name=NAMES[pipeline],
                    dataset_name=f"{record.recipe.name}: {split}",
                    **data,
                    metric_type=name.rsplit("_", 1)[-1],
                    metric_name=f"{name.replace('_', ' ')}{chosen}",
                    metric_value=round(scores[name], 6),
                )
            )
    return found


def _data_of(split: str, file: DataFile | None) -> dict[str, Any]:
    """Return what tells the hub which rows were scored; of files of this machine the role that they have."""
    if file is None or not file.path.startswith(HUB):
        return {"dataset_type": split, "dataset_split": split.rsplit(".", 1)[-1]}
    return {
        "dataset_type": file.path.removeprefix(HUB),
        "dataset_config": file.config,
        "dataset_split": file.split or split.rsplit(".", 1)[-1],
        "dataset_revision": file.revision,
    }
