"""A model hub on loopback, for the real ``huggingface_hub`` client: a reading of its protocol, in the standard library.

It keeps repositories in memory, makes atomic commits, stores large files by LFS (or, given a Xet store, lets the client
bring them there), serves data sets to ``datasets`` (whole or in pieces), and can be told to fail. It is not the hub:
what the hub says of cards and of file kinds is simplified.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stand_in_xet import XetStore

TOKEN = "hf_standInTokenOfTheTests"
LARGE = (".safetensors", ".bin", ".onnx", ".model", "tokenizer.json")
"""Ends of the names of files that go to LFS."""


@dataclass
class Repo:
    """A repository: every commit with all its files, oldest first, and names of some commits."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {time.monotonic_ns()}".encode()).hexdigest()
        self.commits.append((sha, files))
        return sha

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision in ("main", "HEAD"):
            return self.commits[-1]
        sha = self.tags.get(revision, revision)
        return next((found for found in self.commits if found[0] == sha), None)


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    Args:
        request: Regular expression, searched in ``POST /api/repos/create``.
        kind: ``503`` answers so and does nothing; ``lost`` does what is asked and hangs up; ``mute`` never answers;
            ``page`` is a 503 of a proxy, which is no JSON and not even UTF-8; ``stall`` sends half of the answer's body
            and no more; ``cut`` sends half of it and hangs up; any other number is the status of the answer.
        times: How often.
    """

    request: str
    kind: str
    times: int = 1


class Hub(ThreadingHTTPServer):
    """The server, with everything a test may look at or change."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        """By id; those of data sets by ``datasets/owner/name``."""
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.xet: XetStore | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is no news."""


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Answer(Exception):
    """Ends a request with a status, headers and a body."""

    def __init__(self, status: int, body: Any = None, **headers: str):
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def missing_repo() -> Answer:
    return Answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunked()
        path = unquote(urlsplit(self.path).path)
        name = f"{self.command} {path}"
        self.server.log.append(name)
        fault = next((one for one in self.server.faults if one.times and re.search(one.request, name)), None)
        if fault is not None:
            fault.times -= 1
            if fault.kind == "mute":
                threading.Event().wait()
            elif fault.kind == "page":
                return self._send(Answer(503, "<html>Zur Zeit nicht verfügbar</html>".encode("latin-1")))
            elif fault.kind not in ("lost", "stall", "cut"):
                return self._send(Answer(int(fault.kind), {"error": "as the test wants it"}))
        try:
            self._route(path)
        except Answer as answer:
            if fault is None:
                return self._send(answer)
            self.close_connection = True
            if fault.kind != "lost":
                self._send(answer, half=True)
            if fault.kind == "stall":
                threading.Event().wait()
            return None
        raise AssertionError(f"no answer to {name}")

    def _chunked(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer, half: bool = False) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        kind = "application/octet-stream" if isinstance(answer.body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.wfile.flush()

    # What is asked

    def _route(self, path: str) -> None:
        if path == "/api/whoami-v2":
            self._need_token()
            raise Answer(200, {"type": "user", "name": "user", "auth": {"type": "access_token"}})
        if path == "/api/validate-yaml":
            raise Answer(*self._judged(json.loads(self.body)["content"]))
        if path == "/api/repos/create":
            self._create()
        if path.startswith("/lfs/"):
            self._large(path)
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._batch()
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([a-z-]+)/([^/]+))?", path):
            self._api(*found.groups())
        if found := re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)(?:/([a-z-]+)/([^/]+)(?:/(.+))?)?", path):
            self._data_set(*found.groups())
        if found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        raise Answer(404, {"error": "not here"})

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _need_token(self) -> None:
        if not self._has_token():
            raise Answer(
                401,
                {"error": "Invalid credentials in Authorization header"},
                X_Error_Message="Invalid credentials in Authorization header",
            )

    def _judged(self, card: str) -> tuple[int, dict[str, Any]]:
        """Judge a card's metadata, a little as the hub does."""
        import yaml

        head = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
        errors = [{"message": f'"{key}" is missing'} for key in ("license", "language") if not head.get(key)]
        base = head.get("base_model")
        if base is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
            errors.append({"message": '"base_model" must be a hub id'})
        return (400 if errors else 200), {"errors": errors, "warnings": []}

    def _create(self) -> None:
        self._need_token()
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if asked.get("organization", "user") not in (None, "user", "team"):
            raise Answer(403, {"error": "you don't have the rights to create a model under this namespace"})
        url = {"url": f"{self.server.url}/{repo_id}"}
        if repo_id in self.server.repos:
            raise Answer(409, url | {"error": "You already created this model repo"})
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repo = self.server.repos[repo_id] = Repo(private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        raise Answer(200, url)

    def _repo(self, repo_id: str) -> Repo:
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and not self._has_token()):
            raise missing_repo()
        return repo

    def _at(self, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._repo(repo_id).at(revision)
        if found is None:
            raise Answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return found

    def _api(self, repo_id: str, what: str | None, revision: str | None) -> None:
        revision = revision or "main"
        if what in (None, "revision"):
            sha, files = self._at(repo_id, revision)
            siblings = [{"rfilename": name} for name in files]
            private = self._repo(repo_id).private
            raise Answer(200, {"id": repo_id, "sha": sha, "private": private, "siblings": siblings, "tags": []})
        if what == "commits":
            raise Answer(200, self._history(repo_id))
        if what == "tree":
            raise Answer(200, [self._entry(*item) for item in self._at(repo_id, revision)[1].items()])
        repo = self._repo(repo_id)
        if what == "xet-read-token":
            self._xet_token()
        self._need_token()
        if what == "xet-write-token":
            self._xet_token()
        if what == "preupload":
            raise Answer(200, {"files": [self._mode(repo, file["path"]) for file in json.loads(self.body)["files"]]})
        if what == "commit":
            self._commit(repo_id, repo)

    def _data_set(self, repo_id: str, what: str | None, revision: str | None, inside: str | None) -> None:
        """Answer about a data set: unlike of a model, its files lie in folders."""
        sha, files = self._at(repo_id, revision or "main")
        paths = dict.fromkeys(name.rsplit("/", depth)[0] for name in files for depth in range(1, name.count("/") + 1))
        folders = [{"type": "directory", "path": path, "size": 0, "oid": blob_id(path.encode())} for path in paths]
        entries = {entry["path"]: entry for entry in [*folders, *(self._entry(*item) for item in files.items())]}
        if what in (None, "revision"):
            siblings = [{"rfilename": name} for name in files]
            name = repo_id.removeprefix("datasets/")
            raise Answer(200, {"id": name, "sha": sha, "private": False, "siblings": siblings, "tags": []})
        if what == "paths-info":
            asked = parse_qs(self.body.decode())["paths"]
            raise Answer(200, [entries[path] for path in asked if path in entries])
        if what == "tree":
            if inside is not None and inside not in paths:
                raise Answer(404, {"error": f"{inside} does not exist"}, X_Error_Code="EntryNotFound")
            under = "" if inside is None else f"{inside}/"
            below = {path: entry for path, entry in entries.items() if path.startswith(under)}
            deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            raise Answer(200, [one for path, one in below.items() if deep or "/" not in path.removeprefix(under)])

    def _history(self, repo_id: str) -> list[dict[str, Any]]:
        told = {"title": "a commit", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
        return [{"id": sha, **told} for sha, _ in reversed(self._repo(repo_id).commits)]

    def _xet_token(self) -> None:
        if self.server.xet is not None:
            body, headers = self.server.xet.token()
            raise Answer(200, body, **headers)

    def _xet_hash(self, content: bytes) -> str | None:
        return None if self.server.xet is None else self.server.xet.hash_of(sha256(content))

    def _entry(self, name: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob_id(content)}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
            if found := self._xet_hash(content):
                entry["xetHash"] = found
        return entry

    def _mode(self, repo: Repo, name: str) -> dict[str, Any]:
        large = name.endswith(LARGE)
        held = repo.files.get(name)
        oid = {} if held is None else {"oid": sha256(held) if large else blob_id(held)}
        return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **oid}

    def _batch(self) -> None:
        self._need_token()
        objects = []
        for one in json.loads(self.body)["objects"]:
            place = f"{self.server.url}/lfs/{one['oid']}"
            actions = {"upload": {"href": place}, "verify": {"href": f"{self.server.url}/lfs/verify"}}
            held = one["oid"] in self.server.objects
            objects.append({"oid": one["oid"], "size": one["size"], **({} if held else {"actions": actions})})
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def _large(self, path: str) -> None:
        if path == "/lfs/verify":
            asked = json.loads(self.body)
            held = self.server.objects.get(asked["oid"])
            raise Answer(200 if held is not None and len(held) == asked["size"] else 404, {})
        assert self.headers.get("Authorization") is None, "the store of large files is another host"
        oid = path.rsplit("/", 1)[-1]
        if sha256(self.body) != oid:
            raise Answer(400, {"error": "not the bytes that were announced"})
        self.server.objects[oid] = self.body
        raise Answer(200, {})

    def _commit(self, repo_id: str, repo: Repo) -> None:
        files = dict(repo.files)
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header" and value.get("parentCommit") not in (None, repo.head):
                raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self._uploaded(value["oid"])
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files)
        url = f"{self.server.url}/{repo_id}/commit/{sha}"
        raise Answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _uploaded(self, oid: str) -> bytes:
        store = self.server.xet
        content = self.server.objects.get(oid) if store is None else store.read(oid)
        if content is None or sha256(content) != oid:
            raise Answer(400, {"error": "an lfs file was never uploaded"})
        return content

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        sha, files = self._at(repo_id, revision)
        if name not in files:
            raise Answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        content = files[name]
        headers = {"X_Repo_Commit": sha, "ETag": f'"{blob_id(content)}"', "Accept_Ranges": "bytes"}
        if name.endswith(LARGE):
            headers |= {"X_Linked_Etag": f'"{sha256(content)}"', "X_Linked_Size": str(len(content))}
            if found := self._xet_hash(content):
                route = f"{self.server.url}/api/models/{repo_id}/xet-read-token/{sha}"
                headers |= {"X_Xet_Hash": found, "X_Xet_Refresh_Route": route}
        status = 200
        if ranged := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(ranged[1]), min(int(ranged[2] or len(content)), len(content) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        raise Answer(status, content, **headers)
