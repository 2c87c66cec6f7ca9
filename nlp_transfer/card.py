"""The README of a run folder: a first model card, written from the run's record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import models, parts
from .conclusions import conclusions, interval_text
from .guard import ADAPTED, TWIN, called
from .methods.mean_teacher import MeanTeacher
from .recipe.schema import AnyStage, FinetuneStage, PretrainStage, Recipe, SelfTrainStage
from .selecting import LAST_STEP, SOURCE_DEV, is_oracle, told
from .stages.base import StageResult
from .workspace import Workspace

SELF_TRAINING = (
    "Zou et al. 2018, Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training, arXiv 1810.07911"
)


def card_text(
    space: Workspace, metrics: dict[str, Any], record: dict[str, Any], results: dict[str, StageResult]
) -> str:
    """Return the card as Markdown.

    Args:
        space: The run's workspace.
        metrics: Content of ``metrics.json``.
        record: Content of ``environment.json``.
        results: Stage results by name.
    """
    recipe = space.recipe
    lines = [
        f"# {recipe.name}",
        "",
        f"{_what(space, metrics)} Base model: {_base(space)}. Labels: {', '.join(space.task.labels)}.",
        "",
        "## Scores",
        "",
        *score_rows(metrics),
        "",
        f"{metrics['headline']} with {metrics['confidence']:.0%} bootstrap intervals over rows. {_selected(metrics)}"
        f"{_labels_used(metrics)}.",
        *(line for told in conclusions(metrics) for line in ("", told)),
        "",
        "## How it was made",
        "",
        *_not_kept(recipe, metrics),
        f"- tuning: {_part(recipe.tuning)}",
        *_source_lines(space),
        *_map_lines(recipe),
        f"- stages: {', '.join(map(_stage, recipe.stages))}",
        *[f"- method: {_part(part)} — {space.methods[part.name].citation}" for part in recipe.methods],
        *[f"- pretraining ({name}): {parts.PRETRAININGS[name].citation}" for name in _objectives(recipe)],
        *[f"- self-training: {_self_training(s)}" for s in recipe.stages if isinstance(s, SelfTrainStage)],
        *([f"- mean teacher: {MeanTeacher.citation}"] if any(_teaches(stage) for stage in recipe.stages) else []),
        *[f"- {name}: {r.facts.get('steps')} steps, {r.facts.get('seconds')} s" for name, r in results.items()],
        *[f"- {role}: sha256 of the rows {value[:16]}…" for role, value in record["data"].items()],
        f"- versions: {', '.join(f'{name} {version}' for name, version in record['versions'].items())}",
        "",
        "## Use",
        "",
        "```python",
        "from nlp_transfer import load_predictor",
        "",
        'predictor = load_predictor("path/to/this/run")',
        'print(predictor(["a text"]))',
        "```",
        "",
        f"`model/` is plain Hugging Face: it also loads without nlp_transfer, by `{_plain_loading(space)}`"
        f"{_where_base_is(space)}.",
        "",
    ]
    return "\n".join(lines)


def score_rows(metrics: dict[str, Any]) -> list[str]:
    """Return the scores as a Markdown table: one line a split, one column a model, and the gain."""
    roles = list(metrics["scores"])
    splits = list(metrics["scores"][roles[0]])
    gain = metrics.get("gain")
    names = [called(role, metrics.get("target_labels")) for role in roles]
    header = ["split", *names, *(["gain"] if gain else [])]
    rows = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for split in splits:
        cells = [interval_text(metrics["scores"][role][split]["interval"]) for role in roles]
        if gain:
            cells.append(interval_text(gain[split], signed=True))
        rows.append(f"| {split} | {' | '.join(cells)} |")
    return rows


def _plain_loading(space: Workspace) -> str:
    """Return the call that loads the model without this package."""
    kind, labels = space.task.auto_class, ""
    if space.recipe.tuning.name == "lora":
        # PEFT takes two labels for granted where it is not told.
        count, own = len(space.task.labels), models.label_names(space.base)
        kind, labels = kind.replace("AutoModel", "AutoPeftModel"), f", num_labels={count}"
        # The adapter brings its own head, but that of the base is read first.
        labels += ", ignore_mismatched_sizes=True" if own is not None and len(own) != count else ""
    return f'{kind}.from_pretrained("path/to/this/run/model"{labels})'


def _where_base_is(space: Workspace) -> str:
    """Say what the adapter of a local model needs to be loaded elsewhere."""
    local = space.recipe.tuning.name == "lora" and Path(space.base.id).expanduser().is_dir()
    return ", with its base model at the path that `adapter_config.json` names" if local else ""


def _selected(metrics: dict[str, Any]) -> str:
    """Say which score chose the checkpoints: the twin's is always source dev, or none."""
    chosen = metrics["selection"]
    if chosen == told(LAST_STEP):
        return f"The checkpoint is that of the {chosen}"
    if chosen == told(SOURCE_DEV):
        return f"The checkpoint was selected on {chosen}"
    twin = called(TWIN, metrics.get("target_labels"))
    beside = f", the {twin} model's on source dev" if TWIN in metrics["scores"] else ""
    return f"The adapted model's checkpoint was selected on {chosen}{beside}"


