"""Xet, by which ``huggingface_hub`` sends large files to the hub wherever ``hf_xet`` is installed.

For that the hub gives out a pass. The client fetches it inside ``hf_xet``, which goes on asking a hub that is down when
the deadline of a call is long over, and tells a refusal as a lost connection. So a push asks for a pass itself first.
"""

from __future__ import annotations

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from ..errors import HubError
from ..pulling import by_xet
from . import calls

WITHOUT = "HF_HUB_DISABLE_XET=1 sends large files by LFS"


def check_pass(api: HfApi, repo: str) -> None:
    """Ask the hub whether large files of a repository may be sent by Xet, if they would be.

    Args:
        api: With endpoint and token.
        repo: Hub id.

    Raises:
        NoAnswer: Four times.
        HubError: The hub knows no Xet.
        HfHubHTTPError: The hub refused.
    """
    if not by_xet():
        return

    def ask() -> None:
        url = f"{api.endpoint}/api/models/{repo}/xet-write-token/main"
        hf_raise_for_status(get_session().get(url, headers=build_hf_headers(token=api.token), timeout=calls.DEADLINE))

    try:
        calls.repeat("ask for a pass to the store of large files", ask)
    except HfHubHTTPError as error:
        if error.response.status_code != 404:
            raise
        raise HubError(f"the hub at {api.endpoint} takes no files by Xet: {WITHOUT}. Set it and push again.") from error


def advice() -> str:
    """What may help where large files cannot be sent; empty where they do not go by Xet."""
    return f"; {WITHOUT}" if by_xet() else ""
