"""A real HTTP server for the photos of this machine's packages, with a log of every request.

    with PhotoServer(files, log="requests.jsonl") as server:
        server.url + "/photos/coffee.png"

It knows nothing of licet: it answers with what it was given, and notes who asked for what.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "html": "text/html; charset=utf-8"}


class PhotoServer:
    """Serves `files` (path -> bytes) on a free port of 127.0.0.1; unknown paths get 404."""

    def __init__(self, files: Mapping[str, bytes], log: str | Path) -> None:
        self._log = Path(log)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("")
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(dict(files), self._log))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> PhotoServer:
        threading.Thread(target=self._http.serve_forever, name="photo-server", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def requests(self) -> list[str]:
        """Paths asked for so far, in order."""
        return [json.loads(line)["path"] for line in self._log.read_text().splitlines()]


def _handler(files: dict[str, bytes], log: Path) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept alive

        def do_GET(self) -> None:
            body = files.get(self.path)
            status = 404 if body is None else 200
            with lock, log.open("a") as lines:
                at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
                agent = self.headers.get("User-Agent", "")
                lines.write(json.dumps({"at": at, "path": self.path, "status": status, "agent": agent}) + "\n")
            body = b"nothing is here\n" if body is None else body
            self.send_response(status)
            self.send_header("Content-Type", _TYPES.get(self.path.rsplit(".", 1)[-1], "text/plain"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """The JSON lines are the log."""

    return Handler
