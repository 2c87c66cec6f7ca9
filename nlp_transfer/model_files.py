"""The small JSON files that lie beside a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ModelError


def read_object(path: Path) -> dict[str, Any]:
    """Return what a file holds that is one JSON object.

    Raises:
        ModelError: It is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"'{path}' is damaged: {error}. Restore the folder that it lies in.") from error
    if not isinstance(values, dict):
        raise ModelError(f"'{path}' is damaged: it holds no JSON object. Restore the folder that it lies in.")
    return values
