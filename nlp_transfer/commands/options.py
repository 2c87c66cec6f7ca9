"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as train.epochs=2.")
]
RecipeFile = Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Run folder, model folder, export, or hub id, also as owner/name@revision."),
]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text; 'text' by default.")]
