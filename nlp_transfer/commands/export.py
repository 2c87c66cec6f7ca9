"""The command ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Model
from .plain import plain


@plain()
def export_command(
    model: Model,
    format: Annotated[str, typer.Option(help="Format of the export: onnx.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Round weights to 8 bits.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="New folder; in the run by default.")] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Labelled rows to check on; not source dev.")] = None,
    max_loss: Annotated[float, typer.Option(min=0, max=1, help="Score on these rows that int8 may cost.")] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="Keep an int8 export that loses more.")] = False,
) -> None:
    """Write a model for ONNX Runtime, checked against it on real rows.

    Adapters are merged. The folder answers in predict and evaluate, without torch.
    """
    from ..exporting.write import export
    from ..screen import show_exported

    show_exported(export(model, output, format=format, int8=int8, data=data, max_loss=max_loss, force=force))
