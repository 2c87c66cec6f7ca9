"""Which runs a model is made of, and whether one of them was selected with labels of the target.

A run may begin with the model of another one, learn from its answers, or average its weights. What that one owes to the
labels of the target, this one owes to them, too, whatever its own recipe says: so the record is followed back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chosen import is_oracle, oracle_note
from ..conclusions import made_of_note, target_labels_note
from ..errors import UserError
from ..exporting.record import is_export
from ..guard import ADAPTED, TWIN, own_role
from ..recipe import load
from ..recipe.schema import Recipe, teachers_of
from ..recipe.stages import SoupStage
from ..records import read_json

ORACLES = "oracles"
"""Key of ``metrics.json``: by model, the runs selected by an oracle that it is made of; absent where there are none."""


@dataclass(frozen=True)
class Origin:
    """A model that a finished run has left.

    Args:
        run: The run folder.
        role: Which of its models.
        metrics: Content of its ``metrics.json``.
    """

    run: Path
    role: str
    metrics: Mapping[str, Any]

    @property
    def selected_by_oracle(self) -> bool:
        """Whether labels of the target have selected this very model: the twin's checkpoint is source dev's."""
        return self.role == ADAPTED and is_oracle(self.metrics.get("selection"))

    @property
    def recipe(self) -> Recipe | None:
        """The run's recipe; None where it cannot be read any more."""
        try:
            return load(self.run / "recipe.yaml")[0]
        except UserError:
            return None

    def oracles(self, seen: frozenset[Path] = frozenset()) -> set[str]:
        """Return the names of the runs selected by an oracle that this model is, or is made of."""
        recipe = self.recipe
        own = {self.run.name if recipe is None else recipe.name} if self.selected_by_oracle else set()
        if ORACLES in self.metrics:
            return own | {*self.metrics[ORACLES].get(self.role, [])}
        return own if recipe is None or self.run in seen else own | _behind(recipe, self.role, seen | {self.run})


def origin_of(model: str | Path) -> Origin | None:
    """Return the run that has left a model; None where it is no finished run of this machine.

    Args:
        model: A run folder, or one of the model folders in it; or a hub id.
    """
    place = Path(model).expanduser()
    if not place.is_dir():
        return None
    place = place.resolve()
    for run in (place, *list(place.parents)[:3]):
        if (run / "recipe.yaml").is_file() and (run / "metrics.json").is_file():
            try:
                metrics = read_json(run / "metrics.json", "", ["kept", "scores"])
            except UserError:
                return None
            role = _role(place, place.relative_to(run).parts, metrics)
            return None if role is None else Origin(run, role, metrics)
    return None


def _role(place: Path, inside: tuple[str, ...], metrics: Mapping[str, Any]) -> str | None:
    """Return which model of a run lies in a folder of it; None where it is none of them, or trained without labels."""
    match inside:
        case () | ("model",) | ("students", _):
            return str(metrics["kept"])
        case ("stages", stage) | ("stages", stage, "model"):
            if stage.endswith("-pretrain") or stage.startswith("base-"):
                return None
            # A run without adaptation has but one model, which is called as the twin is.
            return TWIN if stage.startswith(TWIN) else own_role(metrics["scores"])
    return str(metrics["kept"]) if len(inside) == 1 and is_export(place) else None


def _behind(recipe: Recipe, role: str, seen: frozenset[Path] = frozenset()) -> set[str]:
    """Return the names of the runs selected by an oracle that a model of a recipe is made of."""
    origins = filter(None, map(origin_of, _places(recipe, role)))
    return {name for origin in origins for name in origin.oracles(seen)}


def _places(recipe: Recipe, role: str) -> Iterator[str]:
    """Yield the models that one of a run's is made of: the twin begins with one, and may be averaged with others."""
    yield recipe.model.id
    if role == ADAPTED:
        for part in recipe.methods:
            yield from teachers_of(part)
    for stage in recipe.stages:
        if isinstance(stage, SoupStage):
            yield from stage.models if role == ADAPTED or not stage.adapt else stage.twins or []


def made_of_oracles(recipe: Recipe, roles: Iterable[str] = (ADAPTED, TWIN)) -> dict[str, Any]:
    """Return, as ``metrics.json`` keeps it, which runs selected by an oracle the models of a run are made of.

    Args:
        recipe: The run's recipe.
        roles: Its models.
    """
    found = {role: sorted(_behind(recipe, role)) for role in roles}
    found = {role: names for role, names in found.items() if names}
    return {ORACLES: found} if found else {}


def with_origins(metrics: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the metrics of a run with what its models are made of, looked up where the run itself has not noted it.

    Args:
        metrics: Content of ``metrics.json``.
        folder: The run folder.
    """
    if ORACLES in metrics or not (folder / "recipe.yaml").is_file():
        return dict(metrics)
    recipe = Origin(folder, metrics["kept"], metrics).recipe
    return dict(metrics) if recipe is None else dict(metrics) | made_of_oracles(recipe, metrics["scores"])


def notes_of(model: str | Path) -> list[str]:
    """Return what target labels were used for in the making of a model: the lines that go beside scores of it.

    Args:
        model: As in :func:`origin_of`.
    """
    origin = origin_of(model)
    if origin is None:
        return []
    metrics = with_origins(origin.metrics, origin.run)
    labels, behind = metrics.get("target_labels"), metrics.get(ORACLES, {})
    return [
        *([oracle_note()] if origin.selected_by_oracle else []),
        *([made_of_note({origin.role: behind[origin.role]}, labels)] if origin.role in behind else []),
        *([] if labels is None else [target_labels_note(labels)]),
    ]
