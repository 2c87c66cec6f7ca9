"""The text of a model card, written from a run's record: what the model is, how good, how made, how far to trust it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCard

from .. import parts
from ..chosen import LAST_STEP, SOURCE_DEV, is_oracle, told
from ..conclusions import conclusions, interval_text
from ..guard import ADAPTED, TWIN, called
from ..methods.mean_teacher import MeanTeacher
from ..recipe.schema import Recipe
from ..recipe.stages import AnyStage, FinetuneStage, PretrainStage, SelfTrainStage, SoupStage
from ..report.facts import made_with
from ..report.record import Record
from .facts import ADAPTER, FINETUNE, MERGE, Facts
from .metadata import metadata
from .trust import trust
from .use import use

SOUP = (
    "mean of the weights of {} models (Wortsman et al. 2022, Model soups, arXiv 2203.05482; Rame et al. 2022, Diverse "
    "Weight Averaging, arXiv 2205.09739)"
)
SELF_TRAINING = (
    "Zou et al. 2018, Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training, arXiv 1810.07911"
)
RELATIONS = {
    FINETUNE: "fine-tuned from it",
    ADAPTER: "an adapter on top of it",
    MERGE: "an adapter that is merged into it",
}


def card_text(record: Record, facts: Facts) -> str:
    """Return the card as Markdown, with the hub's metadata in front.

    Args:
        record: The run's record.
        facts: What else is known.
    """
    body = "\n".join(
        [*_head(record, facts), *use(record, facts), *_scores(record), *trust(record), *_making(record, facts)]
    )
    return str(ModelCard(f"---\n{metadata(record, facts).to_yaml()}\n---\n\n{body}\n"))


def _head(record: Record, facts: Facts) -> list[str]:
    at = f" at revision `{facts.revision}`" if facts.base is not None and facts.revision else ""
    base = f"`{facts.base}`{at}" if facts.base is not None else f"the local folder `{facts.base_name}`"
    return [
        f"# {record.recipe.name}",
        "",
        f"{_what(record, facts)} Base model: {base} (this model is {RELATIONS[facts.relation]}). "
        f"Labels: {', '.join(facts.labels)}.",
        "",
    ]


def _scores(record: Record) -> list[str]:
    metrics = record.metrics
    return [
        "## Scores",
        "",
        *score_rows(metrics),
        "",
        f"{metrics['headline']} with {metrics['confidence']:.0%} bootstrap intervals over rows. {_selected(metrics)}"
        f"{_labels_used(metrics)}.",
        *(line for told in conclusions(metrics) for line in ("", told)),
        "",
    ]


def _making(record: Record, facts: Facts) -> list[str]:
    recipe, environment = record.recipe, record.environment
    rows = environment.get("rows", {})
    made = made_with(environment)
    return [
        "## How it was made",
        "",
        *_not_kept(recipe, record.metrics),
        f"- tuning: {_part(recipe.tuning)}",
        *_source_lines(record),
        *_map_lines(recipe),
        f"- stages: {', '.join(map(_stage, recipe.stages))}",
        *[f"- method: {_part(part)}{_citation(facts, part.name)}" for part in recipe.methods],
        *[f"- pretraining ({name}): {parts.PRETRAININGS[name].citation}" for name in _objectives(recipe)],
        *[f"- self-training: {_self_training(s)}" for s in recipe.stages if isinstance(s, SelfTrainStage)],
        *[f"- soup: {SOUP.format(1 + len(s.models))}" for s in recipe.stages if isinstance(s, SoupStage)],
        *([f"- mean teacher: {MeanTeacher.citation}"] if any(_teaches(stage) for stage in recipe.stages) else []),
        *[f"- {one['stage']}: {one.get('steps')} steps, {one.get('seconds')} s" for one in record.stages],
        *[
            f"- {role}: {f'{rows[role]} rows, ' if role in rows else ''}sha256 of the rows {value[:16]}…"
            for role, value in environment["data"].items()
        ],
        *[f"- {name[0].lower()}{name[1:]}: {value}" for name, value in made.items()],
        "",
        f"To reproduce: `nlp-transfer run recipe.yaml` (seed {recipe.seed}) with these data and versions.",
    ]


def _citation(facts: Facts, method: str) -> str:
    citation = facts.methods.get(method, {}).get("citation")
    return f" — {citation}" if citation else ""


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


def _what(record: Record, facts: Facts) -> str:
    recipe, metrics = record.recipe, record.metrics
    kind = {"ner": "Named-entity tagger", "sentiment": "Sentiment classifier"}.get(recipe.task.name, "Text classifier")
    if metrics["kept"] == ADAPTED:
        adapted = (
            "adapted to a target domain"
            if _reads_target(recipe, facts)
            else "trained without any text of a target domain"
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


def _source_lines(record: Record) -> list[str]:
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


def _reads_target(recipe: Recipe, facts: Facts) -> bool:
    """Whether anything in the training or selection of the adapted model looked at text of the target."""
    return (
        recipe.uses_target_labels
        or any(facts.methods.get(part.name, {}).get("needs_target", True) for part in recipe.methods)
        or recipe.selection.name != SOURCE_DEV
        or recipe.model.extend_vocabulary is not None
        or any(isinstance(stage, SelfTrainStage | SoupStage) for stage in recipe.stages)
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


def _part(part: Any) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in part.settings.items())
    return f"{part.name} ({settings})" if settings else part.name
