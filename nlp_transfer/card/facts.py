"""What a card is written from: the run's record, and the few things about its publication that no run knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..fetching import is_url
from ..methods.base import Method
from ..model_files import has_adapter, labels_in
from ..parts import METHODS
from ..recipe.publishing import CardSpec
from ..recipe.schema import Part
from ..report.record import Record

ADAPTER, FINETUNE, MERGE = "adapter", "finetune", "merge"


@dataclass(frozen=True)
class Facts:
    """What a card tells beside the run's record.

    Args:
        labels: Labels in the order of the logits.
        auto_class: Class of ``transformers`` that loads the model.
        relation: ``adapter``, ``finetune`` or ``merge``: what the model is to its base.
        base: Hub id of the base model, None for a local folder.
        base_name: What the base is called: of a local folder the last name only, as a card is published.
        base_head: Number of labels that the base itself has a head for, None without a head.
        revision: Commit or revision of the base, where known.
        place: What ``load_predictor`` is given.
        folder: What plain ``transformers`` or ``peft`` is given.
        spec: What the recipe says for the card.
        methods: Citation of each method, and whether it reads target text.
    """

    labels: list[str]
    auto_class: str
    relation: str
    base: str | None
    base_name: str
    base_head: int | None = None
    revision: str | None = None
    place: str = "path/to/this/run"
    folder: str = "path/to/this/run/model"
    spec: CardSpec = field(default_factory=CardSpec)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether one place, a hub id or a folder, loads the model in every library."""
        return self.place == self.folder and not is_url(self.place)

    @property
    def adapter(self) -> bool:
        """Whether the weights are an adapter's, which needs its base."""
        return self.relation == ADAPTER


def facts_of(record: Record) -> Facts:
    """Return what a card of a run tells as long as the run is not published.

    Raises:
        RunError: The run's ``model/`` is damaged.
    """
    environment, folder = record.environment, record.folder / "model"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise RunError(f"'{record.folder}' has lost its model ({error}). Run its recipe again.") from error
    base = environment["model"]
    adapter = has_adapter(folder)
    if base.get("merged") is not None and not adapter:
        # What it was fine-tuned from is that adapter; the folder it was merged in is this run's own.
        base = base | base["merged"] | {"revision": None}
    local = base.get("local", Path(base["id"]).expanduser().is_dir())
    kind = "Token" if record.kind == "ner" else "Sequence"
    return Facts(
        labels=labels_in(config),
        auto_class=f"AutoModelFor{kind}Classification",
        relation=ADAPTER if adapter else FINETUNE,
        base=None if local else base["id"],
        base_name=Path(base["id"]).name if local else base["id"],
        base_head=base.get("head"),
        revision=base["commit"] or base["revision"],
        spec=record.recipe.card,
        methods=environment.get("methods", told_of(METHODS, record.recipe.methods)),
    )


def told_of(known: Mapping[str, type[Method]], named: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Return what a card tells of methods: a run's record keeps it, as methods need not be those of this package."""
    return {
        part.name: {
            "citation": known[part.name].citation,
            "needs_target": known[part.name].reads_target(part.settings),
        }
        for part in named
        if part.name in known
    }
