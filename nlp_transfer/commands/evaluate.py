"""The command ``evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Model, TextColumn
from .plain import plain


@plain()
def evaluate_command(
    model: Model,
    data: Annotated[str, typer.Option(metavar="FILE", help="Labelled rows: csv, tsv, jsonl, parquet or conll.")],
    text_column: TextColumn = None,
    label_column: Annotated[str | None, typer.Option(help="Column of label, labels or entities.")] = None,
    format: Annotated[str | None, typer.Option(help="Format of the file, where its suffix does not tell.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Score a model on labelled rows."""
    from ..card.origins import notes_of
    from ..inference import evaluate
    from ..recipe.schema import Columns
    from ..screen import show_score

    words, tags = _index(text_column), _index(label_column)
    columns = Columns(
        text=text_column, label=label_column, labels=label_column, entities=label_column, words=words, tags=tags
    )
    show_score(evaluate(model, data, columns=columns, format=format), as_json, notes_of(model))


def _index(column: str | None) -> int | None:
    """Return the number of a CoNLL column (negative: from the last); None for a name."""
    return int(column) if column is not None and column.removeprefix("-").isdecimal() else None
