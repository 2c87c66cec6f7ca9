"""The report of whatever lies in a folder, written again."""

from __future__ import annotations

from pathlib import Path

from ..errors import RunError
from .comparison import TABLE, report_comparison
from .run import report_run


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` of a finished run or comparison again, from what lies in its folder.

    Args:
        folder: Folder of a run or of a comparison.

    Returns:
        The file.

    Raises:
        RunError: The folder holds neither, or what it holds is not finished or is damaged.
    """
    place = Path(folder)
    if (place / TABLE).is_file():
        return report_comparison(place)
    if (place / "metrics.json").is_file():
        return report_run(place)
    if not place.is_dir():
        raise RunError(f"'{place}' is no folder. Give the folder of a run or of a comparison.")
    state = "a run that is not finished: run its recipe again" if (place / "recipe.yaml").is_file() else "neither"
    raise RunError(f"'{place}' holds {state}. A report is of a finished run (metrics.json) or comparison ({TABLE}).")
