"""A Hugging Face Hub on 127.0.0.1, in memory, with faults on demand.

It speaks what huggingface_hub 0.36 asks of the Hub for models, and for reading data sets: repositories, revisions,
trees, git-LFS transfers and commits. Clients find it through `HF_ENDPOINT`. Xet is never offered, so clients with and
without hf_xet act alike.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import yaml

_SOCKET_TIMEOUT_S = 30.0
_LFS_SUFFIXES = (".safetensors", ".bin", ".model", ".neuron")
_PIECE = 64 * 1024  # bytes sent at once


@dataclass
class Fault:
    """Something that goes wrong with the next requests that it fits.

    "status" answers with `status` and `headers`; "cut" closes the connection after `at` bytes of the body, the
    request's in a PUT or POST; "stall" is silent for `seconds` at that byte; "flip" changes the byte there; "lost"
    does what is asked and closes the connection without an answer.
    """

    kind: Literal["status", "cut", "stall", "flip", "lost"]
    path: str  # a pattern, as in fnmatch; so is `method`
    method: str = "*"
    at: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: int = 1  # requests that it hits before it is over


@dataclass
class Request:
    """One request that the Hub has answered, or begun to; `received` and `sent` are bytes of the two bodies."""

    method: str
    path: str  # without the query, unquoted
    range: str | None = None  # the header
    received: int = 0
    sent: int = 0


@dataclass(frozen=True)
class User:
    """Who a token belongs to, and whether it may "read" or "write"."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()

    def owns(self, id: str) -> bool:
        return id.split("/")[0] in (self.name, *self.organizations)


@dataclass(frozen=True)
class StoredFile:
    """A file of one commit."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        """SHA-256 of an LFS file, git's blob hash of another."""
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A state of a repository; `files` by path."""

    oid: str
    title: str
    files: dict[str, StoredFile]


@dataclass
class Repository:
    """A model repository: commits by their id, branches and tags by name."""

    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, StoredFile], title: str, branch: str = "main") -> Commit:
        """Put a new state on top of a branch."""
        text = repr((self.id, title, len(self.commits), sorted((name, file.oid) for name, file in files.items())))
        made = Commit(oid=hashlib.sha1(text.encode()).hexdigest(), title=title, files=files)
        self.commits[made.oid] = made
        self.refs[branch] = made.oid
        return made

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or its own id names."""
        return self.commits.get(self.refs.get(revision, revision))


