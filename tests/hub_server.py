"""A small Hugging Face hub on this machine: repositories of models, commits, LFS, and whatever is to go wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest

TOKEN = "hf_OnlyForTests0123456789"
_PLAIN = (".json", ".md", ".gitattributes")


@dataclass
class Repository:
    """One model: branches, and the files of each commit."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        """Put files on a branch."""
        sha = hashlib.sha1(f"{len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        self.messages.append(message)
        return sha

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Of a branch or commit."""
        return self.commits[self.branches.get(revision, revision)]

    def has(self, revision: str) -> bool:
        return revision in self.branches or revision in self.commits


@dataclass
class Hub:
    """The server's state.

    Attributes:
        trouble: pattern of METHOD and path -> answers (status, headers) that are given first, one for each request.
        late: patterns of METHOD and path: the first such request is done, and answered by 503.
        halves: paths of files of which half comes, and then nothing.
        asked: METHOD and path of each request.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    trouble: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    halves: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        """A repository with one commit on main."""
        self.repositories[name] = Repository(private=private)
        self.repositories[name].commit("main", files)
        return self.repositories[name]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if not self.chunked else self.chunks()
        self.hub.asked.append(f"{self.command} {path}")
        for pattern, answers in self.hub.trouble.items():
            if answers and re.search(pattern, f"{self.command} {path}"):
                status, headers = answers.pop(0)
                return self.reply(status, b"{}", headers)
        if path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        if path.startswith("/lfs/"):
            self.hub.objects[path.removeprefix("/lfs/")] = body
            return self.say({})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        found = re.match(r"/(?:api/models/)?([^/]+/[^/]+?)(?:\.git)?(/.*)?$", path)
        assert found, path
        repository = self.hub.repositories.get(found[1])
        if repository is None or (repository.private and not self.known):
            return self.reply(401 if not self.known else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if self.headers.get("Authorization") and not self.known:
            return self.reply(401, b'{"error": "Invalid credentials in Authorization header"}', {})
        return self.of_repository(found[1], repository, found[2] or "", body)

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("Transfer-Encoding", "")

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if not self.known:
            return self.reply(401, b'{"error": "Invalid credentials in Authorization header"}', {})
        if name in self.hub.repositories:
            return self.reply(409, b"{}", {})
        self.hub.add(
            name, {".gitattributes": b""}, private=asked.get("visibility") == "private" or bool(asked.get("private"))
        )
        return self.say({"url": f"{self.hub.url}/{name}", "name": name, "id": "1"})

    def of_repository(self, name: str, repository: Repository, rest: str, body: bytes) -> None:
        verb, _, more = rest.strip("/").partition("/")
        revision, _, path = more.partition("/")
        if verb == "info":
            return self.lfs(json.loads(body))
        if verb == "branch":
            if repository.has(more):
                return self.reply(409, b"{}", {})
            repository.branches[more] = repository.branches["main"]
            return self.say({})
        if not repository.has(revision or "main"):
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if verb == "preupload":
            asked = [one["path"] for one in json.loads(body)["files"]]
            modes = {one: "regular" if one.endswith(_PLAIN) else "lfs" for one in asked}
            return self.say({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        if verb == "commit":
            return self.commit(repository, revision, [json.loads(line) for line in body.splitlines()])
        if verb == "tree":
            files = repository.files(revision)
            return self.say([{"type": "file", "path": p, "size": len(c), "oid": _sha1(c)} for p, c in files.items()])
        if verb == "resolve":
            return self.file(repository, revision, path)
        sha = repository.branches.get(revision or "main", revision)
        siblings = [_sibling(path, content) for path, content in repository.files(revision or "main").items()]
        return self.say({"id": name, "sha": sha, "private": repository.private, "siblings": siblings})

    def lfs(self, asked: dict[str, Any]) -> None:
        def action(oid: str) -> dict[str, Any]:
            return {} if oid in self.hub.objects else {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{oid}"}}}

        self.say({"objects": [{**one, **action(one["oid"])} for one in asked["objects"]]})

    def commit(self, repository: Repository, branch: str, lines: list[dict[str, Any]]) -> None:
        files, header = dict(repository.files(branch)), lines[0]["value"]
        if header.get("parentCommit", repository.branches[branch]) != repository.branches[branch]:
            return self.reply(412, b'{"error": "A commit has happened since. Please refresh and try again."}', {})
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                del files[value["path"]]
        sha = repository.commit(branch, files, header["summary"])
        return self.say({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/me/x/commit/{sha}"})

    def file(self, repository: Repository, revision: str, path: str) -> None:
        content = repository.files(revision).get(path)
        if content is None:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        sha = repository.branches.get(revision, revision)
        headers = {"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.reply(206 if start else 200, content[start:], headers, half=path in self.hub.halves)

    def say(self, answer: object) -> None:
        self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def reply(self, status: int, content: bytes, headers: dict[str, str], *, half: bool = False) -> None:
        if late := [one for one in self.hub.late if re.search(one, f"{self.command} {self.path}")]:
            self.hub.late.remove(late[0])
            status, content = 503, b"{}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.close_connection = True


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
    told = {"rfilename": path, "size": len(content), "blobId": _sha1(b"blob %d\0%b" % (len(content), content))}
    return told if path.endswith(_PLAIN) else {**told, "lfs": lfs}


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def _served() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of its own, which the real client asks, with the token of somebody who may write, and an empty cache."""
    constants = huggingface_hub.constants
    with _served() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # files come and go by plain HTTP
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        huggingface_hub.close_session()
        yield served
        huggingface_hub.close_session()
