"""A Hugging Face hub on this machine: as much of its HTTP interface as pushing and loading a bundle needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class FakeHub:
    """repositories: of each the commits, by their hash, and the newest under `main`. asked: all paths so far."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Files]] = {}
        self.asked: list[str] = []
        self.url = ""

    def add(self, repository: str, files: Files) -> str:
        commits = self.commits.setdefault(repository, {"main": {}})
        commit = hashlib.sha1(f"{repository}{len(commits)}".encode()).hexdigest()
        commits[commit] = commits["main"] = files
        return commit

    def commit_of(self, repository: str, revision: str) -> str | None:
        commits = self.commits.get(repository, {})
        if revision not in commits:
            return None
        return next(name for name, files in commits.items() if name != "main" and files is commits[revision])


def handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def answer(self, content: Any, status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def not_found(self, code: str) -> None:
            self.answer({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?", path):
                repository, revision = found[1], found[2] or "main"
                if repository not in hub.commits:
                    return self.not_found("RepoNotFound")
                commit = hub.commit_of(repository, revision)
                if commit is None:
                    return self.not_found("RevisionNotFound")
                names = [{"rfilename": name} for name in hub.commits[repository][commit]]
                return self.answer({"id": repository, "modelId": repository, "sha": commit, "siblings": names})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                files = hub.commits[found[1]].get(found[2], {})
                entries = [
                    {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                    for name, body in files.items()
                ]
                return self.answer(entries)
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                commit = hub.commit_of(found[1], found[2])
                if commit is None or found[3] not in hub.commits[found[1]][commit]:
                    return self.not_found("EntryNotFound" if commit else "RevisionNotFound")
                body = hub.commits[found[1]][commit][found[3]]
                tag = f'"{hashlib.sha1(body).hexdigest()}"'
                return self.answer(body, ETag=tag, X_Repo_Commit=commit, Accept_Ranges="none")
            return self.not_found("NotFound")

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"POST {path}")
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self._chunks()
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                if name in hub.commits:
                    return self.answer({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
                hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
                return self.answer({"url": f"{hub.url}/{name}", "name": name})
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if path.endswith("/preupload/main"):
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                return self.answer({"files": files})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                files = dict(hub.commits[found[1]]["main"])
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "deletedFile":
                        files.pop(value["path"])
                commit = hub.add(found[1], files)
                return self.answer({"commitOid": commit, "commitUrl": f"{hub.url}/{found[1]}/commit/{commit}"})
            return self.not_found("NotFound")

        def _chunks(self) -> bytes:
            body = b""
            while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size)
                self.rfile.readline()
            return body

    return Handler


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
