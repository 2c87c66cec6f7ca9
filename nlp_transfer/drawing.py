"""Target texts to label by hand: a random sample, written so that it can be filled in and named as ``target.test``.

Rows that are drawn at random are what a test set must be: those that look hard, or easy, would tell of themselves.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from .data.canonical import column_names
from .errors import DataError, Problem, UserError
from .preparing.load import load_splits
from .preparing.splits import Splits
from .recipe.defaults import resolve
from .recipe.schema import Columns, Recipe
from .whole import write_text

OPEN = "?"
"""What stands where a label is to be written. It is none, so that a row that was left out is told when it is read."""


@dataclass(frozen=True)
class Drawn:
    """Texts to label.

    Args:
        path: The file.
        rows: Texts in it.
        among: Distinct texts of the target that had no label, from which they were drawn.
        fill_in: What is to be written in place of each question mark.
    """

    path: Path
    rows: int
    among: int
    fill_in: str

    @property
    def half_width(self) -> float:
        """Half the 95 % interval of accuracy on so many rows, where four of five answers are right (0 to 1)."""
        return 1.96 * math.sqrt(0.8 * 0.2 / self.rows)


def draw(
    recipe: Recipe, output: str | Path, rows: int = 100, *, seed: int = 0, data: dict[str, Any] | None = None
) -> Drawn:
    """Draw texts of the unlabelled target at random, without copies and without those that have a label already.

    Args:
        recipe: From :func:`nlp_transfer.load_recipe`.
        output: The file to write: csv, tsv or jsonl; of entities conll.
        rows: How many, at least 1.
        seed: Of the choice, whatever the recipe's is: another one draws other texts.
        data: ``datasets.Dataset`` objects that stand in for files, as :func:`nlp_transfer.run` takes them.

    Returns:
        What was drawn.

    Raises:
        DataError: The recipe has no target text, or fewer texts than asked for.
        UserError: The file exists, its folder does not, or its suffix is none of these.
    """
    recipe, path = resolve(recipe), Path(output)
    writers = CONLL if recipe.task.labels_words else TABLES
    if path.suffix.lower() not in writers:
        raise UserError(f"'{path}': write texts of this task to a file that ends in {', '.join(writers)}.")
    if path.exists():
        raise UserError(f"'{path}' exists already; it may hold labels. Give another name.")
    if not path.parent.is_dir():
        raise UserError(f"'{path}': there is no folder '{path.parent}'.")
    splits = load_splits(recipe, data, probes=True)
    open_rows = _without_label(splits)
    if rows > len(open_rows):
        text = f"{rows} rows are asked for, but only {len(open_rows)} distinct texts have no label yet. Ask for fewer."
        raise DataError([Problem(text, "target.unlabelled")])
    order = np.random.default_rng(seed).permutation(len(open_rows))[:rows]
    chosen = [open_rows[number] for number in order]
    write_text(path, writers[path.suffix.lower()](chosen, recipe.data.columns, recipe.task.multi_label))
    return Drawn(path, rows, len(open_rows), _fill_in(recipe, splits))


def _without_label(splits: Splits) -> list[dict[str, Any]]:
    """Return rows of the unlabelled target, each text once, but for those that a labelled target split holds."""
    if splits.unlabelled is None:
        raise DataError([Problem("there is no target text to draw from. Set data.target.unlabelled.", "data.target")])
    labelled = [*splits.scored.values(), *([] if splits.target_train is None else [splits.target_train])]
    seen = {text for split in labelled for text in split.rows["text"]}
    found: dict[str, dict[str, Any]] = {}
    for row in splits.unlabelled.rows:
        if row["text"] not in seen:
            found.setdefault(row["text"], row)
    return list(found.values())


def _fill_in(recipe: Recipe, splits: Splits) -> str:
    task = recipe.task
    if task.labels_words:
        types = ", ".join(dict.fromkeys(tag[2:] for tag in splits.labels if tag != "O"))
        return f"the tag of that word, and tags of entities in place of O: B- at their first word, I- after it, {types}"
    named = ", ".join(task.polarity or splits.labels)
    return f"labels, joined by |, of {named}; nothing where there is none" if task.multi_label else f"one of {named}"


def _csv(rows: Iterable[dict[str, Any]], columns: Columns, several: bool, delimiter: str = ",") -> str:
    names, sink = column_names(columns), StringIO()
    table = csv.writer(sink, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow([names["text"], names["labels" if several else "label"]])
    table.writerows([row["text"], OPEN] for row in rows)
    return sink.getvalue()


def _tsv(rows: Iterable[dict[str, Any]], columns: Columns, several: bool) -> str:
    return _csv(rows, columns, several, "\t")


def _jsonl(rows: Iterable[dict[str, Any]], columns: Columns, several: bool) -> str:
    names = column_names(columns)
    label = {names["labels"]: [OPEN]} if several else {names["label"]: OPEN}
    return "".join(json.dumps({names["text"]: row["text"]} | label, ensure_ascii=False) + "\n" for row in rows)


def _conll(rows: Iterable[dict[str, Any]], columns: Columns, several: bool) -> str:
    """Every first word asks to be looked at: a sentence of ``O`` alone would be the same before and after."""
    word, tag = (one if isinstance(one, int) else usual for one, usual in ((columns.words, 0), (columns.tags, -1)))
    width = max(2, 1 + max(word, tag))

    def line(text: str, label: str) -> str:
        cells = ["_"] * width
        cells[word], cells[tag] = text, label
        return " ".join(cells)

    tagged = ([line(one, OPEN if number == 0 else "O") for number, one in enumerate(row["words"])] for row in rows)
    return "\n".join("\n".join(lines) + "\n" for lines in tagged)


Writer = Callable[[Iterable[dict[str, Any]], Columns, bool], str]
TABLES: dict[str, Writer] = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}
CONLL: dict[str, Writer] = {".conll": _conll}
