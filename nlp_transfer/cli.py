"""The command line: each command calls one library function and prints what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from .commands.distill import distill_command
from .commands.export import export_command
from .commands.options import Model, Overrides, RecipeFile, TextColumn
from .commands.plain import plain, talks
from .commands.predict import predict_command
from .commands.push import push_command
from .commands.serve import serve_command
from .commands.watch import watch_command

# Plain help and plain tracebacks: both are read in logs as often as on a terminal, and quicker to load.
app = typer.Typer(
    name="nlp-transfer",
    help="Domain adaptation and transfer learning for BERT-family models: one recipe, one command, an honest report.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nlp-transfer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command("run")
@plain(resumes=True)
def run_command(
    recipe: RecipeFile,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier run in the same folder first.")] = False,
) -> None:
    """Run a recipe, or resume its run.

    Trains, evaluates and writes the run folder. The same command again resumes a stopped run.
    """
    from .parts import load_recipe
    from .reporter import ConsoleReporter
    from .running import run
    from .screen import show_run

    loaded = load_recipe(recipe, overrides or ())
    result = run(loaded, fresh=fresh, reporter=ConsoleReporter())
    if talks():
        show_run(result, loaded)


@app.command("compare")
@plain(resumes=True)
def compare_command(
    recipe: RecipeFile,
    strategies: Annotated[
        str | None, typer.Option(metavar="A,B+C", help="Strategies; by default those of the compare section.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds (1, 2, …).")] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the comparison.")] = None,
) -> None:
    """Train several strategies with several seeds, and tell which helps.

    Finished runs are kept: the same command again goes on, further strategies and seeds are added, and several
    processes may work on one comparison.
    """
    from .comparison.compare import compare
    from .parts import load_recipe
    from .reporter import ConsoleReporter
    from .screen import show_comparison

    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    numbers = None if seeds is None else list(range(1, seeds + 1))
    loaded = load_recipe(recipe, overrides or ())
    show_comparison(compare(loaded, names, numbers, folder=output, reporter=ConsoleReporter()))


@app.command("check")
@plain()
def check_command(
    recipe: RecipeFile,
    overrides: Overrides = None,
    data: Annotated[bool, typer.Option("--data", help="Read the data too, and report what is there.")] = False,
) -> None:
    """Validate a recipe, and look at its data.

    With --data, tells what the data are: sizes, labels, lengths, duplicates, gaps.
    """
    from .checking import check
    from .parts import load_recipe
    from .screen import show_check

    show_check(check(load_recipe(recipe, overrides or ()), data=data))


@app.command("diagnose")
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
    from .diagnosis.diagnose import diagnose
    from .parts import load_recipe
    from .reporter import ConsoleReporter
    from .screen import show_diagnosis

    found = diagnose(
        load_recipe(recipe, overrides or ()), reporter=ConsoleReporter(), models=models or (), max_rows=rows
    )
    show_diagnosis(found, as_json, output)


app.command("predict")(predict_command)
app.command("watch")(watch_command)


@app.command("evaluate")
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
    from .inference import evaluate
    from .recipe.schema import Columns
    from .screen import show_score

    words, tags = _index(text_column), _index(label_column)
    columns = Columns(
        text=text_column, label=label_column, labels=label_column, entities=label_column, words=words, tags=tags
    )
    show_score(evaluate(model, data, columns=columns, format=format), as_json)


def _index(column: str | None) -> int | None:
    """Return the number of a CoNLL column (negative: from the last); None for a name."""
    return int(column) if column is not None and column.removeprefix("-").isdecimal() else None


app.command("export")(export_command)
app.command("distill")(distill_command)


@app.command("report")
@plain()
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a finished run or comparison.")],
) -> None:
    """Write report.html of a run or a comparison again."""
    from .report.write import write_report

    print(write_report(folder))


app.command("serve")(serve_command)


@app.command("schema")
@plain()
def schema_command() -> None:
    """Print the JSON Schema of recipes.

    Editors complete and check with it.
    """
    from .parts import json_schema
    from .screen import show_json

    show_json(json_schema())


@app.command("recipes")
@plain()
def recipes_command() -> None:
    """List the recipes that come along."""
    from .recipe.shipped import list_recipes
    from .screen import show_recipes

    show_recipes(list_recipes())


@app.command("copy")
@plain()
def copy_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name as 'nlp-transfer recipes' lists it.")],
    destination: Annotated[Path, typer.Argument(metavar="[DEST]", help="New file, or an existing folder.")] = Path(),
) -> None:
    """Copy a recipe, to start from."""
    from .recipe.shipped import copy_recipe

    print(copy_recipe(name, destination))


app.command("push")(push_command)


def main() -> None:
    """Run the command line."""
    app()
