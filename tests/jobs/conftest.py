"""A real HTTP server with real photos, and one Spark session for all tests of the jobs."""

from __future__ import annotations

import csv
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from skimage import data as photos

PHOTO_NAMES = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "page", "text", "moon", "brick")


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@dataclass
class Web:
    """What the server serves, and every request that reached it."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """Paths with their queries, in the order of the requests."""
    agents: set[str] = field(default_factory=set)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def hits(self) -> Counter[str]:
        return Counter(self.log)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: object) -> None:
        """The log is `Web.log`."""

    def setup(self) -> None:
        super().setup()
        with self.web.lock:
            self.web.connections += 1

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.web.lock:
            self.web.log.append(self.path)
            self.web.agents.add(self.headers["User-Agent"])
            seen = self.web.log.count(self.path)
        try:
            self.answer(path, seen)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client had enough, as some tests want

    def answer(self, path: str, seen: int) -> None:
        photo = self.web.files["/chelsea.jpg"]
        if path in self.web.files:
            self.send(200, self.web.files[path])
        elif path == "/flaky.jpg":
            self.send(200 if seen > 1 else 500, photo if seen > 1 else b"")
        elif path == "/busy.jpg":
            self.send(200 if seen > 1 else 429, photo if seen > 1 else b"", {"Retry-After": "1"})
        elif path == "/always-500":
            self.send(500, b"")
        elif path == "/slow.jpg":
            time.sleep(3)
            self.send(200, photo)
        elif path == "/dripping.jpg":
            self.start(200, {"Content-Length": "1000"})
            for _ in range(1000):
                self.wfile.write(b"\xff")
                self.wfile.flush()
                time.sleep(0.05)
        elif path == "/huge.jpg":
            self.start(200, {"Content-Length": str(50 << 20)})
            for _ in range(50):
                self.wfile.write(bytes(1 << 20))
        elif path == "/broken-off.jpg":
            self.start(200, {"Content-Length": str(len(photo))})
            self.wfile.write(photo[: len(photo) // 2])
            self.close_connection = True
        elif path == "/chunked.jpg":
            self.start(200, {"Transfer-Encoding": "chunked"})
            for start in range(0, len(photo), 5000):
                block = photo[start : start + 5000]
                self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/loop":
            self.send(302, b"", {"Location": "/loop"})
        elif path == "/moved.jpg":
            self.send(301, b"", {"Location": "/chelsea.jpg"})
        elif path == "/to-file":
            self.send(302, b"", {"Location": "file:///etc/hostname"})
        else:
            self.send(404, b"nothing here")

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.start(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)


@pytest.fixture(scope="session")
def photo_files() -> dict[str, bytes]:
    """Path -> bytes of what the server has, made of scikit-image's photos."""
    files = {f"/{name}.jpg": jpeg(Image.fromarray(getattr(photos, name)())) for name in PHOTO_NAMES}
    chelsea = Image.fromarray(photos.chelsea())
    buffer = io.BytesIO()
    chelsea.save(buffer, "PNG")
    files["/chelsea.png"] = buffer.getvalue()
    for n in range(12):  # views of one photo: rows of their own
        files[f"/view{n}.jpg"] = jpeg(chelsea.crop((n * 5, n * 3, 300 + n * 5, 250 + n * 3)))
    files["/copy.jpg"] = files["/coffee.jpg"]
    files["/page.html"] = b"<!doctype html><title>no image</title>" * 50
    files["/truncated.jpg"] = files["/rocket.jpg"][:9000]
    return files


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Web]:
    """A server on a port of its own, with a log of its own."""
    web = Web(files=dict(files))
    handler = type("Handler", (_Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def web(photo_files: dict[str, bytes]) -> Iterator[Web]:
    """The server, new for each test."""
    with serving(photo_files) as web:
        yield web


@pytest.fixture(scope="module")
def module_web(photo_files: dict[str, bytes]) -> Iterator[Web]:
    """A server that the tests of one module share: only what happens in their module fixtures counts."""
    with serving(photo_files) as web:
        yield web


@dataclass
class Photos:
    """A source on disk: its YAML, its list, and what is expected of it."""

    yaml: Path
    rows: list[dict[str, str]]
    denied: list[str]
    """Paths of rows that a policy for commercial training refuses."""
    reasons: dict[str, int]
    """Expected rejections for commercial training."""


def write_source(folder: Path, rows: list[dict[str, str]], id: str = "photos") -> Path:
    """A CSV list and the YAML that describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["url", "caption", "licence", "creator", "page"]
    with open(folder / f"{id}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    path = folder / f"{id}.yaml"
    path.write_text(
        f"id: {id}\ntitle: Test photos\nkind: images\nlocation: {id}.csv\nformat: csv\n"
        "columns: {url: url, caption: caption, licence: licence, creator: creator, source_page: page}\n"
        "languages: [en]\nlicence: CC0-1.0\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def write_list() -> Callable[..., Path]:
    """`write_source`, for tests that bring their own rows."""
    return write_source


@pytest.fixture(scope="module")
def module_source(tmp_path_factory: pytest.TempPathFactory, module_web: Web) -> Photos:
    """`photos` at `module_web`."""
    return photo_source(tmp_path_factory.mktemp("lists"), module_web)


@pytest.fixture
def source(tmp_path: Path, web: Web) -> Photos:
    """`photos` at `web`."""
    return photo_source(tmp_path / "lists", web)


def photo_source(folder: Path, web: Web) -> Photos:
    """39 rows: good photos under several licences, and one of each thing that goes wrong."""

    def row(path: str, licence: str = "", creator: str = "A. Nonymous") -> dict[str, str]:
        return {"url": web.url + path, "caption": f"a photo, {path[1:]}", "licence": licence, "creator": creator}

    rows = [row(f"/{name}.jpg", "CC-BY-4.0" if i % 2 else "") for i, name in enumerate(PHOTO_NAMES)]
    rows += [row(f"/view{n}.jpg", "CC-BY-SA-4.0") for n in range(12)]
    rows += [row("/chelsea.png"), row("/moved.jpg?1"), row("/flaky.jpg?1"), row("/chunked.jpg?1")]
    denied = ["/coffee.jpg?nc", "/rocket.jpg?nc", "/moon.jpg?unknown", "/brick.jpg?reserved"]
    rows += [row(denied[0], "CC-BY-NC-4.0"), row(denied[1], "CC-BY-NC-SA-4.0")]
    rows += [row(denied[2], "NOASSERTION"), row(denied[3], "LicenseRef-All-Rights-Reserved")]
    rows += [row("/copy.jpg", "CC-BY-4.0", creator="Another")]
    rows += [row("/nothing-here.jpg"), row("/page.html"), row("/truncated.jpg"), row("/loop")]
    rows += [{"url": ""}, {"url": "ftp://example.org/x.jpg"}, row("/astronaut.jpg?x", "CC-WRONG-9")]
    rows += [row("/camera.jpg?by", "CC-BY-4.0", creator="")]
    reasons = {
        "damaged-image": 1, "denied": 4, "duplicate": 4, "http-status": 1, "licence-unparsable": 1, "needs-review": 1,
        "not-an-image": 1, "too-many-redirects": 1, "url-malformed": 1, "url-missing": 1,
    }  # fmt: skip
    return Photos(write_source(folder, rows), rows, denied, reasons)


@pytest.fixture(scope="session")
def kill_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a test names the write point at which a process dies (see `jobs.faults`)."""
    return tmp_path_factory.mktemp("faults") / "kill-at"


@pytest.fixture(scope="session")
def spark(kill_file: Path, s3_environment: int) -> Iterator[object]:
    """One session for all tests; its workers look at `kill_file`, and for S3 where `s3` serves."""
    from jobs.options import SparkOptions
    from jobs.session import spark_session

    os.environ["LICET_KILL_AT"] = str(kill_file)
    with spark_session("licet tests", SparkOptions(master="local[2,4]")) as session:
        yield session
    del os.environ["LICET_KILL_AT"]
