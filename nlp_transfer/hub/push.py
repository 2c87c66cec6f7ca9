"""Push a finished run to a model hub, or to any file system."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from pydantic import ValidationError

from ..errors import HubError, RunError
from ..fetching import is_url, password_of, without_user
from ..recipe.messages import reword
from ..recipe.publishing import CardSpec, HubSpec
from ..reloading.check import check_reload
from ..report.record import Record, read_record
from .bases import commit_of
from .files import PushFile, list_files
from .package import AS_IT_IS, MERGED, Form, Package, Shape, pack
from .remote import Wish, check_repo_id, push_to_hub
from .storage import open_storage, push_to_storage

SHORTEST_TOKEN = 8
"""Characters of a token from which on it can be looked for in files."""


@dataclass(frozen=True)
class PushResult:
    """What was pushed, or would be.

    Args:
        repo: Hub id or URL.
        url: URL of the commit (of a file system, of the folder); None of a dry run.
        files: Name and size in bytes of every file.
        card: The model card.
        private: Whether a new repository is private.
    """

    repo: str
    url: str | None
    files: dict[str, int]
    card: str
    private: bool


def push(
    run: str | Path,
    repo: str,
    *,
    form: Form = AS_IT_IS,
    base: str | None = None,
    public: bool = False,
    replace: bool = False,
    report: bool = True,
    card: Mapping[str, Any] | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> PushResult:
    """Push the model of a finished run with its card, recipe, metrics and report, as one commit.

    The model is reloaded in a fresh process first. The run folder is not changed, whatever happens; a push that failed
    can be repeated. An adapter names its base by hub id and commit; where the commit is unknown, the hub is asked for
    the newest one with the weights that the base has here, and a warning logged if it cannot tell.

    Args:
        run: Run folder.
        repo: Hub id ``owner/name``, or the URL of a folder on any fsspec file system.
        form: ``as it is``; ``adapter``, which is the same but refuses a run without one; or ``merged``, the adapter
            merged into its base, a model of its own.
        base: Hub id of the base of an adapter that was trained on a local folder.
        public: Everyone may read a new repository; an existing public one is pushed to only then.
        replace: Replace the model that an existing repository holds.
        report: With ``report.html``, which quotes texts of the data.
        card: What the card tells and no run knows (``license``, ``language``, ``tags``, ``datasets``), over what the
            recipe's section ``card`` says of it.
        token: Token of the hub; by default that of ``hf auth login`` or ``HF_TOKEN``.
        dry_run: Say what would be pushed; the hub is not asked, but for a base that is merged into.

    Returns:
        What was pushed, with the URL of the commit.

    Raises:
        HubError: With what to do about it.
        RunError: The folder holds no finished run, or its model cannot be reloaded.
    """
    stored = is_url(repo)
    if not stored:
        check_repo_id(repo)
    record = _finished(Path(run).expanduser())
    spec = _told(record.recipe.card, card)
    place = repo
    if stored:
        place = _place_apart(repo, record.folder)
    else:
        check_card(spec)
    secret = _token(token)
    if secret is None and not (stored or dry_run):
        raise no_token()
    with tempfile.TemporaryDirectory(prefix="push-") as name:
        shown = without_user(repo)
        api = HfApi(token=secret)
        pinned = None if dry_run else partial(commit_of, api)
        package = pack(record, Shape(place, form, base, report, spec), Path(name), pinned)
        files = list_files(package.folder, _secrets(secret, _token(None), password_of(repo)), _private(record))
        url = None if dry_run else _send(repo, files, package, Wish(repo, public, replace), api)
    return PushResult(shown, url, {file.name: file.size for file in files}, package.card, not public)


def push_as_told(hub: HubSpec, run: Path) -> PushResult:
    """Push a finished run as the section ``hub`` of its recipe says."""
    return push(
        run,
        hub.repo,
        form=MERGED if hub.merged else AS_IT_IS,
        base=hub.base,
        public=hub.public,
        replace=hub.replace,
        report=hub.report,
    )


def check_place(hub: HubSpec, run: Path) -> None:
    """Say before hours of training where the push at their end cannot go.

    Args:
        hub: The section ``hub`` of the recipe.
        run: The run folder.

    Raises:
        HubError: There is no token; the hub has no such names; the file system is unknown, or the place in the run.
    """
    if is_url(hub.repo):
        _place_apart(hub.repo, run)
        return
    check_repo_id(hub.repo)
    if _token(None) is None:
        raise no_token()


def check_card(spec: CardSpec) -> None:
    """Ask for what a card must tell and nobody can guess.

    Raises:
        HubError: The licence or the language is missing.
    """
    missing = [
        text
        for value, text in (
            (spec.license, "the licence of the model: --license apache-2.0, or `card: {license: …}` in the recipe"),
            (spec.language, "the language of its texts: --language en, or `card: {language: …}` in the recipe"),
        )
        if value is None
    ]
    if missing:
        raise HubError(f"the model card needs what no run knows; nothing is pushed without: {'; and '.join(missing)}.")


def no_token() -> HubError:
    """Return the error of a push without a token."""
    return HubError(
        "there is no hub token. Make one with the role 'write' (https://huggingface.co/settings/tokens), then "
        "`hf auth login`, or set HF_TOKEN."
    )


def _token(given: str | None) -> str | None:
    from huggingface_hub import get_token

    return get_token() if given is None else given


def _secrets(*given: str | None) -> Sequence[str]:
    return [secret for secret in given if secret is not None and len(secret) >= SHORTEST_TOKEN]


def _finished(run: Path) -> Record:
    if not run.is_dir():
        raise RunError(f"'{run}' is no folder. Give the folder of a finished run.")
    if not (run / "recipe.yaml").is_file():
        raise RunError(f"'{run}' holds no run (no recipe.yaml). Give the folder of a finished run, as `run` prints it.")
    if not (run / "metrics.json").is_file() or not (run / "model").is_dir():
        raise RunError(f"the run in '{run}' is not finished. Run its recipe again, which resumes it; then push.")
    return read_record(run)


def _place_apart(url: str, run: Path) -> str:
    """Return what a card calls a place; of one on this machine no more than the last name.

    Raises:
        HubError: The place is in the run itself, whose own model/ would be replaced; or it cannot be opened.
    """
    from fsspec.implementations.local import LocalFileSystem

    system, place = open_storage(url)
    if not isinstance(system, LocalFileSystem):
        return without_user(url)
    if Path(place).resolve().is_relative_to(run.resolve()):
        raise HubError(f"'{url}' lies in the run itself, which a push leaves as it is. Name another place.")
    return f"path/to/{Path(place).name}"


def _told(recipe: CardSpec, given: Mapping[str, Any] | None) -> CardSpec:
    """Return what the recipe tells for the card, with what is given now over it."""
    values = recipe.model_dump() | {key: value for key, value in (given or {}).items() if value not in (None, [])}
    try:
        return CardSpec.model_validate(values)
    except ValidationError as error:
        found: list[Any] = [{**one, "loc": ("card", *one["loc"])} for one in error.errors(include_url=False)]
        told = "; ".join(f"{'.'.join(map(str, path))}: {message}" for path, message in reword(found, {"card": values}))
        raise HubError(f"the model card: {told}") from error


def _private(record: Record) -> list[str]:
    """Return paths that nobody else needs to know: the run's own, and whatever lies in the home folder."""
    home = Path.home()
    return [str(record.folder.resolve()), *([] if home == Path(home.anchor) else [f"{home}/"])]


def _send(repo: str, files: Sequence[PushFile], package: Package, wish: Wish, api: HfApi) -> str:
    check_reload(package.folder, package.examples, package.base)
    if is_url(repo):
        return push_to_storage(repo, files, wish.replace)
    return push_to_hub(api, wish, files)
