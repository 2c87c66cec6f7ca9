"""The command ``predict``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Model, TextColumn
from .plain import plain, talks


def _writes_a_file(input: str, output: str, **others: Any) -> bool:
    """Whether both are files, as pipes and devices cannot be read or written again; or the input is of the hub."""
    again = Path(input).is_file() or input.startswith("hub:")
    return again and output != "-" and (Path(output).is_file() or not Path(output).exists())


@plain(resumes=_writes_a_file)
def predict_command(
    model: Model,
    input: Annotated[
        str,
        typer.Option(metavar="FILE", help="txt, jsonl, csv, tsv or parquet file, or hub:ID; - is standard input."),
    ],
    output: Annotated[
        str, typer.Option(metavar="FILE", help="File to write, .parquet or JSON Lines; - is standard output.")
    ],
    text_column: TextColumn = None,
    format: Annotated[str | None, typer.Option(help="Format of the input, where its suffix does not tell.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub data set.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a hub data set.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub data set.")] = None,
    batch_tokens: Annotated[int, typer.Option(min=64, help="Most padded tokens in one forward pass.")] = 2048,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")] = False,
) -> None:
    """Predict for every text of a file or data set.

    Any number of rows. The same command again resumes a stopped prediction. The exit code is 1 if some rows could not
    be read.
    """
    from ..bulk.source import TextSource
    from ..screen import show_predicted
    from ..streaming import predict_file

    source = TextSource(input, "text" if text_column is None else text_column, format, split, config, revision)
    summary = predict_file(model, source, output, batch_tokens=batch_tokens, overwrite=overwrite)
    if talks():
        show_predicted(summary, output)
    # A launcher takes the exit code of one of its processes for a crash.
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    raise typer.Exit(1 if summary["errors"] and alone else 0)
