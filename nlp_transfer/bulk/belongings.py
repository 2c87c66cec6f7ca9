"""Files that belong to a model: its own, those of its run, and the data that the run was made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import recipe as recipes
from ..errors import RecipeError
from ..recipe.shipped import HUB, resolve_path
from ..recipe.stages import PretrainStage

OWN = (
    *("*.json", "*.safetensors", "*.onnx", "tokenizer*", "merges*", "vocab*"),
    *("recipe.yaml", "README.md", "report.html", "log.jsonl", "stages.jsonl"),
    *("model/**/*", "predictions/**/*", "stages/**/*", "students/**/*"),
)
"""What runs, model folders and exports hold. Anything else beside it is the user's: a page, answers."""


def belongings(model: str | Path) -> dict[str, str | Path | None]:
    """Return the files that belong to a model, by what a message calls them; none of a hub id.

    Args:
        model: Run folder, model folder or hub id. Of a model or an export inside a run, the run's files are meant, too.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return {}
    folder = folder.resolve()
    run = run_of(folder)
    return _files(folder) | ({} if run == folder else _files(run))


def run_of(folder: Path) -> Path:
    """Return the run that a folder, such as its model or an export of it, lies in; else the folder itself."""
    places = [folder, *folder.resolve().parents]
    return next((place for place in places if (place / "recipe.yaml").is_file() and (place / "model").is_dir()), folder)


def _files(folder: Path) -> dict[str, str | Path | None]:
    own = {f"model's {path.relative_to(folder)}": path for pattern in OWN for path in folder.glob(pattern)}
    return {**own, **{f"model's {role}": path for role, path in _data_files(folder)}}


def _data_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the data files of a run; of a recipe that cannot be read none are known."""
    path = folder / "recipe.yaml"
    try:
        recipe = recipes.load(path)[0] if path.is_file() else None
    except RecipeError:
        return
    if recipe is None:
        return
    files = {f"data.{role}": file.path for role, file in recipe.data.files.items()}
    for number, stage in enumerate(recipe.stages):
        if isinstance(stage, PretrainStage) and stage.corpus is not None:
            files[f"stages.{number}.corpus"] = stage.corpus.path
    for role, place in files.items():
        if not place.startswith(HUB):
            yield role, resolve_path(recipe.data, place)
