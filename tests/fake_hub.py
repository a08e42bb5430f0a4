"""A Hugging Face Hub on this machine, for tests: it serves the folders that were pushed to it.

It speaks what huggingface_hub 2.4 and datasets 5.2 ask for while reading, and does as the real Hub where clients
depend on it: the description and the list of files of a gated repository are public, only its files are refused; a
missing repository is 401 without a token and 404 with one; big files lie on another host (here `localhost` instead of
`127.0.0.1`), which must not be told the token. Xet, pages of long lists, uploads and the dataset viewer are left out.

Clients take the address from HF_ENDPOINT when they are imported, so they run in processes of their own.
"""

import base64
import hashlib
import json
import math
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BIG = {".safetensors", ".bin", ".parquet", ".gguf"}
"Suffixes of files that the Hub keeps outside git."

API = re.compile(
    r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+(/(?!revision|tree|paths-info|auth-check)[^/]+)?)"
    r"(/(?P<verb>revision|tree|paths-info|auth-check)(/(?P<revision>[^/]+)(/(?P<path>.+))?)?)?"
)
FILE = re.compile(r"/(?P<datasets>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
STORED = re.compile(r"/storage/(?P<sha256>[0-9a-f]{64})")
SIGNATURE = "X-Signature=only-for-whom-it-was-made"
"The query of a big file's address. It lets everyone download the file, so it is a secret."


@dataclass
class Repository:
    """A model's or data set's history: whole trees by commit, and what branches and tags point to."""

    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    readers: set[str] | None = None
    "The tokens that may read the files of a gated repository; None if it is open to all."

    def commit(self, revision: str) -> str | None:
        """The commit that a branch, tag or commit stands for."""
        revision = self.refs.get(revision, revision)
        return revision if revision in self.commits else None


@dataclass(frozen=True)
class Request:
    """What a client asked, and what it got."""

    method: str
    host: str
    path: str
    token: str | None
    range: str | None
    status: int
    sent: int
    "Bytes of the body that were sent."


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def _json(value: Any) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _refusal(status: int, code: str, message: str) -> Reply:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return Reply(status, headers, json.dumps({"error": message}).encode())


class FakeHub:
    """The Hub and its switches. Use it as a context manager; `url` is its HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.storage: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        "Every token it knows; with another one, nothing is answered."
        self.requests: list[Request] = []
        "All requests so far, in the order of their answers."
        self.cuts = 0
        "So many of the next downloads of big files end in the middle."
        self.down = False
        "Everything is answered with 503."
        self.storage_down = False
        "Big files are answered with 503."
        self.wrong = 0
        "How many of the next downloads of big files hold other bytes, as from a mirror that is damaged."
        self.busy: list[tuple[int, str]] = []
        "Statuses, each with its Retry-After, that the next requests for files are answered with."
        self.proxy_login = ""
        "`name:password` that it wants of whoever asks it as a proxy, for whatever host; empty if it is none."
        self.pause = 0.0
        "Seconds before each answer."
        self._scheme = "http"

    def __enter__(self) -> "FakeHub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """From now on answer by HTTPS only."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._scheme = "https"

    @property
    def url(self) -> str:
        """The address of the Hub."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def push(self, kind: str, name: str, folder: Path, ref: str = "main") -> str:
        """Make a folder's files the newest commit of a branch (or a tag); the commit."""
        tree = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        repository = self.repositories.setdefault((kind, name), Repository(name))
        known = f"{kind} {name} {repository.refs.get(ref)} " + "".join(f"{p} {_sha256(b)} " for p, b in tree.items())
        commit = hashlib.sha1(known.encode()).hexdigest()
        repository.commits[commit] = tree
        repository.refs[ref] = commit
        self.storage |= {_sha256(content): content for path, content in tree.items() if _is_big(path)}
        return commit

    def gate(self, kind: str, name: str, *readers: str) -> None:
        """Give the files of a repository to holders of these tokens only."""
        self.repositories[kind, name].readers = set(readers)
        self.tokens |= set(readers)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What the Hub says to a request."""
        split = urlsplit(path)
        token = _token(headers)
        if self.busy and (STORED.fullmatch(split.path) or FILE.fullmatch(split.path)):
            status, wait = self.busy.pop(0)
            reply = _refusal(status, "", "Try again later")
            return Reply(reply.status, reply.headers | {"Retry-After": wait}, reply.body)
        if stored := STORED.fullmatch(split.path):
            reply = self._stored(stored["sha256"], split.query, headers)
            if self.wrong and method == "GET" and reply.status < 300:
                self.wrong -= 1
                return Reply(reply.status, reply.headers, reply.body[:-1] + bytes([reply.body[-1] ^ 1]))
            return reply
        if self.down:
            return _refusal(503, "", "Service Unavailable")
        if token and token not in self.tokens:
            return _refusal(401, "", "Invalid credentials in Authorization header")
        if match := API.fullmatch(split.path):
            repository = self.repositories.get((match["kind"], match["name"]))
            if repository is None:
                return _no_repository(token)
            return _describe(repository, match.groupdict(), parse_qs(split.query), parse_qs(body.decode()), token)
        if match := FILE.fullmatch(split.path):
            repository = self.repositories.get(("dataset" if match["datasets"] else "model", match["name"]))
            if repository is None:
                return _no_repository(token)
            where = f"{self._scheme}://localhost:{self._server.server_port}"
            return _resolve(repository, unquote(match["revision"]), unquote(match["path"]), token, headers, where)
        return _refusal(404, "", f"no such page: {method} {split.path}")

    def _stored(self, sha256: str, query: str, headers: Mapping[str, str]) -> Reply:
        if self.storage_down:
            return _refusal(503, "", "Service Unavailable")
        if sha256 not in self.storage or query != SIGNATURE:
            return _refusal(403, "", "Access Denied")
        return _content(self.storage[sha256], f'"{sha256}"', headers)


def _describe(
    repository: Repository,
    wanted: Mapping[str, str | None],
    query: Mapping[str, list[str]],
    form: Mapping[str, list[str]],
    token: str | None,
) -> Reply:
    """The Hub's API: what a repository is and which files it has."""
    if wanted["verb"] == "auth-check":
        return _gate(repository, token) or _json({})
    revision = unquote(wanted["revision"] or "main")
    commit = repository.commit(revision)
    if commit is None:
        return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    tree = repository.commits[commit]
    if wanted["verb"] == "tree":
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        return _list(tree, unquote(wanted["path"] or ""), recursive)
    if wanted["verb"] == "paths-info":
        entries = _entries(tree)
        return _json([entries[path] for path in form.get("paths", []) if path in entries])
    entries = _entries(tree) if query.get("blobs") else {}
    siblings = [{"rfilename": path} | _blob(entries.get(path)) for path in tree]
    gated = "manual" if repository.readers is not None else False
    about = {"id": repository.name, "sha": commit, "private": False, "gated": gated, "siblings": siblings}
    return _json(about | _safetensors(tree))


def _blob(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is told of a file where `blobs` are asked for."""
    if entry is None:
        return {}
    lfs = entry.get("lfs")
    told = {"size": entry["size"], "blobId": entry["oid"]}
    return told | ({"lfs": {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 134}} if lfs else {})


def _safetensors(tree: Mapping[str, bytes]) -> dict[str, Any]:
    """The parameters in a repository's safetensors files, by dtype, as the Hub counts them."""
    counts: Counter[str] = Counter()
    for path, content in tree.items():
        if path.endswith(".safetensors") and content[8:9] == b"{":  # not what some tests put in its place
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            for tensor in (value for name, value in header.items() if name != "__metadata__"):
                counts[tensor["dtype"]] += math.prod(tensor["shape"])
    return {"safetensors": {"parameters": dict(counts), "total": counts.total()}} if counts else {}


def _list(tree: Mapping[str, bytes], folder: str, recursive: bool) -> Reply:
    entries = _entries(tree)
    if folder and folder not in entries:
        return _refusal(404, "EntryNotFound", f"{folder} does not exist")
    below = [entry for path, entry in entries.items() if not folder or path.startswith(f"{folder}/")]
    depth = folder.count("/") + 1 if folder else 0
    return _json([entry for entry in below if recursive or entry["path"].count("/") == depth])


def _entries(tree: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Every file and every folder of a tree, as the API describes them."""
    found: dict[str, dict[str, Any]] = {}
    for path, content in tree.items():
        for parent in list(Path(path).parents)[-2::-1]:
            oid = hashlib.sha1(str(parent).encode()).hexdigest()
            found[str(parent)] = {"type": "directory", "oid": oid, "size": 0, "path": str(parent)}
        found[path] = {"type": "file", "oid": _git_sha1(content), "size": len(content), "path": path}
        if _is_big(path):
            found[path]["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
    return found


def _resolve(
    repository: Repository, revision: str, path: str, token: str | None, headers: Mapping[str, str], storage: str
) -> Reply:
    """A file's content, or for a big file the place in the storage where it is."""
    commit = repository.commit(revision)
    if commit is None:
        return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    if refused := _gate(repository, token):
        return refused
    origin = {"X-Repo-Commit": commit}
    content = repository.commits[commit].get(path)
    if content is None:
        reply = _refusal(404, "EntryNotFound", "Entry not found")
        return Reply(reply.status, reply.headers | origin, reply.body)
    if _is_big(path):
        sha256 = _sha256(content)
        origin |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256}"'}
        return Reply(302, origin | {"Location": f"{storage}/storage/{sha256}?{SIGNATURE}"})
    return _content(content, f'"{_git_sha1(content)}"', headers, origin)


def _content(content: bytes, etag: str, headers: Mapping[str, str], origin: Mapping[str, str] | None = None) -> Reply:
    """All of a file, or from the byte on that the client wants."""
    shared = {"ETag": etag, "Accept-Ranges": "bytes", **(origin or {})}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
    if not wanted:
        return Reply(200, shared, content)
    start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
    if start >= len(content):
        return Reply(416, shared | {"Content-Range": f"bytes */{len(content)}"})
    part = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return Reply(206, shared | part, content[start : end + 1])


def _gate(repository: Repository, token: str | None) -> Reply | None:
    """The refusal of a gated repository, or None for who may pass."""
    if repository.readers is None or token in repository.readers:
        return None
    message = f"Access to {repository.name} is restricted and you are not in the authorized list."
    return _refusal(403 if token else 401, "GatedRepo", message)


def _no_repository(token: str | None) -> Reply:
    """Without a token the Hub does not say whether a repository is missing or private."""
    message = "Repository not found" if token else "Invalid username or password."
    return _refusal(404 if token else 401, "RepoNotFound", message)


def _token(headers: Mapping[str, str]) -> str | None:
    by_name = {name.lower(): value for name, value in headers.items()}
    return by_name.get("authorization", "").removeprefix("Bearer ") or None


def _is_big(path: str) -> bool:
    return Path(path).suffix in BIG


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    """The name that git gives to a file's content; the ETag of small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """HTTP around the Hub's answers."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)  # answers the requests of a connection

    def do_GET(self) -> None:
        """Answer, note it, and hang up if the answer was cut."""
        time.sleep(self.hub.pause)
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        login = base64.b64encode(self.hub.proxy_login.encode()).decode()
        if self.path.startswith("http") and self.headers.get("Proxy-Authorization") != f"Basic {login}":
            reply = Reply(407, {"Proxy-Authenticate": "Basic"})
        else:
            reply = self.hub.answer(self.command, self.path, dict(self.headers), asked)
        body = b"" if self.command == "HEAD" else reply.body
        if cut := self._is_cut(reply):
            body = body[: len(body) // 2]
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        host, token = self.headers.get("Host", ""), _token(dict(self.headers))
        path, part = urlsplit(self.path).path, self.headers.get("Range")
        self.hub.requests.append(Request(self.command, host, path, token, part, reply.status, len(body)))
        self.wfile.write(body)
        self.close_connection = self.close_connection or cut

    do_HEAD = do_POST = do_GET

    def do_CONNECT(self) -> None:
        """Note who wants a tunnel through a proxy, and refuse it."""
        self.hub.requests.append(Request(self.command, self.path, "", None, None, 403, 0))
        self.send_error(403)

    def _is_cut(self, reply: Reply) -> bool:
        if not self.hub.cuts or self.command != "GET" or reply.status >= 300 or not STORED.match(self.path):
            return False
        self.hub.cuts -= 1
        return True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: the hub's `requests` are the log."""
