"""What chose a run's checkpoint, in words: read wherever scores are told, so it loads nothing."""

from __future__ import annotations

ORACLE = "oracle"
SOURCE_DEV = "source_dev"
LAST_STEP = "last_step"


def told(selection: str) -> str:
    """Return the selection as ``metrics.json`` and the card tell it."""
    if selection in (SOURCE_DEV, LAST_STEP):
        return selection.replace("_", " ")
    return "ORACLE: labels of target.dev" if selection == ORACLE else f"{selection} of unlabelled target text"


def is_oracle(selection: str | None) -> bool:
    """Whether what :func:`told` gave is that of an oracle."""
    return selection == told(ORACLE)


def oracle_note() -> str:
    """Return the line that goes wherever scores of an oracle are shown."""
    return (
        "ORACLE: the adapted model's checkpoint is selected with the labels of target.dev. Its scores are an upper "
        "bound, not those of unsupervised adaptation."
    )
