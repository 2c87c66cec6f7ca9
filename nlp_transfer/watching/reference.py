"""What a stream is compared with: the target text that a model was adapted to, or a file of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import recipe as recipes
from ..bulk.belongings import run_of
from ..bulk.source import TextSource
from ..data.load import load_split
from ..data.texts import Row
from ..errors import DataError, Problem, RunError, UserError
from ..recipe.shipped import resolve_path
from .reservoir import Reservoir
from .tally import Tally, observe

Predict = Callable[[list[str]], list[dict[str, Any]]]
TARGET, FIRST = "target", "first"
MOST = 1000
"""Texts of a reference: a random sample of a larger one."""


def reference_texts(model: str, wanted: str | None) -> tuple[list[str] | None, str]:
    """Find the texts of the reference.

    Args:
        model: The model; of a run folder the target text is known.
        wanted: ``target`` (that text), ``first`` (the first windows), a file of texts, or None for the target text
            where there is one, else the first windows.

    Returns:
        The texts, or None for the first windows; and what the reference is, in words.

    Raises:
        DataError: The file cannot be read or holds no texts.
        RunError: The target text is asked for and not there.
    """
    if wanted == FIRST:
        return None, "the first windows of each topic"
    if wanted not in (TARGET, None):
        return _of_file(str(wanted)), f"texts of {wanted}"
    try:
        folder = Path(model).expanduser()
        return _of_run(run_of(folder) if folder.is_dir() else folder)
    except UserError as error:
        if wanted == TARGET:
            raise
        reason = str(error).splitlines()[-1].strip()
        return None, f"the first windows, as there is no target text to compare with: {reason}"


def tally_of(texts: list[str], predict: Predict) -> Tally:
    """Count what a model answers to texts."""
    tally = Tally()
    for answer in predict(texts):
        tally.add(observe(answer))
    return tally


def _of_file(path: str) -> list[str]:
    with TextSource(path).rows() as rows:
        texts = _sample(_texts(rows))
    if not texts:
        raise DataError([Problem("the file holds no texts to compare with (--reference)", path)])
    return texts


def _texts(rows: Iterator[Row]) -> Iterator[str]:
    for row in rows:
        if row.text is None:
            raise DataError([Problem(row.error)])
        if row.text.strip():
            yield row.text


def _of_run(folder: Path) -> tuple[list[str], str]:
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise RunError(f"'{folder}' is no run folder, so the text that the model was adapted to is not known.")
    recipe, problems = recipes.load(path)
    if recipe is None:
        raise RunError(f"{problems[0]}")
    target = recipe.data.target
    role, file = ("unlabelled", target.unlabelled) if target.unlabelled is not None else ("train", target.train)
    if file is None:
        raise RunError(f"the recipe of '{folder}' has no target text.")
    split = load_split(
        resolve_path(recipe.data, file.path),
        name=f"data.target.{role}",
        kind="text",
        columns=recipe.data.columns if file.columns is None else file.columns,
        format=file.format,
        hub_split=file.split,
        config=file.config,
        revision=file.revision,
    )
    return _sample(split.rows["text"]), f"data.target.{role} of {folder}"


def _sample(texts: Iterable[str]) -> list[str]:
    drawn: Reservoir[str] = Reservoir(MOST)
    for text in texts:
        drawn.add(text)
    return drawn.kept
