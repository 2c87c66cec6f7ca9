"""Results as JSON files that hold what is needed to repeat them."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOMAINS = ("sentiment", "ner", "intent")
"""Folders of the benchmarks' data."""


def command_line(script: str, *words: str, **options: Any) -> str:
    """Return the command that makes a file of results, without paths of this machine.

    Args:
        script: Name of the script in this folder.
        words: Its positional arguments.
        options: Value, or values, of each option; None, False and nothing leave it out, True is a flag.
    """
    found = ["python", f"tests/benchmarks/{script}.py", *words]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        if value is None or value is False or not values:
            continue
        found += [f"--{name.replace('_', '-')}", *([] if value is True else map(_shown, values))]
    return shlex.join(found)


def _shown(value: Any) -> str:
    if not isinstance(value, Path):
        return str(value)
    path = value.resolve()
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).as_posix()
    # Below the folder of the data, as the other benchmarks are given it.
    at = next((number for number, part in enumerate(path.parts) if part in DOMAINS), -1)
    return "/".join(["DATA", *path.parts[at:]]) if at > 0 else path.name


def in_process(script: str, *arguments: Any) -> dict[str, Any]:
    """Run a script in a process of its own; return the figures that it prints last, as JSON."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def read_results(path: Path | None) -> dict[str, Any]:
    """Return the results that a file holds; none where it is not there yet."""
    if path is None or not path.is_file():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))["results"]
    return results


def command_of(path: Path) -> str:
    """Return the command that made a file of results."""
    return str(json.loads(path.read_text(encoding="utf8"))["command"])


def write_results(path: Path, command: str, results: dict[str, Any]) -> None:
    """Write results with the command that made them, the date, the hardware and the versions.

    A ``note`` that somebody has written into the file stays.

    Args:
        path: JSON file.
        command: From :func:`command_line`.
        results: JSON-able results.
    """
    from nlp_transfer.hardware import describe

    held = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    record = {
        "command": command,
        **{key: held[key] for key in ("note",) if key in held},
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
