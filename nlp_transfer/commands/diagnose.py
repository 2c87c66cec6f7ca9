"""The command ``diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides, RecipeFile
from .plain import plain


@plain()
def diagnose_command(
    recipe: RecipeFile,
    overrides: Overrides = None,
    models: Annotated[
        list[str] | None, typer.Option("--models", metavar="MODEL", help="Another model to compare; may be repeated.")
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows of a split that are looked at.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write diagnosis.json here too.")] = None,
) -> None:
    """Measure domains, encoder and machine before any training, and say what to try.

    Takes about a minute with a small encoder on two cores. Labels of the target are not read.
    """
    from ..diagnosis.diagnose import diagnose
    from ..errors import UserError
    from ..parts import load_recipe
    from ..reporter import ConsoleReporter
    from ..screen import show_diagnosis

    if output is not None and not (output.is_dir() or output.parent.is_dir()):
        raise UserError(f"--output '{output}': there is no folder '{output.parent}'.")
    found = diagnose(
        load_recipe(recipe, overrides or ()), reporter=ConsoleReporter(), models=models or (), max_rows=rows
    )
    show_diagnosis(found, as_json, output)
