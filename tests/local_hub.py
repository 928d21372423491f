"""A hub of this machine alone: as much of the Hugging Face hub's protocol as its client library speaks to download.

Repositories are folders, published under a revision; every publication is a commit. What goes wrong on a network goes
wrong on request: `fail`, `cut`, `lie`.
"""

import hashlib
import json
import re
import shutil
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_local"


@dataclass
class Repository:
    commits: dict[str, dict[str, Path]] = field(default_factory=dict)  # files by name
    revisions: dict[str, str] = field(default_factory=dict)
    gated: bool = False  # seen by all, downloaded with a token
    private: bool = False  # not even seen without


@dataclass
class Fault:
    """What happens to the next `times` requests whose method and path match."""

    pattern: str
    times: int
    status: int = 0
    code: str = ""
    after: int | None = None  # bytes, then the connection is closed
    size: int | None = None  # claimed


@dataclass
class LocalHub:
    store: Path  # where published files are kept
    port: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # "GET /path", with the range asked for
    faults: list[Fault] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None
    open: set[socket.socket] = field(default_factory=set)

    # --- what a test says --------------------------------------------------------------------------------------------

    def publish(self, repo: str, folder: Path, revision: str = "main") -> str:
        """A commit with the files below a folder, copied: the revision names it from now on."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        commit = hashlib.sha1(b"".join(name.encode() + path.read_bytes() for name, path in files.items())).hexdigest()
        shutil.copytree(folder, self.store / repo / commit, dirs_exist_ok=True)
        repository = self.repositories.setdefault(repo, Repository())
        repository.commits[commit] = {name: self.store / repo / commit / name for name in files}
        repository.revisions[revision] = commit
        return commit

    def fail(self, pattern: str, status: int, code: str = "", times: int = 1) -> None:
        self.faults.append(Fault(pattern, times, status, code))

    def cut(self, pattern: str, after: int, times: int = 1) -> None:
        self.faults.append(Fault(pattern, times, after=after))

    def lie(self, pattern: str, size: int) -> None:
        self.faults.append(Fault(pattern, 1000, size=size))

    def asked(self, pattern: str) -> list[str]:
        return [request for request in self.requests if re.search(pattern, request)]

    # --- the server --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """The network is gone: connections are refused."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for connection in tuple(self.open):  # kept alive for the next request
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.open.add(self.connection)

    def finish(self) -> None:
        self.hub.open.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, wanted = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
        request = f"{self.command} {path} {wanted}".strip()
        self.hub.requests.append(request)
        fault = next((f for f in self.hub.faults if f.times and re.search(f.pattern, request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.status:
                return self._answer(fault.status, {"X-Error-Code": fault.code} if fault.code else {}, b"{}")
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^?]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40}|refs/pr/\d+|[^/]+)/(.+)", path)
        match = api or file
        if match is None:
            return self._answer(404, {}, b"{}")
        repository = self.hub.repositories.get(match[1])
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            return self._answer(401, {"X-Error-Code": "RepoNotFound"}, b"{}")
        if file is not None and repository.gated and not known:
            return self._answer(401, {"X-Error-Code": "GatedRepo"}, b"{}")
        revision = (match[3] if api else match[2]) or "main"
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        files = repository.commits[commit]
        if api is not None:
            described = [_described(name, path) for name, path in files.items()]
            raw: Any = {"id": match[1], "modelId": match[1], "sha": commit, "private": False, "siblings": described}
            if match[2] == "tree":
                raw = [{"type": "file", "path": one["rfilename"], "oid": one["blobId"], "size": one["size"]}
                       for one in described]  # fmt: skip
            headers = {"X-Repo-Commit": commit, "Content-Type": "application/json"}
            return self._answer(200, headers, json.dumps(raw).encode())
        if match[3] not in files:
            return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"{}")
        return self._file(files[match[3]], commit, wanted, fault)

    def _file(self, path: Path, commit: str, wanted: str, fault: Fault | None) -> None:
        data = path.read_bytes()
        begin = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-\d*", wanted)) else 0
        claimed = len(data) if fault is None or fault.size is None else fault.size
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        headers["X-Linked-Size"] = str(claimed)
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._answer(206 if begin else 200, headers, data[begin:], None if fault is None else fault.after)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, after: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if after is None else body[:after])
        if after is not None:
            self.close_connection = True


def _described(name: str, path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return {"rfilename": name, "size": len(data), "blobId": blob}
