"""The command ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides
from .plain import plain, talks


@plain(resumes=True)
def distill_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, the teacher.")],
    student: Annotated[
        str | None, typer.Option(metavar="LAYERS|MODEL", help="Layers to keep, half by default; or another model.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Run folder of the student.")] = None,
    overrides: Overrides = None,
) -> None:
    """Train a smaller model on the answers of a finished run, and compare the two.

    The student is a run of its own. The same command again resumes it.
    """
    from ..distillation.distill import distill
    from ..reporter import ConsoleReporter
    from ..screen import show_distilled

    wanted = int(student) if student is not None and student.isdecimal() else student
    distilled = distill(run, wanted, output=output, overrides=overrides or (), reporter=ConsoleReporter())
    if talks():
        show_distilled(distilled)
