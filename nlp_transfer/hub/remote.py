"""A push to the hub: one commit, private unless asked otherwise, verified by checksums.

The order of a push: who am I → what is there → create → upload → one commit on the very state that was seen → compare.
Where an answer is lost, what is there is looked at again: checksums tell whether the step was done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ..errors import HubError
from ..pulling import by_xet
from . import calls, xet
from .files import PushFile, leftovers, same_content

MADE_BY_THE_HUB = {".gitattributes"}
"""What a repository that was just created holds."""

STORE_SAYS = {
    400: "it received something else than was announced",
    401: "it does not take the permission that the hub gave for this file",
    403: "the permission that the hub gave for this file has run out, or something on the way forbids it",
    413: "the file is too large for it, or for a proxy on the way",
}
"""What it means when a store of large files refuses one."""


@dataclass(frozen=True)
class Wish:
    """What a push to the hub is allowed to do.

    Args:
        repo: Hub id.
        public: A new repository is public.
        replace: Replace what an existing repository holds.
        message: Title of the commit.
    """

    repo: str
    public: bool = False
    replace: bool = False
    message: str = "Push a model of nlp_transfer"


@dataclass(frozen=True)
class Repository:
    """A repository as it is.

    Args:
        head: Newest commit.
        private: Whether others cannot read it.
        files: Checksum of each file: sha256 of large ones, git's hash of the others.
    """

    head: str
    private: bool
    files: dict[str, str]


def check_repo_id(repo: str) -> None:
    """Refuse what is no hub id.

    Raises:
        HubError: With the reason.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise HubError(f"'{repo}' is no hub id: {error} Give one such as owner/name.") from error
    if repo.count("/") != 1:
        raise HubError(f"'{repo}' is no hub id: the owner is missing. Give owner/name.")


def push_to_hub(api: HfApi, wish: Wish, files: Sequence[PushFile]) -> str:
    """Push files as one commit.

    Args:
        api: With endpoint and token.
        wish: Where to, and what is allowed.
        files: All of them; files of an earlier push that are not among them are removed.

    Returns:
        URL of the commit.

    Raises:
        HubError: Nothing was pushed, or it is unknown whether; says why and what to do. It can be repeated.
    """
    try:
        calls.repeat("ask the hub whose token this is", api.whoami)
        head = _push(api, wish, files)
    except calls.NoAnswer as error:
        raise HubError(
            f"the hub at {api.endpoint} does not answer ({error}). The run is as it was: push again later."
        ) from error
    except calls.UploadRefused as error:
        raise HubError(_refused_upload(error, wish)) from error
    except HfHubHTTPError as error:
        raise HubError(_refused(error, api, wish)) from error
    except HubError:
        raise
    except ValueError as error:
        # What create_commit makes of the hub's judgement of the card.
        said = " ".join(str(error).split())
        raise HubError(f"the hub refuses the push to '{wish.repo}': {said}") from error
    except OSError as error:
        # So hf_xet tells that its cache on this machine cannot be written.
        raise HubError(
            f"the files cannot be sent to '{wish.repo}': {error}{xet.advice()}. The run is as it was: push again."
        ) from error
    return f"{api.endpoint}/{wish.repo}/commit/{head}"


def _push(api: HfApi, wish: Wish, files: Sequence[PushFile]) -> str:
    there = look(api, wish.repo)
    there = _created(api, wish) if there is None else there
    _check_existing(wish, there, files)
    if not same_content(files, there.files):
        there = _committed(api, wish, files, there)
    if not same_content(files, there.files):
        wrong = [file.name for file in files if there.files.get(file.name) not in file.checksums]
        raise HubError(f"'{wish.repo}' was pushed to, but holds other bytes of {wrong[:3]} than were sent. Push again.")
    return there.head


def look(api: HfApi, repo: str, revision: str | None = None) -> Repository | None:
    """Return what a repository holds, now or at a revision; None where there is none (that this token may see)."""

    def read() -> Repository:
        info = api.model_info(repo, revision=revision)
        assert info.sha is not None
        tree = api.list_repo_tree(repo, recursive=True, revision=info.sha)
        files = {item.path: _checksum(item) for item in tree if isinstance(item, RepoFile)}
        return Repository(info.sha, bool(info.private), files)

    try:
        return calls.repeat(f"look at '{repo}'", read)
    except RepositoryNotFoundError:
        return None


def _checksum(file: RepoFile) -> str:
    return file.blob_id if file.lfs is None else file.lfs.sha256


