"""The command ``watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Model, TextColumn
from .plain import plain


@plain()
def watch_command(
    model: Model,
    input: Annotated[str, typer.Option(metavar="FILE", help="A text, or a JSON object, a line; - is standard input.")],
    window: Annotated[str, typer.Option(metavar="SIZE", help="Texts (200), or time (90s, 15m, 1h, 1d).")] = "200",
    output: Annotated[str, typer.Option(metavar="FILE", help="JSON Lines to write; - is standard output.")] = "-",
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML to write at the end and at SIGUSR1.")] = None,
    format: Annotated[str | None, typer.Option(help="txt or jsonl, where the suffix does not tell.")] = None,
    text_column: TextColumn = None,
    time_column: Annotated[str, typer.Option(help="Key of the time.")] = "timestamp",
    topic_column: Annotated[str, typer.Option(help="Key of the topic.")] = "topic",
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="target|first|FILE", help="Compare with the run's target text, the first windows, a file."
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.5, help="Chance of a false alert in the whole stream.")
    ] = 0.05,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Follow labels over time, and alert when they shift.

    Reads a stream to its end or to Ctrl-C; writes a line of JSON for each window, by topic, and for each alert.
    """
    from ..watching.messages import Keys
    from ..watching.monitor import Rules
    from ..watching.watch import Output, watch
    from ..watching.windows import read_size

    keys = Keys("text" if text_column is None else text_column, time_column, topic_column)
    rules = Rules(read_size(window), alpha)
    places = Output(output, page, overwrite)
    watch(model, input, places, rules=rules, format=format, keys=keys, reference=reference)
