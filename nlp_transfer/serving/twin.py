"""The source-only twin of a run, loaded when somebody first asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..guard import TWIN
from ..model_files import read_object

Predict = Callable[[Sequence[str]], list[dict[str, Any]]]


def twin_folder(run: Path) -> Path | None:
    """Return the twin's model folder; None where a run has none, keeps the twin itself, or is no run.

    Args:
        run: A run folder, or anything else.
    """
    record = run / "metrics.json"
    if not (run / "recipe.yaml").is_file() or not record.is_file():
        return None
    if read_object(record).get("kept") == TWIN:
        return None
    # Of several finetune stages the twin's last one: source-only, source-only-2, …
    found = {_number(path.parent.name): path for path in run.glob(f"stages/{TWIN}*/model") if path.is_dir()}
    return found[max(found)] if found else None


def _number(stage: str) -> int:
    rest = stage.removeprefix(TWIN).removeprefix("-")
    return int(rest) if rest.isdecimal() else 1


class Lazy:
    """A predictor that is made when it is first called; for one call at a time.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Predict]):
        self._make = make
        self._made: Predict | None = None

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Answer for some texts."""
        if self._made is None:
            self._made = self._make()
        return self._made(texts)
