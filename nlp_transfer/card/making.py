"""How a model was made, by its run's record, with the papers behind each part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import parts
from ..guard import ADAPTED
from ..methods.mean_teacher import MeanTeacher
from ..recipe.schema import Recipe
from ..recipe.shipped import HUB
from ..recipe.stages import AnyStage, FinetuneStage, PretrainStage, SelfTrainStage, SoupStage
from ..report.facts import made_with
from ..report.record import Record
from .facts import Facts

SOUP = (
    "mean of the weights of {} models (Wortsman et al. 2022, Model soups, arXiv 2203.05482; Rame et al. 2022, Diverse "
    "Weight Averaging, arXiv 2205.09739)"
)
SELF_TRAINING = (
    "Zou et al. 2018, Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training, arXiv 1810.07911"
)
TUNING_PAPERS = {
    "lora": "Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685",
    "rslora": "Kalajdzievski 2023, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, arXiv 2312.03732",
    "dora": "Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation, arXiv 2402.09353",
}
AVERAGES = {
    "ema": "exponential moving average over the steps (Polyak and Juditsky 1992)",
    "swa": "mean over the last steps (Izmailov et al. 2018, Stochastic Weight Averaging, arXiv 1803.05407)",
}


def making(record: Record, facts: Facts) -> list[str]:
    """Return the section of a card on how the model was made.

    Args:
        record: The run's record.
        facts: What else is known.
    """
    recipe, environment = record.recipe, record.environment
    rows = environment.get("rows", {})
    made = made_with(environment)
    cited = {name: told.get("citation") for name, told in facts.methods.items()}
    return [
        "## How it was made",
        "",
        *_not_kept(recipe, record.metrics),
        f"- tuning: {_part(recipe.tuning)}{_cited(TUNING_PAPERS.get(_variant(recipe)))}",
        *_average_lines(recipe),
        *_vocabulary_lines(recipe),
        *source_lines(record),
        *_map_lines(recipe),
        f"- stages: {', '.join(map(_stage, recipe.stages))}",
        *[f"- method: {_part(part)}{_cited(cited.get(part.name))}" for part in recipe.methods],
        *[f"- pretraining ({name}): {parts.PRETRAININGS[name].citation}" for name in _objectives(recipe)],
        *[f"- self-training: {_self_training(s)}" for s in recipe.stages if isinstance(s, SelfTrainStage)],
        *_soup_lines(recipe),
        *([f"- mean teacher: {MeanTeacher.citation}"] if any(_teaches(stage) for stage in recipe.stages) else []),
        *[f"- {one['stage']}: {one.get('steps')} steps, {one.get('seconds')} s" for one in record.stages],
        *[
            f"- {role}: {_file_name(recipe, role)}{f'{rows[role]} rows, ' if role in rows else ''}"
            f"sha256 of the rows {value[:16]}…"
            for role, value in environment["data"].items()
        ],
        *([f"- in all: {environment['seconds']['total']} s, evaluation included"] if "seconds" in environment else []),
        *[f"- {name[0].lower()}{name[1:]}: {value}" for name, value in made.items()],
        "",
        f"To reproduce: `nlp-transfer run recipe.yaml` (seed {recipe.seed}) with these data and versions.",
    ]


def _cited(citation: str | None) -> str:
    return f" — {citation}" if citation else ""


def _variant(recipe: Recipe) -> str:
    return str(recipe.tuning.settings.get("variant", recipe.tuning.name))


def _average_lines(recipe: Recipe) -> list[str]:
    """Say which average of the weights a training ended with, where it is one."""
    trained = [stage for stage in recipe.stages if isinstance(stage, FinetuneStage | SelfTrainStage)]
    named = {stage.train["average"]["name"] for stage in trained if stage.train.get("average")}
    return [f"- weights: {AVERAGES[name]}" for name in sorted(named)]


def _soup_lines(recipe: Recipe) -> list[str]:
    """Say what is averaged, of the twin, too."""
    soups = [stage for stage in recipe.stages if isinstance(stage, SoupStage)]
    twins = [f"- twin: mean of the weights of {1 + len(stage.twins)} models" for stage in soups if stage.twins]
    return [*(f"- soup: {SOUP.format(1 + len(stage.models))}" for stage in soups), *twins]


def _vocabulary_lines(recipe: Recipe) -> list[str]:
    spec = recipe.model.extend_vocabulary
    return [] if spec is None else [f"- vocabulary: up to {spec.tokens} new tokens for words of the target"]


def _file_name(recipe: Recipe, role: str) -> str:
    """Return the hub id of a data set, or the last name of a file: its folder is nobody else's business."""
    file = recipe.data.files.get(role)
    if file is None:
        return ""
    return f"`{file.path if file.path.startswith(HUB) else Path(file.path).name}`, "


def _stage(stage: AnyStage) -> str:
    if not isinstance(stage, FinetuneStage) or stage.on == "source":
        return stage.name
    share = "" if stage.target_share is None else f", the target drawn with a share of {stage.target_share:g}"
    return f"{stage.name} on {stage.on}{share}"


def _map_lines(recipe: Recipe) -> list[str]:
    """Say which labels were renamed: the scores are those of the new names."""
    maps = {role: source.label_map for role, source in recipe.data.sources.items()}
    maps["target"] = recipe.data.target.label_map
    return [
        f"- labels of {role} renamed: "
        + ", ".join(f"{old} → {'dropped' if new is None else new}" for old, new in names.items())
        for role, names in maps.items()
        if names
    ]


def source_lines(record: Record) -> list[str]:
    """Name the source domains, where there are several."""
    sources, rows = record.recipe.data.sources, record.environment.get("rows", {})
    if len(sources) == 1:
        return []
    equal = record.recipe.data.source_shares is None
    each = [
        f"{source.name} ({rows.get(f'{role}.train')} rows{'' if equal else f', share {source.share:g}'})"
        for role, source in sources.items()
    ]
    how = "each with the same share of every batch" if equal else "with their shares of the source rows of every batch"
    return [f"- source domains, {how}: {', '.join(each)}"]


def _not_kept(recipe: Recipe, metrics: dict[str, Any]) -> list[str]:
    """Say whose making is told, where it is not that of the model that comes with the card."""
    if not recipe.adapts or metrics["kept"] == ADAPTED:
        return []
    mean = any(isinstance(stage, SoupStage) and stage.twins for stage in recipe.stages)
    made = "is a mean of models that were fine-tuned" if mean else "was fine-tuned"
    return [
        f"`model/` {made} on labelled rows alone. The methods and other stages are those of the other one.",
        "",
    ]


def _self_training(stage: SelfTrainStage) -> str:
    return SELF_TRAINING if stage.class_balanced else f"without class balance; after {SELF_TRAINING}"


def _teaches(stage: Any) -> bool:
    return isinstance(stage, SelfTrainStage) and stage.mean_teacher is not None


def _objectives(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(stage.objective for stage in recipe.stages if isinstance(stage, PretrainStage)))


def _part(part: Any) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in part.settings.items())
    return f"{part.name} ({settings})" if settings else part.name
