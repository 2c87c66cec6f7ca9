"""Errors that a user can act on: what is wrong, where, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a recipe or in a data file.

    Args:
        message: What is wrong, which values are allowed and what to do about it.
        where: Where it stands: ``file: key.path`` in a recipe, ``file:line`` in data.
    """

    message: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UserError(ValueError):
    """Base class of the errors that are the user's to mend; commands print them without a traceback."""


class ProblemsError(UserError):
    """Several problems, shown together.

    Args:
        problems: At least one problem; all of them are listed in the error's text.
        total: How many there are, where only the first ones are listed.
    """

    subject = "input"

    def __init__(self, problems: Sequence[Problem], total: int | None = None):
        self.problems = list(problems)
        count = len(self.problems) if total is None else total
        head = f"{count} problem{'s' if count != 1 else ''} in the {self.subject}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class RecipeError(ProblemsError):
    """A recipe cannot be run as it is written."""

    subject = "recipe"


class DataError(ProblemsError):
    """Rows of a data file cannot be used; every bad row is named by file and line."""

    subject = "data"


class ModelError(UserError):
    """A model cannot be found, read or used for the task."""


class TrainingError(UserError):
    """Training came to a point from which it cannot go on."""


class UnfitModelError(ModelError, TrainingError):
    """A stage cannot use the model that it is given: other recipes may."""


class RunError(UserError):
    """A run folder cannot be used: it belongs to another recipe, is incomplete or is damaged."""


class RunBusyError(RunError):
    """Another live process writes the run folder."""


class HubError(UserError):
    """A model cannot be pushed: token, network, repository, or what is to be pushed; nothing of the run is changed."""


def listing(names: Sequence[str], most: int = 10) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return a hint that names the closest allowed word, or an empty string.

    Args:
        word: What the user wrote.
        allowed: The words that would have been right.

    Returns:
        For instance ``" Did you mean 'dann'?"`` (with a leading space), or ``""`` when nothing is close.
    """
    matches = difflib.get_close_matches(word, [str(item) for item in allowed], n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def first_line(error: Exception) -> str:
    """Return what an exception says first, or its name where it says nothing: at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
