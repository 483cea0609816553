"""A local server that speaks the Hub's API: records, trees, files, ETags, redirects, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Fault = tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]


class FakeHub:
    """``models`` by id: {"info": …, "config": …}; ``faults`` by id: a list of faults, used up one per request.

    A fault is (status, headers, body), or a function of the request that answers it as badly as it likes. Its key is
    the id, for the file ``config.json`` "config:" and the id, for listings "/api/models".
    """

    def __init__(self, latency_seconds: float = 0) -> None:
        self.latency_seconds = latency_seconds
        self.models: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, list[Any]] = {}
        self.renames: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, hub_id: str, config: Any = None, **info: Any) -> None:
        sha = hashlib.sha1(json.dumps([hub_id, config], default=str).encode()).hexdigest()
        record = {"id": hub_id, "sha": sha, "gated": False, "downloads": 10, "likes": 1, "tags": [], **info}
        self.models[hub_id] = {"info": record, "config": config}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        self.asked.append((path, query, dict(request.headers)))
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        of_config = "/resolve/" in path
        hub_id = path.split("/resolve/")[0].strip("/") if of_config else path.removeprefix("/api/models/")
        hub_id, of_tree, _ = hub_id.partition("/tree/")
        pending = self.faults.get(("config:" if of_config else "") + hub_id)
        if pending:
            fault: Fault = pending.pop(0) if len(pending) > 1 else pending[0]
            return fault(request) if callable(fault) else self.send(request, *fault)
        if path == "/api/models":
            return self.send(request, 200, {}, json.dumps(self.listing(query)).encode())
        if hub_id in self.renames:
            return self.send(request, 307, {"Location": request.path.replace(hub_id, self.renames[hub_id], 1)}, b"")
        model = self.models.get(hub_id)
        if model is None:
            return self.send(request, 404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        if of_config and model["config"] is None:
            return self.send(request, 404, {"X-Error-Code": "EntryNotFound"}, b"{}")
        content = self.tree(model) if of_tree else model["config"] if of_config else model["info"]
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": model["info"]["sha"]}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return self.send(request, 304, headers, b"")
        self.send(request, 200, headers, body)

    @staticmethod
    def tree(model: dict[str, Any]) -> list[dict[str, Any]]:
        """The files of a repository as the Hub lists them: its config.json."""
        size = len(json.dumps(model["config"]).encode())
        return [{"type": "file", "path": "config.json", "size": size, "oid": model["info"]["sha"]}]

    def listing(self, query: dict[str, list[str]]) -> list[Any]:
        """Rows of the models that a query asks for, sorted as it says, best first."""
        rows = [model["info"] for model in self.models.values()]
        author, task, sort = query.get("author"), query.get("pipeline_tag"), query["sort"][0]
        rows = [row for row in rows if not author or row["id"].startswith(author[0] + "/")]
        rows = [row for row in rows if not task or row.get("pipeline_tag") == task[0]]
        return sorted(rows, key=lambda row: str(row.get(sort, "")).zfill(20), reverse=True)

    def send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        try:
            request.wfile.write(b"" if request.command == "HEAD" else body)
        except OSError:
            request.close_connection = True
        if "Content-Length" in headers:
            request.close_connection = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
