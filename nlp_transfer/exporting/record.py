"""What makes a folder an export."""

from __future__ import annotations

from pathlib import Path

GRAPH = "model.onnx"
RECORD = "export.json"
"""What the export is: format, precision, labels, versions, and what was checked."""


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / RECORD).is_file()
