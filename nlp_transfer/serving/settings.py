"""What a service allows and how long it waits; the token, and where it may come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

TOKEN_VARIABLE = "NLP_TRANSFER_TOKEN"
"""Environment variable of the bearer token."""


@dataclass(frozen=True)
class ServiceLimits:
    """Limits of a service. What is beyond them is refused with a status that says so, never cut.

    Args:
        max_body: Largest body of a request, in bytes (413).
        max_texts: Most texts in a request (422).
        max_characters: Longest text, in characters (422).
        explain_characters: Longest text that is explained, in characters (422).
        batch_tokens: About as many tokens are computed in one go, from as many clients as are waiting; a request of
            more is computed in slices, between which others have their turn.
        wait: Seconds that a batch which is not full waits for more, where several clients are asking.
        queue_tokens: About as many tokens may be computed until a request is answered, its own included; as requests
            take turns, a long one counts no more than a slice before a short one (503 beyond).
        queue_explanations: As many explanations may wait (503 beyond).
        timeout: Seconds from the end of a request to its answer (504), for the body to arrive (408), and for what is
            still computed when the service stops.
    """

    max_body: int = 2**20
    max_texts: int = 256
    max_characters: int = 20_000
    explain_characters: int = 2_000
    batch_tokens: int = 4096
    wait: float = 0.003
    queue_tokens: int = 2**17
    queue_explanations: int = 8
    timeout: float = 30.0

    def __post_init__(self) -> None:
        wrong = [name for name, value in vars(self).items() if value < 0 or (value == 0 and name != "wait")]
        if wrong:
            raise ValueError(f"limits of a service are above 0: {', '.join(wrong)}")


def read_token(file: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the bearer token that clients must send, or None where none is set.

    Args:
        file: File that holds it; the environment variable is not read then.
        environment: Environment variables.

    Raises:
        UserError: The file cannot be read, or the token is empty or cannot stand in a header.
    """
    where = f"environment variable {TOKEN_VARIABLE}" if file is None else f"token file '{file}'"
    if file is None:
        token = environment.get(TOKEN_VARIABLE)
    else:
        try:
            token = Path(file).read_text(encoding="utf8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from None
    if token is None:
        return None
    token = token.strip()
    if not token:
        raise UserError(f"{where} is empty. Write a token into it, or leave it out to serve without one.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(f"{where}: a token is made of ASCII letters, digits and signs, without spaces.")
    return token
