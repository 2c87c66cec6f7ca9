"""How a model is used, to be copied from its card."""

from __future__ import annotations

from ..fetching import is_url
from ..report.record import Record
from .facts import Facts
from .metadata import pipeline_of

EXAMPLES = {"ner": "Anna Berg moved from Oslo to Bergen.", "sentiment": "It works, and it never fails."}


def use(record: Record, facts: Facts) -> list[str]:
    """Return the section of a card that shows how its model is used.

    Args:
        record: The run's record.
        facts: What else is known.
    """
    example = EXAMPLES.get(record.recipe.task.name, "Some text.")
    return [
        "## Use",
        "",
        "```python",
        "from nlp_transfer import load_predictor",
        "",
        f'predictor = load_predictor("{facts.place}")',
        f'print(predictor(["{example}"]))',
        "```",
        "",
        f"The model is plain Hugging Face: {_copied_first(facts)} also loads without nlp_transfer, by "
        f"`{plain_loading(facts)}`{_where_base_is(facts)}{_in_a_pipeline(facts)}.",
        "",
    ]


def plain_loading(facts: Facts, *told: str) -> str:
    """Return the call that loads the model without this package, with further arguments."""
    kind, count = facts.auto_class, len(facts.labels)
    arguments = [f'"{facts.folder}"']
    if facts.adapter:
        # PEFT takes two labels for granted where it is not told.
        kind, arguments = kind.replace("AutoModel", "AutoPeftModel"), [*arguments, f"num_labels={count}"]
        # The adapter brings its own head, but that of the base is read first.
        arguments += ["ignore_mismatched_sizes=True"] if facts.base_head not in (None, count) else []
    return f"{kind}.from_pretrained({', '.join([*arguments, *told])})"


def _in_a_pipeline(facts: Facts) -> str:
    """Show the pipeline of a published model; PEFT takes the names of labels from the base unless it is told."""
    if not facts.published:
        return ""
    model = f'"{facts.place}"'
    if facts.adapter:
        loaded = plain_loading(facts, f"id2label=AutoConfig.from_pretrained({model}).id2label")
        model = f"{loaded}, tokenizer={model}"
    alone = "; from the name alone it would take the labels of the base model" if facts.adapter else ""
    return f', or `pipeline("{pipeline_of(facts)}", model={model})`{alone}'


def _copied_first(facts: Facts) -> str:
    """Of a model at a URL: it is a copy of its folder that plain ``transformers`` can read."""
    return "a copy of its folder on the own machine" if is_url(facts.place) else "it"


def _where_base_is(facts: Facts) -> str:
    """Say what the adapter of a local model needs to be loaded elsewhere."""
    local = facts.adapter and facts.base is None
    return ", with its base model at the path that `adapter_config.json` names" if local else ""
