"""The command line: each command calls one library function and prints what came of it."""

from __future__ import annotations

from typing import Annotated

import typer

from . import __version__
from .commands.check import check_command
from .commands.compare import compare_command
from .commands.copy import copy_command
from .commands.diagnose import diagnose_command
from .commands.distill import distill_command
from .commands.draw import draw_command
from .commands.evaluate import evaluate_command
from .commands.export import export_command
from .commands.predict import predict_command
from .commands.push import push_command
from .commands.recipes import recipes_command
from .commands.report import report_command
from .commands.run import run_command
from .commands.schema import schema_command
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

# In the order in which a user meets them; so the help lists them.
COMMANDS = {
    "recipes": recipes_command,
    "copy": copy_command,
    "schema": schema_command,
    "check": check_command,
    "diagnose": diagnose_command,
    "draw": draw_command,
    "run": run_command,
    "compare": compare_command,
    "report": report_command,
    "evaluate": evaluate_command,
    "predict": predict_command,
    "export": export_command,
    "distill": distill_command,
    "push": push_command,
    "serve": serve_command,
    "watch": watch_command,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


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


def main() -> None:
    """Run the command line."""
    app()