class Refusal(Exception):
    """An answer that is no success; `more` goes into its JSON."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None, **more: object
    ):
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **more}
        self.headers = dict(headers or {}, **{"X-Error-Message": message})
        if code:
            self.headers["X-Error-Code"] = code


class FakeHub:
    """The server; a context manager."""

    def __init__(self):
        self.users = {"hf_writer": User("user", organizations=("team",)), "hf_reader": User("user", role="read")}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # LFS objects that were uploaded, by SHA-256
        self.faults: list[Fault] = []  # in order of precedence
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self._stopped = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "FakeHub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more, also not on connections that are open. Idempotent."""
        self._stopped = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    @property
    def url(self) -> str:
        """What `HF_ENDPOINT` is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a client process that keeps its cache in `home` and knows no other Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "HF_TOKEN": "hf_writer",
            "NO_PROXY": "127.0.0.1",
        }

    def create(self, id: str, files: dict[str, bytes] | None = None, **properties: Any) -> Repository:
        """Make a repository from the inside, with a first commit of `files` on main."""
        repository = Repository(id=id, **properties)
        repository.commit(self.stored({".gitattributes": b"", **(files or {})}), "initial commit")
        self.repositories[id] = repository
        return repository

    def stored(self, files: dict[str, bytes]) -> dict[str, StoredFile]:
        """How the Hub keeps files."""
        return {name: StoredFile(content, lfs=self._is_lfs(name, content)) for name, content in files.items()}

    def files(self, id: str, revision: str = "main") -> dict[str, bytes]:
        """Content of every file at a revision, without `.gitattributes`."""
        stored = self.repositories[id].at(revision).files
        return {name: file.content for name, file in stored.items() if name != ".gitattributes"}

    def downloads(self) -> list[str]:
        """Paths in the repository of the files that were sent, whole or in part, sorted."""
        sent = [request for request in self.requests if request.method == "GET" and request.sent]
        return sorted({request.path.split("/", 5)[5] for request in sent if "/resolve/" in request.path})

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault that hits a request; it is used up by that."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fnmatchcase(path, fault.path) and fnmatchcase(method, fault.method):
                    fault.times -= 1
                    return fault
        return None

    @staticmethod
    def _is_lfs(path: str, content: bytes) -> bool:
        return path.endswith(_LFS_SUFFIXES) or b"\0" in content[:512]

    # Answers. Each takes the handler and the parts of the path, and returns what is sent as JSON.

    def whoami(self, asked: "_Handler") -> dict:
        user = self._known_user(asked)
        organizations = [{"name": name, "roleInOrg": "write"} for name in user.organizations]
        return {"name": user.name, "orgs": organizations, "auth": {"accessToken": {"role": user.role}}}

    def create_repository(self, asked: "_Handler") -> dict:
        wanted = json.loads(asked.body)
        id = f"{wanted.get('organization') or self._known_user(asked).name}/{wanted['name']}"
        self._check_writer(asked, id)
        if id in self.repositories:
            raise Refusal(409, "You already created this model repo", url=f"{self.url}/{id}")
        self.create(id, private=wanted.get("private", False))
        return {"url": f"{self.url}/{id}", "name": id}

    def validate_card(self, asked: "_Handler") -> dict:
        return {"errors": [], "warnings": []}

    def model_info(self, asked: "_Handler", id: str, revision: str = "main") -> dict:
        repository, commit = self._find(asked, id, revision)
        card = commit.files.get("README.md")
        found = re.match(rb"---\n(.*?)\n---", card.content, re.DOTALL) if card else None
        return {
            "id": id,
            "private": repository.private,
            "sha": commit.oid,
            "siblings": [{"rfilename": name} for name in sorted(commit.files)],
            "cardData": yaml.safe_load(found[1]) if found else None,
        }

    def tree(self, asked: "_Handler", id: str, revision: str, folder: str = "") -> list[dict]:
        _, commit = self._find(asked, id, revision)
        start = f"{folder.rstrip('/')}/" if folder else ""
        below = [name for name in sorted(commit.files) if name.startswith(start)]
        folders: set[str] = set()
        if "recursive=true" not in asked.path.lower():
            folders = {start + name.removeprefix(start).split("/")[0] for name in below} - set(below)
            below = [name for name in below if "/" not in name.removeprefix(start)]
        sizes = {name: len(commit.files[name].content) for name in below}
        files = [{"type": "file", "path": name, "oid": commit.files[name].oid, "size": sizes[name]} for name in below]
        return files + [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]

    def create_branch(self, asked: "_Handler", id: str, branch: str) -> dict:
        repository, _ = self._find(asked, id, writing=True)
        repository.refs[branch] = repository.refs["main"]
        return {}

    def preupload(self, asked: "_Handler", id: str, revision: str) -> dict:
        _, commit = self._find(asked, id, revision, writing=True)
        answers = []
        for wanted in json.loads(asked.body)["files"]:
            path = wanted["path"]
            lfs = self._is_lfs(path, base64.b64decode(wanted["sample"]))
            answer = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if path in commit.files:
                answer["oid"] = commit.files[path].oid
            answers.append(answer)
        return {"files": answers, "commitOid": commit.oid}

    def lfs_batch(self, asked: "_Handler", id: str) -> dict:
        self._find(asked, id, writing=True)
        answers = []
        for wanted in json.loads(asked.body)["objects"]:
            place = f"{self.url}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": place, "header": {}}, "verify": {"href": f"{place}/verify", "header": {}}}
            # What is there already is not asked for again.
            answers.append(wanted if wanted["oid"] in self.objects else {**wanted, "actions": actions})
        return {"transfer": "basic", "objects": answers}

    def lfs_put(self, asked: "_Handler", oid: str) -> dict:
        assert hashlib.sha256(asked.body).hexdigest() == oid
        self.objects[oid] = asked.body
        return {}

    def lfs_verify(self, asked: "_Handler", oid: str) -> dict:
        assert len(self.objects[oid]) == json.loads(asked.body)["size"]
        return {}

    def commit(self, asked: "_Handler", id: str, revision: str) -> dict:
        repository, head = self._find(asked, id, revision, writing=True)
        files = dict(head.files)
        header, *operations = [json.loads(line) for line in asked.body.splitlines()]
        parent = header["value"].get("parentCommit")
        if parent not in (None, head.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        for operation in operations:
            value, path = operation["value"], operation["value"]["path"]
            if operation["key"] == "deletedFile":
                del files[path]
            elif operation["key"] == "lfsFile":
                files[path] = StoredFile(self.objects[value["oid"]], lfs=True)
            else:
                files[path] = StoredFile(base64.b64decode(value["content"]), lfs=False)
        made = repository.commit(files, header["value"]["summary"], revision)
        return {"success": True, "commitOid": made.oid, "commitUrl": f"{self.url}/{id}/commit/{made.oid}"}

    def resolve(self, asked: "_Handler", id: str, revision: str, path: str) -> bytes:
        _, commit = self._find(asked, id, revision)
        about = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound", about)
        file = commit.files[path]
        asked.answer_headers.update(about, ETag=f'"{file.oid}"')
        if file.lfs:
            asked.answer_headers.update({"X-Linked-Etag": f'"{file.oid}"', "X-Linked-Size": str(len(file.content))})
        return file.content

    def _user(self, asked: "_Handler") -> User | None:
        token = (asked.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.users.get(token)

    def _known_user(self, asked: "_Handler") -> User:
        user = self._user(asked)
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        return user

    def _check_writer(self, asked: "_Handler", id: str) -> None:
        user = self._known_user(asked)
        if user.role != "write" or not user.owns(id):
            raise Refusal(403, f"You don't have the rights to write to {id}")

    def _find(
        self, asked: "_Handler", id: str, revision: str = "main", writing: bool = False
    ) -> tuple[Repository, Commit]:
        user, repository = self._user(asked), self.repositories.get(id)
        own = user is not None and user.owns(id)
        if repository is None or (repository.private and not own):
            raise Refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if repository.gated and not own:
            message = f"Access to model {id} is restricted. You must accept its licence."
            raise Refusal(401 if user is None else 403, message, "GatedRepo")
        if writing:
            self._check_writer(asked, id)
        commit = repository.at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, commit


def _route(method: str, pattern: str, answer: Callable) -> tuple[str, re.Pattern, Callable]:
    pattern = pattern.replace("/api/models/", "/api/(?:models|datasets)/")
    model = pattern.replace("{id}", "(?P<id>[^/]+/[^/]+)").replace("{revision}", "(?P<revision>[^/]+)")
    return method, re.compile(model), answer


_ROUTES = [
    _route("GET", "/api/whoami-v2", FakeHub.whoami),
    _route("POST", "/api/repos/create", FakeHub.create_repository),
    _route("POST", "/api/validate-yaml", FakeHub.validate_card),
    _route("GET", "/api/models/{id}", FakeHub.model_info),
    _route("GET", "/api/models/{id}/revision/{revision}", FakeHub.model_info),
    _route("GET", "/api/models/{id}/tree/{revision}", FakeHub.tree),
    _route("GET", "/api/models/{id}/tree/{revision}/(?P<folder>.+)", FakeHub.tree),
    _route("POST", "/api/models/{id}/branch/(?P<branch>[^/]+)", FakeHub.create_branch),
    _route("POST", "/api/models/{id}/preupload/{revision}", FakeHub.preupload),
    _route("POST", "/api/models/{id}/commit/{revision}", FakeHub.commit),
    _route("POST", r"/{id}\.git/info/lfs/objects/batch", FakeHub.lfs_batch),
    _route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", FakeHub.lfs_put),
    _route("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", FakeHub.lfs_verify),
    _route("GET", "(?:/datasets)?/{id}/resolve/{revision}/(?P<path>.+)", FakeHub.resolve),
]


class _Cut(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    """One connection; reads a request, lets the hub answer it, and does what a fault asks for on the way."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _SOCKET_TIMEOUT_S

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_PUT = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silence: `FakeHub.requests` is the log."""

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        self.record = Request(self.command, unquote(path), range=self.headers.get("Range"))
        self.answer_headers: dict[str, str] = {}
        with self.hub.lock:
            self.hub.requests.append(self.record)
        self.fault = self.hub.take_fault(self.command, unquote(path))
        try:
            if self.hub._stopped:
                raise _Cut
            self.body = self._read_body()
            if self.fault and self.fault.kind == "status":
                raise Refusal(self.fault.status, "the fault that was asked for", headers=self.fault.headers)
            self._send(200, self._answer(path))
        except Refusal as refusal:
            self.answer_headers.update(refusal.headers)
            self._send(refusal.status, refusal.body)
        except (_Cut, ConnectionError, TimeoutError):
            self.close_connection = True

    def _answer(self, path: str) -> object:
        method = "GET" if self.command == "HEAD" else self.command
        for known, pattern, answer in _ROUTES:
            found = pattern.fullmatch(path) if known == method else None
            if found:
                with self.hub.lock:
                    return answer(self.hub, self, **{name: unquote(part) for name, part in found.groupdict().items()})
        raise Refusal(404, f"{method} {path} is unknown")

    def _read_body(self) -> bytes:
        pieces = []
        for piece in self._faulty(self._pieces_of_body(), of_request=True):
            pieces.append(piece)
            self.record.received += len(piece)
        return b"".join(pieces)

    def _pieces_of_body(self) -> Iterable[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            piece = self.rfile.read(min(_PIECE, left))
            if not piece:
                raise _Cut
            left -= len(piece)
            yield piece

    def _send(self, status: int, answer: object) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        start = 0
        if isinstance(answer, bytes) and self.record.range:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.record.range)[1])
            status = 206 if start < len(content) else 416
            self.answer_headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        pieces = [content[begin : begin + _PIECE] for begin in range(0, len(content), _PIECE)]
        kind = "octet-stream" if isinstance(answer, bytes) else "json"
        self.answer_headers.setdefault("Content-Type", f"application/{kind}")
        if self.fault and self.fault.kind == "lost":
            raise _Cut
        self.send_response(status)
        for name, value in {**self.answer_headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in self._faulty(pieces, of_request=False):
                self.wfile.write(piece)
                self.record.sent += len(piece)

    def _faulty(self, pieces: Iterable[bytes], of_request: bool) -> Iterable[bytes]:
        """The same pieces up to where the fault strikes, and what it makes of the rest."""
        fault, done = self.fault, 0
        if fault is None or fault.kind in ("status", "lost") or of_request != (self.command in ("PUT", "POST")):
            yield from pieces
            return
        for piece in pieces:
            where, done = fault.at - done, done + len(piece)
            if not 0 <= where < len(piece):
                yield piece
            elif fault.kind == "cut":
                yield piece[:where]
                raise _Cut
            elif fault.kind == "stall":
                yield piece[:where]
                threading.Event().wait(fault.seconds)
                yield piece[where:]
            else:
                yield piece[:where] + bytes([piece[where] ^ 1]) + piece[where + 1 :]
