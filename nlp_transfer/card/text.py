"""The text of a model card, written from a run's record: what the model is, how good, how made, how far to trust it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCard

from ..chosen import LAST_STEP, SOURCE_DEV, is_oracle, told
from ..conclusions import conclusions, interval_text
from ..guard import ADAPTED, TWIN, called
from ..recipe.schema import Recipe
from ..recipe.stages import PretrainStage, SelfTrainStage, SoupStage
from ..report.record import Record
from .facts import ADAPTER, FINETUNE, MERGE, Facts
from .making import making
from .metadata import metadata
from .origins import ORACLES, with_origins
from .trust import trust
from .use import use

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
        [*_head(record, facts), *use(record, facts), *_scores(record), *trust(record), *making(record, facts)]
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
    metrics = with_origins(record.metrics, record.folder)
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
    if is_oracle(metrics["selection"]) or ORACLES in metrics:
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


def _reads_target(recipe: Recipe, facts: Facts) -> bool:
    """Whether anything in the training or selection of the adapted model looked at text of the target."""
    return (
        recipe.uses_target_labels
        or any(facts.methods.get(part.name, {}).get("needs_target", True) for part in recipe.methods)
        or recipe.selection.name != SOURCE_DEV
        or recipe.model.extend_vocabulary is not None
        or any(isinstance(stage, SelfTrainStage) for stage in recipe.stages)
        or any(isinstance(stage, SoupStage) and stage.adapt for stage in recipe.stages)
        or any(_pretrains_on_target(stage) for stage in recipe.stages if isinstance(stage, PretrainStage))
    )


def _pretrains_on_target(stage: PretrainStage) -> bool:
    choice = None if stage.corpus is None else stage.corpus.choose
    return stage.text in ("target", "both") or (choice is not None and choice.like == "target")
