"""Whose results lie in a comparison's folder: what another recipe left there is never mixed with this one's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import RecipeError, RunError, listing
from ..recipe.load import load
from ..recipe.schema import Recipe
from ..recipe.yaml import dump_data
from ..records import look_up, read_json, rerun
from ..runfolder import difference

RECIPE = "recipe.yaml"
NAMED = 3


RUNS = 3
"""How many folders a run's folder lies below its comparison's: runs, strategy, seed."""


def text_of(recipe: Recipe) -> str:
    """Return a recipe as text in which the places of runs begin at their comparison's folder: that may be moved."""
    values = recipe.model_dump()
    above = Path(values["output"] or "").parents
    prefix = f"{above[RUNS - 1]}/" if len(above) > RUNS else ""

    def shortened(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shortened(one) for key, one in value.items()}
        if isinstance(value, list):
            return [shortened(one) for one in value]
        return value.removeprefix(prefix) if isinstance(value, str) else value

    return dump_data(shortened(values))


def check_claims(claims: Iterable[tuple[Path, Recipe]], folder: Path) -> None:
    """Refuse a comparison's folder in which something was trained with other recipes than those of now.

    Args:
        claims: Folders inside it that hold results, each with the recipe that it is claimed for.
        folder: The comparison's folder.

    Raises:
        RunError: Names them, says how the first one differs and what to do.
    """
    foreign = []
    for place, recipe in claims:
        path, text = place / RECIPE, text_of(recipe)
        if not path.is_file():
            continue
        found = _found(path)
        if found != text:
            foreign.append((place, difference(found, text)))
    if foreign:
        names = [str(place.relative_to(folder)) for place, _ in foreign]
        raise RunError(
            f"comparison folder '{folder}' holds what another recipe has trained: {listing(names, NAMED)}. "
            f"{foreign[0][1]} Give the comparison another folder (--output), give a strategy that has changed another "
            "title, or delete the folders that are to be trained anew."
        )


def _found(path: Path) -> str:
    """Return the recipe of a folder as :func:`text_of` gives it: keys that it was written without have defaults."""
    try:
        recipe, _ = load(path)
    except RecipeError:
        recipe = None
    return path.read_text(encoding="utf8") if recipe is None else text_of(recipe)


def check_rows(runs: Iterable[Path], folder: Path) -> None:
    """Refuse to judge runs together that were trained or scored on different rows: nothing of them can be paired.

    Args:
        runs: Folders of finished runs.
        folder: The comparison's folder.

    Raises:
        RunError: The rows of a split have changed between two of them.
    """
    seen: dict[str, tuple[str, Path]] = {}
    for run in runs:
        path = run / "environment.json"
        for split, rows in look_up(read_json(path, rerun(run)), path, rerun(run), "data").items():
            first_rows, first = seen.setdefault(split, (rows, run))
            if rows != first_rows:
                raise RunError(
                    f"comparison folder '{folder}': {first.relative_to(folder)} and {run.relative_to(folder)} are of "
                    f"different rows, as {split} has changed between them. Give the comparison another folder "
                    "(--output), or delete the runs that are of other rows."
                )
