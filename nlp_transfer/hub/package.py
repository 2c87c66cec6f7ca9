"""The folder that a push uploads, made from a finished run: the model in the form that is wanted, and its record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .. import finding
from ..card.facts import ADAPTER, MERGE, Facts, facts_of
from ..card.text import card_text
from ..errors import HubError, RecipeError
from ..fetching import is_url
from ..merging import merge_into
from ..model_files import ADAPTER_CONFIG
from ..recipe import dump
from ..recipe.publishing import CardSpec
from ..recipe.schema import Recipe
from ..recipe.shape import tidy
from ..recipe.yaml import read_text
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
MERGED: Form = "merged"


CommitOf = Callable[[str, Path], str | None]
"""Finds the commit of a base by its hub id and the folder with its files on this machine."""

A_COPY = "path/to/a/copy"
"""What plain ``transformers`` is given of a model at a URL, which it cannot read."""

PLACES = ("folder", "path", "id", "teacher", "models", "twins")
"""Keys of a recipe that may name a place on this machine."""


@dataclass(frozen=True)
class Shape:
    """What of a run is pushed, and what its card says.

    Args:
        place: Hub id or URL that the model will have; of a folder on this machine any path.
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


def pack(record: Record, shape: Shape, folder: Path, commit_of: CommitOf | None) -> Package:
    """Put the files of a push into an empty folder; the run stays as it is.

    Args:
        record: The run's record.
        shape: What is wanted.
        folder: The folder.
        commit_of: Is asked for the commit of an adapter's base, where that is unknown. None: neither it nor the hub is
            asked; the base of an adapter is not looked for, unless it is merged.

    Raises:
        HubError: The run has no adapter, or the base of its adapter has no hub id or is another model there.
        ModelError: The base of the adapter is not found.
    """
    facts = facts_of(record)
    if shape.form != AS_IT_IS and not facts.adapter:
        raise HubError(
            f"'{record.folder}' holds whole weights (tuning {record.recipe.tuning.name}), no adapter: leave out "
            "--adapter and --merged."
        )
    check_base(shape.base, facts.base, facts.adapter and shape.form != MERGED)
    folder_of_it = A_COPY if is_url(shape.place) else shape.place
    facts = replace(facts, place=shape.place, folder=folder_of_it, spec=shape.card)
    base: Path | None = None
    if shape.form == MERGED:
        _merge(finding.resolve(str(record.folder)), folder)
        facts = replace(facts, relation=MERGE)
    else:
        _copy_model(record.folder / "model", folder)
    if facts.relation == ADAPTER:
        name = _name_of_base(record, facts, shape)
        if commit_of is not None:
            source = finding.resolve(name if facts.base is None else str(record.folder))
            base = source.folder
            facts = replace(facts, revision=facts.revision or source.commit or commit_of(name, base))
        facts = replace(facts, base=name, base_name=name)
        _name_base(folder / ADAPTER_CONFIG, name, facts.revision)
    public = replace(record, recipe=public_recipe(record.recipe))
    card = card_text(public, facts)
    write_text(folder / "README.md", card)
    write_text(folder / "recipe.yaml", dump(public.recipe))
    shutil.copyfile(record.folder / "metrics.json", folder / "metrics.json")
    if shape.report:
        write_text(folder / REPORT, run_page(gather(public)))
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
    if key == "set" and isinstance(values, str):
        return _override_without_places(values)
    places = key in PLACES and isinstance(values, str) and values.startswith(("/", "~", "..", "file:"))
    return Path(values).name or "." if places else values


def _override_without_places(text: str) -> str:
    """Leave the last name of every such path in an override of a comparison: ``data.folder=/mnt/x``."""
    dotted, _, written = text.partition("=")
    keys = dotted.strip().split(".")
    try:
        value, _ = read_text(written, "override")
    except RecipeError:
        value = written
    nested: Any = value
    for key in reversed(keys):
        nested = [nested] if key.isdecimal() else {key: nested}
    before = tidy(nested)  # `model=/mnt/x` is `model.id=/mnt/x`
    public = _without_places(before)
    if public == before:
        return text
    for key in keys:
        public = public[0] if key.isdecimal() else public[key]
    # JSON is YAML.
    return f"{dotted}={json.dumps(public, ensure_ascii=False)}"


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


def check_base(given: str | None, known: str | None, adapter: bool) -> None:
    """Refuse a name for a base that has one already, or that nothing stands on.

    Args:
        given: Hub id that is given for the base.
        known: Hub id of the base, None for a local folder.
        adapter: An adapter is pushed, and not merged.

    Raises:
        HubError: The name would have no effect.
    """
    if given is None or (adapter and known is None):
        return
    why = f"the base of this adapter is '{known}'" if adapter else "no adapter is pushed"
    raise HubError(
        f"--base (hub.base) names the base of an adapter that was trained on a local folder, but {why}. Leave it out."
    )


def base_without_a_name(adapter: str, folder: str) -> HubError:
    """Return the error of an adapter whose base nobody else has.

    Args:
        adapter: Which adapter.
        folder: What its base is called here.
    """
    return HubError(
        f"{adapter} stands on the local folder '{folder}', which nobody else has. Push it merged (--merged, or "
        "hub.merged: true), or name the hub id of that very base (--base owner/name, or hub.base)."
    )


def _name_of_base(record: Record, facts: Facts, shape: Shape) -> str:
    """Return the hub id of an adapter's base."""
    name = facts.base or shape.base
    if name is None:
        raise base_without_a_name(f"the adapter of '{record.folder}'", facts.base_name)
    return name


def _name_base(path: Path, base: str, revision: str | None) -> None:
    """Let an adapter name its base by hub id and commit, which others can find, never by a folder."""
    config = json.loads(path.read_text(encoding="utf8"))
    config |= {"base_model_name_or_path": base, "revision": revision}
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
