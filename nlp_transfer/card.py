"""The README of a run folder: a first model card, written from the run's record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import models, parts
from .conclusions import conclusions, interval_text
from .guard import ADAPTED, called
from .methods.mean_teacher import MeanTeacher
from .recipe.schema import AnyStage, FinetuneStage, PretrainStage, Recipe, SelfTrainStage
from .selecting import LAST_STEP, is_oracle, told
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
        f"{_what(recipe, metrics)} Base model: {_base(space)}. Labels: {', '.join(space.task.labels)}.",
        "",
        "## Scores",
        "",
        *score_rows(metrics),
        "",
        f"{metrics['headline']} with {metrics['confidence']:.0%} bootstrap intervals over rows. {_selection(metrics)}",
        *(line for told in conclusions(metrics) for line in ("", told)),
        "",
        "## How it was made",
        "",
        f"- tuning: {_part(recipe.tuning)}",
        *_source_lines(space),
        *_map_lines(recipe),
        f"- stages: {', '.join(map(_stage, recipe.stages))}",
        *[f"- method: {_part(part)} — {space.methods[part.name].citation}" for part in recipe.methods],
        *[f"- pretraining ({name}): {parts.PRETRAININGS[name].citation}" for name in _objectives(recipe)],
        *([f"- self-training: {SELF_TRAINING}"] if any(isinstance(s, SelfTrainStage) for s in recipe.stages) else []),
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
        f"`model/` is plain Hugging Face: it also loads without nlp_transfer, by `{_plain_loading(space)}`.",
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


def _selection(metrics: dict[str, Any]) -> str:
    """Say what selected the checkpoint, and what target labels were used for."""
    chosen, labels = metrics["selection"], metrics.get("target_labels")
    by = "is that of the last step" if chosen == told(LAST_STEP) else f"was selected on {chosen}"
    if is_oracle(chosen):
        return f"The checkpoint {by}."
    if labels is None:
        return f"The checkpoint {by}; target labels were used for the final scores only."
    return f"The checkpoint {by}; target labels other than those trained on were used for the final scores only."


def _what(recipe: Recipe, metrics: dict[str, Any]) -> str:
    kind = {"ner": "Named-entity tagger", "sentiment": "Sentiment classifier"}.get(recipe.task.name, "Text classifier")
    if metrics["kept"] == ADAPTED:
        return f"{kind}, adapted to a target domain."
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
