"""The recipes and demonstration data that come with the package, and what ``demo:`` in a path stands for."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import Problem, RecipeError, nearest
from .schema import DataSpec

DEMO = "demo:"
HUB = "hub:"


def _shipped() -> Path:
    """Return the folder that holds ``recipes`` and ``data``: of the installed wheel, or the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_shipped"
    if installed.is_dir():
        return installed
    if (package.parent / "pyproject.toml").is_file():
        return package.parent
    raise FileNotFoundError(f"{package} has lost its recipes and data; install nlp-transfer again")


def demo_folder() -> Path:
    """Return the folder of the demonstration data, with one folder for each data set."""
    return _shipped() / "data"


def list_recipes() -> list[tuple[str, str, Path]]:
    """List the recipes that come with the package.

    Returns:
        Name (path below the recipes' folder, no suffix), title (first comment line) and file of each.
    """
    folder = _shipped() / "recipes"
    return [
        (path.relative_to(folder).with_suffix("").as_posix(), _title(path), path)
        for path in sorted(folder.rglob("*.yaml"))
    ]


def copy_recipe(name: str, destination: str | Path) -> Path:
    """Copy a shipped recipe, as a start for an own one.

    Args:
        name: Name as in :func:`list_recipes`.
        destination: New file, or an existing folder that the file is put into.

    Returns:
        The new file.

    Raises:
        RecipeError: There is no such recipe, or the destination exists already: nothing is ever overwritten.
    """
    recipes = {known: path for known, _, path in list_recipes()}
    name = name.removesuffix(".yaml")
    if name not in recipes:
        known = ", ".join(recipes)
        raise RecipeError([Problem(f"no recipe is called '{name}'.{nearest(name, recipes)} There are: {known}.")])
    target = Path(destination)
    if target.is_dir():
        target = target / recipes[name].name
    try:
        with recipes[name].open("rb") as source, target.open("xb") as copied:
            shutil.copyfileobj(source, copied)
        shutil.copymode(recipes[name], target)
    except FileExistsError:
        raise RecipeError([Problem("the file exists already and is not overwritten", str(target))]) from None
    except FileNotFoundError:
        raise RecipeError([Problem(f"there is no folder '{target.parent}'", str(target))]) from None
    return target


def resolve_path(data: DataSpec, path: str) -> str:
    """Return where a data file of a recipe lies.

    Args:
        data: The recipe's data section; ``folder`` is where relative paths start.
        path: Path as written: relative, absolute, ``demo:…`` or ``hub:…``.

    Returns:
        The path below ``data.folder``; ``demo:`` in either stands for :func:`demo_folder`, ``~`` for the home folder.
        Absolute and ``hub:`` paths come back as they are.
    """
    if path.startswith(HUB) or Path(path).is_absolute():
        return path
    if path.startswith(DEMO):
        return str(_demo(path))
    folder = _demo(data.folder) if data.folder.startswith(DEMO) else _at_home(data.folder)
    return str(folder / _at_home(path))


def _at_home(path: str) -> Path:
    """Write out the home folder; other names may begin with ``~``, too."""
    return Path(path).expanduser() if path == "~" or path.startswith("~/") else Path(path)


def _demo(path: str) -> Path:
    return demo_folder() / path.removeprefix(DEMO).lstrip("/")


def _title(path: Path) -> str:
    """Return the first comment line of a recipe after its ``#!`` line, without its sign; empty when there is none."""
    with path.open(encoding="utf-8") as lines:
        comments = (line for line in lines if line.startswith("#") and not line.startswith("#!"))
        return next((line.lstrip("#").strip() for line in comments), "")
