"""Which commit of the hub a base is that lies on this machine without one, as the bundled encoder does.

An adapter that names its base without a commit fits only as long as the base's owner leaves the weights as they are.
"""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from ..errors import HubError
from . import calls
from .files import hash_file
from .remote import Repository, look

WEIGHTS = "model.safetensors"
NEWEST = 30
"""Commits of a base that are looked at."""

log = logging.getLogger(__name__)


class _Untold(Exception):
    """Nobody can tell the commit; says why."""


def commit_of(api: HfApi, base: str, folder: Path) -> str | None:
    """Return the newest commit of a base whose weights are those of this machine.

    Args:
        api: With endpoint and token.
        base: Hub id.
        folder: Where the base lies here.

    Returns:
        The commit; None where nobody can tell it, which is logged as a warning with the reason.

    Raises:
        HubError: The hub has other weights under this name, so that an adapter would not fit.
    """
    try:
        newest = _newest(api, base)
        for place, found in (("here", (folder / WEIGHTS).is_file()), ("on the hub", WEIGHTS in newest.files)):
            if not found:
                raise _Untold(f"there is no {WEIGHTS} {place} to compare")
    except _Untold as error:
        log.warning(
            "Warning: the adapter names its base '%s' without a commit, as %s. Should the weights of that name change, "
            "it will no longer fit them.",
            base,
            error,
        )
        return None
    own = hash_file(WEIGHTS, folder / WEIGHTS).checksums
    return newest.head if newest.files[WEIGHTS] in own else _earlier(api, base, own)


def _newest(api: HfApi, base: str) -> Repository:
    if constants.HF_HUB_OFFLINE:
        raise _Untold("HF_HUB_OFFLINE is set")
    try:
        found = look(api, base)
    except (calls.NoAnswer, HfHubHTTPError) as error:
        raise _Untold(f"the hub at {api.endpoint} {_why(error)}") from error
    if found is None:
        raise _Untold(f"the hub at {api.endpoint} has no model of this name that you may read")
    return found


def _earlier(api: HfApi, base: str, own: tuple[str, str]) -> str:
    """Return the newest commit with these weights of a base that has others by now."""
    other = (
        f"the base '{base}' is another one on the hub at {api.endpoint} than the one that this adapter was trained on: "
        f"its {WEIGHTS} there has other bytes"
    )
    try:
        commits = calls.repeat(f"list the commits of '{base}'", lambda: api.list_repo_commits(base))
        for commit in commits[1:NEWEST]:
            there = look(api, base, commit.commit_id)
            if there is not None and there.files.get(WEIGHTS) in own:
                return there.head
    except (calls.NoAnswer, HfHubHTTPError) as error:
        raise HubError(
            f"{other}, and for its earlier commits the hub {_why(error)}. Push again later, or push it merged "
            "(--merged)."
        ) from error
    raise HubError(
        f"{other}, and no earlier one among its newest {NEWEST} commits has the same. The adapter would not fit, so "
        "nothing is pushed. Push it merged (--merged)."
    )


def _why(error: calls.NoAnswer | HfHubHTTPError) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"refuses to tell ({error.response.status_code})"
    return f"does not answer ({error})"
