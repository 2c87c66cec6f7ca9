"""The command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .plain import plain


@plain()
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a finished run or comparison.")],
) -> None:
    """Write report.html of a run or a comparison again."""
    from ..report.write import write_report

    print(write_report(folder))