def _labels_used(metrics: dict[str, Any]) -> str:
    if is_oracle(metrics["selection"]):
        return ""
    if metrics.get("target_labels") is not None:
        return "; target labels other than those trained on were used for the final scores only"
    labelled = any(split.startswith("target.") for scores in metrics["scores"].values() for split in scores)
    return "; target labels were used for the final scores only" if labelled else "; no target labels were used"


def _what(space: Workspace, metrics: dict[str, Any]) -> str:
    recipe = space.recipe
    kind = {"ner": "Named-entity tagger", "sentiment": "Sentiment classifier"}.get(recipe.task.name, "Text classifier")
    if metrics["kept"] == ADAPTED:
        adapted = (
            "adapted to a target domain" if _reads_target(space) else "trained without any text of a target domain"
        )
        return f"{kind}, {adapted}."
    rejected = "; the adapted model was not kept, see below" if recipe.adapts else ""
    domains = "domain" if len(recipe.data.sources) == 1 else "domains"
    named = {stage.on for stage in recipe.finetunes}
    rows = {"source": f"the source {domains} only", "target": "labelled rows of the target domain"}
    both = f"the source {domains} and labelled rows of the target"
    return f"{kind}, trained on {rows.get(named.pop(), both) if len(named) == 1 else both}{rejected}."


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


def _source_lines(space: Workspace) -> list[str]:
    """Name the source domains, where there are several."""
    sources = space.splits.sources
    if len(sources) == 1:
        return []
    told = ", ".join(f"{source.name} ({len(source.train)} rows)" for source in sources)
    return [f"- source domains, each with the same share of every batch: {told}"]


def _reads_target(space: Workspace) -> bool:
    """Whether anything in the training or selection of the adapted model looked at text of the target."""
    recipe = space.recipe
    return (
        recipe.uses_target_labels
        or any(space.methods[part.name].needs_target for part in recipe.methods)
        or recipe.selection.name != SOURCE_DEV
        or recipe.model.extend_vocabulary is not None
        or any(isinstance(stage, SelfTrainStage) for stage in recipe.stages)
        or any(_pretrains_on_target(stage) for stage in recipe.stages if isinstance(stage, PretrainStage))
    )


def _pretrains_on_target(stage: PretrainStage) -> bool:
    choice = None if stage.corpus is None else stage.corpus.choose
    return stage.text in ("target", "both") or (choice is not None and choice.like == "target")


def _not_kept(recipe: Recipe, metrics: dict[str, Any]) -> list[str]:
    """Say whose making is told, where it is not that of the model that comes with the card."""
    if not recipe.adapts or metrics["kept"] == ADAPTED:
        return []
    return [
        "`model/` was fine-tuned on labelled rows alone. The methods and other stages are those of the other one.",
        "",
    ]


def _self_training(stage: SelfTrainStage) -> str:
    return SELF_TRAINING if stage.class_balanced else f"without class balance; after {SELF_TRAINING}"


def _teaches(stage: Any) -> bool:
    return isinstance(stage, SelfTrainStage) and stage.mean_teacher is not None


def _objectives(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(stage.objective for stage in recipe.stages if isinstance(stage, PretrainStage)))


def _base(space: Workspace) -> str:
    """Name the base model; of a local folder the last name only, as a card is published and its paths are private."""
    if Path(space.base.id).expanduser().is_dir():
        return f"the local folder `{Path(space.base.id).name}`"
    return f"`{space.base.id}`"


def _part(part: Any) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in part.settings.items())
    return f"{part.name} ({settings})" if settings else part.name
