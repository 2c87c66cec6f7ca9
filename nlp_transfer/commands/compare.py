"""The command ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides, RecipeFile
from .plain import plain


@plain(resumes=True)
def compare_command(
    recipe: RecipeFile,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B+C", help="Strategies: names, or titles of the compare section; by default all of it."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds (1, 2, …).")] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the comparison.")] = None,
) -> None:
    """Train several strategies with several seeds, and tell which helps.

    Finished runs are kept: the same command again goes on, further strategies and seeds are added, and several
    processes may work on one comparison.
    """
    from ..comparison.compare import compare
    from ..parts import load_recipe
    from ..reporter import ConsoleReporter
    from ..screen import show_comparison

    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    numbers = None if seeds is None else list(range(1, seeds + 1))
    loaded = load_recipe(recipe, overrides or ())
    show_comparison(compare(loaded, names, numbers, folder=output, reporter=ConsoleReporter()))