def _created(api: HfApi, wish: Wish) -> Repository:
    """Create the repository; one that appears although the answer was lost is ours."""
    for wait in (*calls.WAITS, None):
        try:
            calls.call("create the repository", lambda: api.create_repo(wish.repo, private=not wish.public))
        except calls.NoAnswer:
            if wait is None:
                raise
            time.sleep(wait)
        except HfHubHTTPError as error:
            # 409: it is there by now, after an answer that was lost.
            if error.response.status_code != 409:
                raise
        there = look(api, wish.repo)
        if there is not None:
            return there
    raise calls.NoAnswer(f"'{wish.repo}' was created, but cannot be found")


def _check_existing(wish: Wish, there: Repository, files: Sequence[PushFile]) -> None:
    """Refuse a repository that others can read, or that holds something else, unless that was asked for."""
    if wish.public is there.private:
        now, wanted = ("private", "public") if there.private else ("public", "private")
        advice = "Leave out --public" if there.private else "Give --public if everyone may read this model"
        raise HubError(
            f"'{wish.repo}' exists and is {now}, but a {wanted} one was asked for; a push does not change that. "
            f"{advice}, or push to another name."
        )
    held = sorted(set(there.files) - MADE_BY_THE_HUB)
    if held and not wish.replace and not same_content(files, there.files):
        raise HubError(
            f"'{wish.repo}' exists and holds {len(held)} files ({', '.join(held[:4])}{', …' if held[4:] else ''}). "
            "Give --replace to replace its model (its history is kept), or push to another name."
        )


def _committed(api: HfApi, wish: Wish, files: Sequence[PushFile], before: Repository) -> Repository:
    """Upload, then commit everything at once on top of the state that was seen."""
    size = sum(file.size for file in files)
    xet.check_pass(api, wish.repo)

    def commit() -> Any:
        operations = [CommitOperationAdd(file.name, str(file.path)) for file in files]
        if not by_xet():
            # One by one: the client's pool of threads would keep the process alive, should the store fall silent.
            for operation in operations:
                api.preupload_lfs_files(wish.repo, [operation], free_memory=False)
        removed = [CommitOperationDelete(name) for name in leftovers(files, before.files)]
        return api.create_commit(
            wish.repo, [*operations, *removed], commit_message=wish.message, parent_commit=before.head
        )

    lost = ""
    for wait in (*calls.WAITS, None):
        try:
            calls.call("upload and commit", commit, size)
        except calls.NoAnswer as error:
            lost = str(error) if isinstance(error.__cause__, HfHubHTTPError) else f"{error}{xet.advice()}"
        except HfHubHTTPError as error:
            # 412: the repository has moved on, be it by our own commit, whose answer was lost.
            if error.response.status_code != 412:
                raise
            lost = "someone else has pushed to the repository meanwhile"
        there = look(api, wish.repo)
        assert there is not None
        if not lost or same_content(files, there.files):
            return there
        if there.head != before.head:
            raise HubError(f"'{wish.repo}' is not as it was when the push began: {lost}. Look at it and push again.")
        if wait is not None:
            time.sleep(wait)
            lost = ""
    raise calls.NoAnswer(lost)


def _refused(error: HfHubHTTPError, api: HfApi, wish: Wish) -> str:
    status = error.response.status_code
    said = (error.server_message or str(error).strip() or "no reason given").splitlines()[0][:300]
    owner = wish.repo.split("/")[0]
    if status == 401:
        return (
            f"the hub at {api.endpoint} does not accept your token (401). Make one that may write at "
            f"{api.endpoint}/settings/tokens, then `hf auth login` or set HF_TOKEN."
        )
    if status == 403:
        return f"your token may not write to '{owner}' (403: {said}). Give it the role 'write', or another owner."
    return f"the hub refuses the push to '{wish.repo}' ({status}): {said}"


def _refused_upload(error: calls.UploadRefused, wish: Wish) -> str:
    answer = error.__cause__
    assert isinstance(answer, HfHubHTTPError)
    status = answer.response.status_code
    meaning = STORE_SAYS.get(status, answer.response.reason_phrase)
    # Not the answer's own text, which holds the URL: that is a permission to write.
    said = (answer.server_message or "").strip()
    if said.startswith("<"):
        said = "".join(re.findall(r"<Message>([^<]+)", said)[:1])
    told = f" The store says: {said.splitlines()[0][:300]}." if said else ""
    return (
        f"the store of large files refuses an upload for '{wish.repo}' ({status}: {meaning}). {error}{told} Nothing "
        "was committed, and the run is as it was: push again when that is mended."
    )
