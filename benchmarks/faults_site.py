"""The list that `benchmarks.faults` ingests: 40 rows, and the HTTP server that has their photos.

Thirty-four rows have small photos of their own, two have the same bytes, and one each is denied, missing, damaged or
malformed. The server can be asked to be slow once, which makes Spark speculate.
"""

from __future__ import annotations

import csv
import io
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from PIL import Image
from skimage import data as photos

SLOW_S = 12.0


class Site:
    """Serves on a free port of 127.0.0.1; `source` is the list's YAML."""

    purpose = ("--policy.purpose", "commercial-training")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._files = _photos()
        self._asked: Counter[str] = Counter()
        self._slow_paths: set[str] = set()
        self._slow: set[str] = set()
        """Of those, the ones that were not asked for yet."""
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        rows = self._rows()
        self.n_rows = len(rows)
        self.source = _write_list(folder, rows)
        self.flags = [*self.purpose, "--rows_per_unit", "4", "--image.size_px", "64"]
        self.flags += ["--formats", "[tfrecord, parquet]", "--fetch.retries", "1", "--fetch.backoff_s", "0.01"]
        self.flags += ["--fetch.threads", "2"]
        self.flags += ["--fetch.allow_networks", "[127.0.0.0/8]"]

    def __enter__(self) -> Site:
        threading.Thread(target=self._http.serve_forever, name="site", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def slow_once(self, units: int = 5) -> None:
        """From now on, the first answer for one photo in each of so many units takes `SLOW_S` seconds."""
        with self._lock:
            self._slow_paths = {f"/{number}.jpg" for number in range(2, 40, 8)[:units]}
            self._slow = set(self._slow_paths)
            self._asked.clear()

    def asked_twice(self) -> int:
        """How many of the slow photos were asked for by a second attempt."""
        with self._lock:
            return sum(self._asked[path] > 1 for path in self._slow_paths)

    def _rows(self) -> list[dict[str, str]]:
        rows = [{"url": f"{self.url}{path}", "licence": "CC-BY-4.0", "creator": "A"} for path in self._files]
        rows += [{**rows[3], "url": f"{self.url}/missing.jpg"}, {**rows[3], "url": ""}]
        rows += [{**rows[3], "url": f"{self.url}/7.jpg?denied", "licence": "CC-BY-NC-4.0"}]
        return rows

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                with site._lock:
                    site._asked[path] += 1
                    slow = path in site._slow
                    site._slow.discard(path)
                if slow:
                    time.sleep(SLOW_S)
                body = site._files.get(path)
                try:
                    self.send_response(404 if body is None else 200)
                    self.send_header("Content-Length", str(len(body or b"")))
                    self.end_headers()
                    self.wfile.write(body or b"")
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the process that asked was killed

            def log_message(self, format: str, *args: object) -> None:
                """Only counted."""

        return Handler


def _photos() -> dict[str, bytes]:
    """Path -> JPEG: 34 crops of one photo, a copy of one of them, one cut off, one that is none."""
    chelsea = Image.fromarray(photos.chelsea())
    files = {}
    for number in range(34):
        buffer = io.BytesIO()
        chelsea.crop((number * 3, number * 2, 200 + number * 3, 180 + number * 2)).save(buffer, "JPEG", quality=85)
        files[f"/{number}.jpg"] = buffer.getvalue()
    files["/34.jpg"] = files["/20.jpg"]
    files["/35.jpg"] = files["/21.jpg"][:3000]
    files["/36.jpg"] = b"<!doctype html><title>no photo</title>"
    return files


def _write_list(folder: Path, rows: list[dict[str, str]]) -> Path:
    with open(folder / "faults.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["url", "licence", "creator"])
        writer.writeheader()
        writer.writerows(rows)
    source = folder / "faults.yaml"
    source.write_text(
        "id: faults\ntitle: Photos for the fault benchmark\nkind: images\nlocation: faults.csv\nformat: csv\n"
        "columns: {url: url, licence: licence, creator: creator}\nlanguages: [en]\nlicence: CC0-1.0\n",
        encoding="utf-8",
    )
    return source
