"""A small, fast HTTP and HTTPS server for benchmarks, and a log of when each photo was sent.

    with PhotoHost(files, n_hosts=200, tls=True) as host:
        host.url(17)            "https://h017.photos.test:PORT/000017.jpg"
        host.sent_at()          {number: seconds}, from the moment that the last byte went out

Every URL has bytes of its own: a JPEG comment with the URL's number, so that no two rows are duplicates. It runs in a
process of its own, one thread for each connection, so that both sides of a comparison meet the same server.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

READY_S = 30.0
LISTEN_BACKLOG = 1024


class PhotoHost:
    """Starts the server process, and asks it for its log over a plain connection of its own."""

    def __init__(self, files: Sequence[Path], n_hosts: int = 0, certificate: Path | None = None) -> None:
        self._n_hosts, self._tls = n_hosts, certificate is not None
        command = [sys.executable, "-m", "benchmarks.server", "--files", str(files[0].parent), str(len(files))]
        command += ["--certificate", str(certificate)] if certificate else []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ports = json.loads(self._process.stdout.readline())
        self.port, self._control = ports["port"], ports["control"]

    def url(self, number: int) -> str:
        """URL of one photo; numbers beyond the files repeat their pictures, not their bytes."""
        name = f"{host_name(number % self._n_hosts)}" if self._n_hosts else "127.0.0.1"
        return f"{'https' if self._tls else 'http'}://{name}:{self.port}/{number:06d}.jpg"

    def sent_at(self) -> dict[int, float]:
        """When each photo's last byte was written, in seconds of the monotonic clock; the log is emptied."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._control}/log", timeout=60) as response:
            return {int(number): at for number, at in json.load(response)["sent"].items()}

    def __enter__(self) -> PhotoHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def host_name(number: int) -> str:
    """Name of the numbered host; `.test` is reserved for tests (RFC 6761)."""
    return f"h{number:03d}.photos.test"


def serve(folder: Path, n_files: int, certificate: Path | None) -> None:
    """Serve until killed. Prints both ports as one line of JSON when it listens."""
    bodies = [(folder / f"{i:05d}.jpg").read_bytes() for i in range(n_files)]
    sent: dict[int, float] = {}
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    photos, control = socket.create_server(("0.0.0.0", 0), backlog=LISTEN_BACKLOG), socket.create_server(("", 0))
    print(json.dumps({"port": photos.getsockname()[1], "control": control.getsockname()[1]}), flush=True)  # noqa: T201
    threading.Thread(target=_control, args=(control, sent), daemon=True).start()
    while True:
        connection, _ = photos.accept()
        threading.Thread(target=_talk, args=(connection, context, bodies, sent), daemon=True).start()


def _talk(
    connection: socket.socket, context: ssl.SSLContext | None, bodies: list[bytes], sent: dict[int, float]
) -> None:
    """One connection, kept alive unless the client says otherwise."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        waiting = b""
        while True:
            while b"\r\n\r\n" not in waiting:
                block = connection.recv(65536)
                if not block:
                    return
                waiting += block
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            name = head.split(b" ", 2)[1].lstrip(b"/").split(b".")[0]
            if not name.isdigit():
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            number = int(name)
            body = bodies[number % len(bodies)]
            comment = b"\xff\xfe\x00\x0a%08d" % number
            length = len(body) + len(comment)
            start = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % length
            connection.sendall(b"".join((start, body[:2], comment, body[2:])))
            sent[number] = time.monotonic()
            if b"connection: close" in head.lower():
                return
    except (OSError, ssl.SSLError):
        return  # the client went away, as some do
    finally:
        connection.close()


def _control(listener: socket.socket, sent: dict[int, float]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            body = json.dumps({"sent": sent}).encode()
            sent.clear()
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    where = arguments.index("--files")
    pem = Path(arguments[arguments.index("--certificate") + 1]) if "--certificate" in arguments else None
    serve(Path(arguments[where + 1]), int(arguments[where + 2]), pem)
