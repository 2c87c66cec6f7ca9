"""The folder that a push uploads, made from a finished run: the model in the form that is wanted, and its record."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .. import finding
from ..card.facts import ADAPTER, MERGE, Facts, facts_of
from ..card.text import card_text
from ..errors import HubError
from ..merging import merge_into
from ..recipe import dump
from ..recipe.publishing import CardSpec
from ..recipe.schema import Recipe
from ..reloading.examples import Example, read_examples
from ..report.facts import gather
from ..report.page import REPORT
from ..report.record import Record
from ..report.run import run_page
from ..settings import SETTINGS
from ..whole import write_text
from .files import MODEL_FILES

Form = Literal["as it is", "adapter", "merged"]
AS_IT_IS: Form = "as it is"
ADAPTER_ONLY: Form = "adapter"
MERGED: Form = "merged"


PLACES = ("folder", "path", "id", "teacher", "models")
"""Keys of a recipe that may name a place on this machine."""


@dataclass(frozen=True)
class Shape:
    """What of a run is pushed, and what its card says.

    Args:
        place: Hub id or URL that the model will have.
        form: ``as it is``; ``adapter``, which refuses a run without one; or ``merged`` into its base.
        base: Hub id of the base, for an adapter that was trained on a local folder.
        report: With report.html.
        card: What the card tells and the run does not know.
    """

    place: str
    form: Form = AS_IT_IS
    base: str | None = None
    report: bool = True
    card: CardSpec = field(default_factory=CardSpec)


@dataclass(frozen=True)
class Package:
    """What is about to be pushed.

    Args:
        folder: Holds exactly the files.
        card: Text of README.md.
        base: Where the base of an adapter lies on this machine; None without an adapter.
        examples: What the model must give after reloading.
    """

    folder: Path
    card: str
    base: Path | None
    examples: list[Example]


def pack(record: Record, shape: Shape, folder: Path) -> Package:
    """Put the files of a push into an empty folder; the run stays as it is.

    Args:
        record: The run's record.
        shape: What is wanted.
        folder: The folder.

    Raises:
        HubError: The run has no adapter, or the base of its adapter has no hub id.
        ModelError: The base of the adapter is not found.
    """
    facts = facts_of(record)
    if shape.form != AS_IT_IS and not facts.adapter:
        raise HubError(
            f"'{record.folder}' holds whole weights (tuning {record.recipe.tuning.name}), no adapter: leave out "
            "--adapter and --merged."
        )
    facts = replace(facts, place=shape.place, folder=shape.place, spec=shape.card)
    source = finding.resolve(str(record.folder))
    if shape.form == MERGED:
        _merge(source, folder)
        facts = replace(facts, relation=MERGE)
    else:
        _copy_model(record.folder / "model", folder)
    if facts.relation == ADAPTER:
        facts, source = _named_base(record, facts, shape, folder, source)
    public = replace(record, recipe=public_recipe(record.recipe))
    card = card_text(public, facts)
    write_text(folder / "README.md", card)
    write_text(folder / "recipe.yaml", dump(public.recipe))
    shutil.copyfile(record.folder / "metrics.json", folder / "metrics.json")
    if shape.report:
        write_text(folder / REPORT, run_page(gather(public)))
    base = source.folder if facts.relation == ADAPTER else None
    return Package(folder, card, base, read_examples(record.folder))


def public_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe as others may see it: no paths of this machine, and no push of its own."""
    values = recipe.model_dump() | {"output": None, "hub": None}
    return Recipe.model_validate(_without_places(values))


def _without_places(values: Any, key: str = "") -> Any:
    """Leave the last name of every path that says where something lies on this machine."""
    if isinstance(values, dict):
        return {name: _without_places(value, name) for name, value in values.items()}
    if isinstance(values, list):
        return [_without_places(value, key) for value in values]
    places = key in PLACES and isinstance(values, str) and values.startswith(("/", "~", "..", "file:"))
    return Path(values).name or "." if places else values


def _copy_model(model: Path, folder: Path) -> None:
    found = {path for pattern in MODEL_FILES for path in model.glob(pattern)}
    for path in sorted(found):
        shutil.copyfile(path, folder / path.name)


def _merge(source: finding.ResolvedModel, folder: Path) -> None:
    assert source.adapter is not None
    merged = folder / "merged"
    merge_into(source, merged)
    _copy_model(merged, folder)
    shutil.rmtree(merged)
    shutil.copyfile(source.adapter / SETTINGS, folder / SETTINGS)


def _named_base(
    record: Record, facts: Facts, shape: Shape, folder: Path, source: finding.ResolvedModel
) -> tuple[Facts, finding.ResolvedModel]:
    """Let an adapter name its base by hub id and revision, which others can find, never by a folder.

    Returns:
        The facts, and the base as it is found on this machine under that name.
    """
    base, revision = facts.base, facts.revision
    if base is None:
        if shape.base is None:
            raise HubError(
                f"the adapter of '{record.folder}' stands on the local folder '{facts.base_name}', which nobody else "
                "has. Push it merged (--merged), or name the hub id of that very base (--base owner/name)."
            )
        source = finding.resolve(shape.base)
        base, revision = shape.base, source.commit
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf8"))
    config |= {"base_model_name_or_path": base, "revision": revision}
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    return replace(facts, base=base, base_name=base, revision=revision), source
