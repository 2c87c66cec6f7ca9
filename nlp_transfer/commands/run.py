"""The command ``run``."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Overrides, RecipeFile
from .plain import plain, talks


@plain(resumes=True)
def run_command(
    recipe: RecipeFile,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier run in the same folder first.")] = False,
) -> None:
    """Run a recipe, or resume its run.

    Trains, evaluates and writes the run folder. The same command again resumes a stopped run.
    """
    from ..parts import load_recipe
    from ..reporter import ConsoleReporter
    from ..running import run
    from ..screen import show_run

    loaded = load_recipe(recipe, overrides or ())
    result = run(loaded, fresh=fresh, reporter=ConsoleReporter())
    if talks():
        show_run(result, loaded)
