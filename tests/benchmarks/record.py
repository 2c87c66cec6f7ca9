"""Results as JSON files that hold what is needed to repeat them."""

from __future__ import annotations

import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def read_results(path: Path | None) -> dict[str, Any]:
    """Return the results that a file holds; none where it is not there yet."""
    if path is None or not path.is_file():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))["results"]
    return results


def write_results(path: Path, command: str, results: dict[str, Any]) -> None:
    """Write results with the command that made them, the date, the hardware and the versions.

    Args:
        path: JSON file.
        command: Command line without paths of this machine.
        results: JSON-able results.
    """
    from nlp_transfer.hardware import describe

    record = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
