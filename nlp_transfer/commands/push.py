"""The command ``push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HubError
from .plain import plain


@plain()
def push_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    repo: Annotated[str, typer.Argument(metavar="REPO_ID", help="owner/name, or a URL such as file:///models/mine.")],
    public: Annotated[bool, typer.Option("--public", help="Everyone may read it; private by default.")] = False,
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone; refuse a run without one.")] = False,
    merged: Annotated[bool, typer.Option("--merged", help="The adapter merged into its base.")] = False,
    base: Annotated[
        str | None, typer.Option(metavar="ID", help="Hub id of an adapter's base, if that is local.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the model of an existing repository.")] = False,
    report: Annotated[bool, typer.Option(help="With report.html, which quotes texts of your data.")] = True,
    license: Annotated[str | None, typer.Option(help="Licence of the model, such as apache-2.0.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Language of the texts (en); may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag on the card; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files and the card; push nothing.")] = False,
) -> None:
    """Push a finished run to a model hub.

    Private unless --public is given. One commit: weights, tokenizer, card, recipe, metrics, report. The token is that
    of `hf auth login` or HF_TOKEN.
    """
    from ..hub.push import push
    from ..screen import show_push

    if adapter and merged:
        raise HubError("--adapter and --merged exclude each other.")
    result = push(
        run,
        repo,
        form="merged" if merged else "adapter" if adapter else "as it is",
        base=base,
        public=public,
        replace=replace,
        report=report,
        card={"license": license, "language": language, "tags": tag},
        dry_run=dry_run,
    )
    show_push(result)
