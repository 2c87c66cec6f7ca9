"""The JSON files that a run leaves for whoever comes later: what is missing or damaged is told with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import RunError

LOG = "log.jsonl"
"""What was logged in training: in the run's folder of all stages, in a stage's folder its own."""


def rerun(folder: Path) -> str:
    """Return what mends a file that a run writes when its stages are done."""
    return (
        f"Delete metrics.json (and cost.json, if there is one) in '{folder}' and run it again, which keeps finished "
        "stages; or begin anew: delete the folder, or give run --fresh."
    )


def read_json(path: Path, mend: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a file holds that is one JSON object.

    Args:
        path: The file.
        mend: What to do where it is damaged; whole sentences.
        keys: Keys that it must have.

    Raises:
        RunError: It is missing, cut off or otherwise no JSON object, or lacks a key.
    """
    return _object(_text(path, mend), f"'{path}'", mend, keys)


def read_json_lines(path: Path, mend: str, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return what a file holds that is a JSON object a line; see :func:`read_json`.

    Args:
        path: The file.
        mend: What to do where it is damaged.
        keys: Keys that every line must have.

    Raises:
        RunError: It is missing, or a line is no JSON object or lacks a key.
    """
    # Not splitlines(), which cuts texts at separators that JSON leaves as they are.
    lines = enumerate(_text(path, mend).split("\n"), start=1)
    return [_object(line, f"'{path}' (line {number})", mend, keys) for number, line in lines if line]


def warnings_in(log: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what methods have warned of while a run was trained: the last warning of each method in each stage.

    Args:
        log: Lines of ``log.jsonl``. What a stage logs at an earlier step makes its warning void: it has begun anew.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for line in log:
        stage, step = line.get("stage", ""), line.get("step", 0)
        found = {key: old for key, old in found.items() if key[0] != stage or old.get("step", 0) <= step}
        if "warning" in line:
            found[stage, line["warning"].partition(":")[0]] = line
    return [f"{stage}, step {line.get('step')}: {line['warning']}" for (stage, _), line in found.items()]


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON objects, a line each, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def look_up(values: Any, path: Path, mend: str, *keys: str) -> Any:
    """Return what stands at a key path of what a file holds.

    Args:
        values: Content of the file.
        path: The file.
        mend: What to do where it is damaged.
        keys: The key path.

    Raises:
        RunError: There is nothing.
    """
    for at, key in enumerate(keys):
        if not isinstance(values, dict) or key not in values:
            raise damaged(f"'{path}'", f"it has no '{'.'.join(keys[: at + 1])}'", mend)
        values = values[key]
    return values


def damaged(place: str, what: str, mend: str) -> RunError:
    """Return the error of a damaged file.

    Args:
        place: The file, in quotation marks.
        what: What is wrong with it.
        mend: What to do.
    """
    return RunError(f"{place} is damaged: {what}. {mend}")


def _text(path: Path, mend: str) -> str:
    try:
        return path.read_text(encoding="utf8")
    except FileNotFoundError as error:
        raise RunError(f"'{path}' is missing. {mend}") from error
    except (OSError, ValueError) as error:
        raise damaged(f"'{path}'", f"it cannot be read ({error})", mend) from error


def _object(text: str, place: str, mend: str, keys: Sequence[str]) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise damaged(place, f"it is cut off or no JSON ({error})", mend) from error
    if not isinstance(values, dict):
        raise damaged(place, "it holds no JSON object", mend)
    missing = [key for key in keys if key not in values]
    if missing:
        raise damaged(place, f"it has no '{missing[0]}'", mend)
    return values
