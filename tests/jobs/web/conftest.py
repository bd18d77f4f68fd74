"""A real HTTP server that does what it is told, down to the byte, and counts who connects."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme

from jobs.web.client import Client
from jobs.web.options import FetchOptions

Page = bytes | Callable[[socket.socket, int], bool]
"""What is sent: bytes, or a function of the connection and how often the path was asked for; False: close it."""


@dataclass
class Site:
    """A server on an address and port of its own."""

    url: str = ""
    port: int = 0
    pages: dict[str, Page] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    """Every request's head as it came."""
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]


def answer(body: bytes = b"", status: int = 200, length: int | None = None, **headers: str) -> bytes:
    """An answer's bytes; underscores of header names are hyphens."""
    said = {"Content-Length": str(len(body) if length is None else length)}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Said", *[f"{name}: {value}" for name, value in said.items()]]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def moved(url: str, status: int = 302) -> bytes:
    return answer(b"", status, Location=url)


def first_then(*answers: bytes) -> Page:
    """The first, the second …; the last for ever."""

    def page(sock: socket.socket, seen: int) -> bool:
        sock.sendall(answers[min(seen, len(answers)) - 1])
        return True

    return page


def drip(start: bytes, block: bytes, pause_s: float) -> Page:
    """`start`, and then a block each `pause_s`, until the other side goes."""

    def page(sock: socket.socket, seen: int) -> bool:
        sock.sendall(start)
        with suppress(OSError):
            while True:
                time.sleep(pause_s)
                sock.sendall(block)
        return False

    return page


def flood(start: bytes, block: bytes) -> Page:
    return drip(start, block, 0.0)


def hang(start: bytes = b"") -> Page:
    def page(sock: socket.socket, seen: int) -> bool:
        sock.sendall(start)
        with suppress(OSError):
            sock.recv(1)  # until the client goes
        return False

    return page


def reset(start: bytes = b"", times: int = 1_000_000, then: bytes = b"") -> Page:
    """Break off hard after `start`, so many times."""

    def page(sock: socket.socket, seen: int) -> bool:
        if seen > times:
            sock.sendall(then)
            return True
        sock.sendall(start)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return False

    return page


def closing(content: bytes) -> Page:
    """Send it and close."""

    def page(sock: socket.socket, seen: int) -> bool:
        sock.sendall(content)
        return False

    return page


def _converse(site: Site, sock: socket.socket, context: ssl.SSLContext | None) -> None:
    with suppress(OSError), sock:
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                block = sock.recv(1 << 16)
                if not block:
                    return
                received += block
            head, _, received = received.partition(b"\r\n\r\n")
            with site.lock:
                site.heads.append(head.decode())
                path = site.paths[-1]
                seen = site.paths.count(path)
            page = site.pages.get(path, answer(b"nothing here", 404))
            if isinstance(page, bytes):
                sock.sendall(page)
            elif not page(sock, seen):
                sock.close()
                return


@contextmanager
def serving(
    pages: Mapping[str, Page], address: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> Iterator[Site]:
    """A site while the block lasts."""
    listener = socket.create_server((address, port), backlog=64)
    port = listener.getsockname()[1]
    site = Site(f"{'https' if context else 'http'}://{address}:{port}", port, dict(pages))

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                site.connections += 1
                threading.Thread(target=_converse, args=(site, sock, context), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


QUICK = {"timeout_s": 3.0, "backoff_s": 0.01, "max_wait_s": 2.0, "host_requests_per_s": 0, "host_failures": 0}
HOME = {"allow_networks": ["127.0.0.1/32"]}


def client(lookup: Callable[[str], Any] | None = None, **options: Any) -> Client:
    """A client with short times that may connect to 127.0.0.1."""
    values = FetchOptions(**{**QUICK, **HOME, **options})
    return Client(values) if lookup is None else Client(values, lookup)


def names(**addresses: str) -> Callable[[str], Any]:
    """A resolver for tests: name (with hyphens for underscores) -> address."""

    def lookup(name: str) -> list[tuple[Any, ...]]:
        key = name.replace(".", "_")
        if key not in addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        family = socket.AF_INET6 if ":" in addresses[key] else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses[key].split(",")]

    return lookup


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """This file's functions: tests cannot import a conftest."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def tls_context_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context
