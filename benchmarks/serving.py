"""A built site on a local port, compressed as a host would: what browsers and Lighthouse are pointed at."""

from __future__ import annotations

import gzip
import http.server
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = ("text/", "application/json", "image/svg+xml")
TYPES = {
    **http.server.SimpleHTTPRequestHandler.extensions_map,
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
}


@lru_cache(maxsize=512)
def compressed(path: Path) -> bytes:
    """Bytes of a file as they go over the wire (gzip, level 6)."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)


class CompressingHandler(http.server.SimpleHTTPRequestHandler):
    extensions_map = TYPES
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        kind = self.guess_type(path)
        packed = kind.startswith(TEXT)
        body = compressed(path) if packed else path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if packed else kind)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are measured, not printed."""


@contextmanager
def served_site(site: Path | None = None) -> Iterator[str]:
    """Address of `site` without the closing slash; without one the guide is built first. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as name:
        if site is None:
            site = Path(name) / "site"
            command = [sys.executable, "-m", "generator", "build", "--site", str(site)]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        folder = str(site)

        class Handler(CompressingHandler):
            def __init__(self, *args: object, **options: object) -> None:
                super().__init__(*args, directory=folder, **options)  # type: ignore[arg-type]

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
