"""What a comparison tells of strategies whose training has failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Failures = dict[str, dict[str, str]]
"""Why training failed, by strategy and seed (as text, which it is in JSON)."""


def failed_words(summary: Mapping[str, Any]) -> list[str]:
    """Return which strategies have failed, with which seeds, why, and what that means for the table.

    Args:
        summary: Content of ``comparison.json``.
    """
    return [_told(name, why, summary) for name, why in summary.get("failed", {}).items()]


def _told(name: str, why: Mapping[str, str], summary: Mapping[str, Any]) -> str:
    seeds = list(why)
    which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
    left = f"judged by {len(summary['seeds']) - len(seeds)} of {len(summary['seeds'])} seeds"
    meaning = left if name in summary["strategies"] else "in no table, not ranked and not picked"
    first = f"seed {seeds[0]}: " if len(set(why.values())) > 1 else ""
    return f"Training of {name} has failed with {which}, so that it is {meaning}. {first}{why[seeds[0]]}"
