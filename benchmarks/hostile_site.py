"""The list that `benchmarks.hostile` ingests, and the servers that answer it: good photos with hostile rows among them.

    with HostileSite(2000, share=0.05) as site:
        site.rows          what is listed, of which kind each row is, and how it may end
        site.intrusions    connections to addresses that nobody may be led to

Good and hostile rows share hosts: four addresses and `localhost`, which is 127.0.0.1 and, forbidden, ::1. What would
slow all rows of its host by design (429) or deny them (robots.txt) has a host of its own.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType

from PIL import Image
from skimage import data as photos

KEPT = "kept"
GOOD = "good"
ADDRESSES = ("127.0.0.1", "127.0.0.3", "127.0.0.4", "127.0.0.5")
FORBIDDEN = "127.0.0.2"
NETWORKS = [f"{address}/32" for address in ADDRESSES]
"""What the ingest may connect to."""

_HEAD = b"HTTP/1.1 200 OK\r\n"
_START = _HEAD + b"Content-Length: 100000\r\n\r\n"

Page = bytes | Callable[[socket.socket], None]
"""What is sent: bytes, after which the connection is kept, or a function of the connection, after which it is not."""


@dataclass(frozen=True)
class Listed:
    """One row of the list."""

    url: str
    kind: str
    """Of `HostileSite.kinds`, or `good`."""
    ends: frozenset[str]
    """Reasons that are right for it; `kept` is one."""
    sha256: str = ""
    """Of what a good row serves."""


@dataclass(frozen=True)
class Kind:
    """A way to do harm."""

    ends: frozenset[str]
    """Reasons that are right for it; `kept` is one."""
    page: Page | str = b""
    """What a shared host answers; a string is where it redirects to."""
    url: str = "http://{host}/{path}/{n}"
    """`host` is a shared one; other fields are ports of `_apart`, and `forbidden`."""


def answer(body: bytes = b"", status: int = 200, **headers: str) -> bytes:
    """An answer's bytes; underscores of header names are hyphens."""
    said = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Said", *[f"{name}: {value}" for name, value in said.items()]]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def moved(url: str) -> bytes:
    return answer(b"", 302, Location=url)


def drip(start: bytes, block: bytes, pause_s: float) -> Page:
    """`start`, and then a block each `pause_s`, until the other side goes."""

    def page(sock: socket.socket) -> None:
        sock.sendall(start)
        while True:
            time.sleep(pause_s)
            sock.sendall(block)

    return page


def hang(start: bytes = b"") -> Page:
    def page(sock: socket.socket) -> None:
        sock.sendall(start)
        sock.recv(1)  # until the client goes

    return page


def reset(start: bytes = b"") -> Page:
    def page(sock: socket.socket) -> None:
        sock.sendall(start)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return page


def closing(content: bytes) -> Page:
    return lambda sock: sock.sendall(content)


def jpeg(number: int = 0) -> bytes:
    """A small photo with its number in a comment, so that no two rows are copies."""
    return _PHOTO[:2] + b"\xff\xfe\x00\x0a%08d" % number + _PHOTO[2:]


def _photo() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photos.chelsea()[:200, :240]).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def png(width: int, height: int, n_inflated: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8-bit RGB whose header promises a size and whose data unpack to so many zeros."""
    packer = zlib.compressobj(9)
    packed = [packer.compress(bytes(min(1 << 20, n_inflated - at))) for at in range(0, n_inflated, 1 << 20)]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", b"".join(packed) + packer.flush()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def avif(side_px: int, promised_px: int) -> bytes:
    """A flat AVIF whose item promises another size than its stream has."""
    buffer = io.BytesIO()
    Image.new("RGB", (side_px, side_px), "white").save(buffer, "AVIF", speed=10, quality=30)
    said, lie = (b"ispe\0\0\0\0" + struct.pack(">II", px, px) for px in (side_px, promised_px))
    assert said in buffer.getvalue()
    return buffer.getvalue().replace(said, lie)


_PHOTO = _photo()


@functools.cache
def _shared() -> dict[str, Kind]:
    """Kinds on hosts that have good photos too."""
    profile = b"licet\0\0" + zlib.compress(bytes(100_000_000), 9)
    smuggled = answer(jpeg()[:5000]) + jpeg()[5000:] + answer(jpeg(99_999_999))
    return {
        "drip": _kind("too-slow", drip(_START, b"x", 0.2)),
        "drip of header lines": _kind("too-slow", drip(_HEAD, b"X-A: b\r\n", 0.2)),
        "a fair rate without end": _kind("transfer-timeout", drip(_HEAD + b"\r\n", b"x" * 4000, 0.05)),
        "hang before the head": _kind("timeout", hang()),
        "hang in the head": _kind("timeout", hang(_HEAD)),
        "hang in the body": _kind("timeout", hang(_START + b"x" * 500)),
        "reset before the head": _kind("connection", reset()),
        "reset in the body": _kind("connection", reset(_START + b"x" * 500)),
        "a length that is too long": _kind("connection", closing(_START + b"x" * 500)),
        "a length that is too short, then another answer": _kind("damaged-image", smuggled),
        "a length of a gigabyte": _kind("too-large", hang(_HEAD + b"Content-Length: 999999999\r\n\r\n")),
        "a body without end": _kind("too-large", drip(_HEAD + b"\r\n", b"x" * 200_000, 0.0)),
        "endless header lines": _kind("bad-response", drip(_HEAD, b"X-A: b\r\n" * 1000, 0.0)),
        "no HTTP": _kind("bad-response", closing(b"220 mail.example ESMTP\r\n")),
        "gzip bomb": _kind("too-large", answer(gzip.compress(bytes(100_000_000)), Content_Encoding="gzip")),
        "redirect loop": _kind("too-many-redirects", "/{path}/{n}"),
        "redirect to a file": _kind("redirect-refused", "file:///etc/hostname"),
        "redirect to a password": _kind("url-credentials", "http://me:secret@{host}/good/1"),
        "redirect to the metadata": _kind("address-refused", "http://169.254.169.254/latest/meta-data/"),
        "redirect inwards": _kind("address-refused", "http://127.0.0.2:{forbidden}/{path}/{n}"),
        "redirect inwards, decimal": _kind("address-refused", "http://2130706434:{forbidden}/{path}/{n}"),
        "redirect inwards, IPv6-mapped": _kind("address-refused", "http://[::ffff:127.0.0.2]:{forbidden}/{path}/{n}"),
        "redirect to ::1": _kind("address-refused", "http://[::1]:{forbidden}/{path}/{n}"),
        "503 always": _kind("http-status", answer(b"", 503)),
        "no picture": _kind("not-an-image", answer(b"<!doctype html><title>no picture</title>")),
        "half a picture": _kind("damaged-image", answer(jpeg()[:5000])),
        "PNG of 50,000 x 50,000": _kind("too-many-pixels", answer(png(50_000, 50_000, 1000))),
        "PNG of 9,000 x 9,000 in few bytes": _kind(KEPT, answer(png(9000, 9000, 27_001 * 9000))),
        "PNG that unpacks to 400 times what it promises": _kind(KEPT, answer(png(500, 500, 300_000_000))),
        "PNG with a profile that unpacks to 100 MB": Kind(
            frozenset({KEPT, "damaged-image"}), answer(png(500, 500, 1501 * 500, (b"iCCP", profile)))
        ),
        "PNG of a million frames": _kind(
            "too-many-frames", answer(png(500, 500, 1501 * 500, (b"acTL", struct.pack(">II", 1_000_000, 0))))
        ),
        "AVIF that promises 60,000 x 60,000": _kind("too-many-pixels", answer(avif(64, 60_000))),
        "AVIF of 8,192 x 8,192 that promises 64 x 64": Kind(
            frozenset({KEPT, "damaged-image", "decoder-memory"}), answer(avif(8192, 64))
        ),
    }


def _elsewhere() -> dict[str, Kind]:
    """Kinds whose URL is the harm, or whose host is."""
    spelled = {"": FORBIDDEN, ", decimal": "2130706434", ", octal": "0177.0.0.2", ", IPv6-mapped": "[::ffff:127.0.0.2]"}
    found = {
        f"forbidden address{how}": _kind("address-refused", url=f"http://{address}:{{forbidden}}/{{path}}/{{n}}")
        for how, address in spelled.items()
    }
    found |= {
        "metadata address": _kind("address-refused", url="http://169.254.169.254/latest/{n}"),
        "password in the URL": _kind("url-credentials", url="http://me:secret@{host}/good/{n}"),
        "no URL of the web": _kind("url-malformed", url="file:///etc/hostname?{n}"),
    }
    return found | {name: _kind(end, url=url) for name, (end, url) in _APART.items()}


_APART = {
    "429 for an hour": ("http-status", "http://127.0.0.1:{busy}/{n}"),
    "robots.txt says no": ("robots-disallowed", "http://127.0.0.1:{denying}/{n}"),
    "robots.txt hangs": ("robots-unreachable", "http://127.0.0.1:{mute}/{n}"),
    "robots.txt redirects inwards": ("robots-unreachable", "http://127.0.0.1:{leading}/{n}"),
    "TLS handshake without end": ("robots-unreachable", "https://127.0.0.1:{silent}/{n}"),
    "no TLS where it should be": ("robots-unreachable", "https://127.0.0.1:{busy}/{n}"),
    "nobody listens": ("robots-unreachable", "http://127.0.0.1:{closed}/{n}"),
}
"""Kind -> its end, and a URL on a host of its own."""


def _kind(end: str, page: Page | str = b"", url: str = Kind.url) -> Kind:
    return Kind(frozenset({end}), page, url)


class HostileSite:
    """All of it, while the block lasts. `share` of the rows are hostile, all kinds in turn."""

    def __init__(self, n_rows: int, share: float) -> None:
        self._resources = ExitStack()
        self._lock = threading.Lock()
        self.intrusions = 0
        shared = _shared()
        self._pages = {_path(name): kind.page for name, kind in shared.items()}
        self._ports = self._listen()
        self.kinds = shared | _elsewhere()
        self.rows = list(self._rows(n_rows, max(1, round(n_rows * share))))

    def __enter__(self) -> HostileSite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def url_of(self, kind: str, number: int) -> str:
        """A URL of a kind, on a shared host."""
        hosts = [f"{address}:{self._ports['shared']}" for address in (*ADDRESSES, "localhost")]
        host = hosts[(number + number // len(hosts)) % len(hosts)]  # each kind meets each host, whatever the share
        url = Kind.url if kind == GOOD else self.kinds[kind].url
        return url.format(host=host, path=_path(kind), n=number, **self._ports)

    def _listen(self) -> dict[str, int]:
        """Start all servers: name -> port."""
        port = self._serve("127.0.0.1", 0, self._answer)
        for address in ADDRESSES[1:]:
            self._serve(address, port, self._answer)
        self._count_on("::1", port)  # where `localhost` must not lead
        forbidden = self._count_on(FORBIDDEN, 0)
        self._count_on("::1", forbidden)
        inwards = f"http://{FORBIDDEN}:{forbidden}/robots.txt"
        closed = self._resources.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        apart: dict[str, Callable[[socket.socket, str], bool]] = {
            "busy": lambda sock, path: _send(sock, _unless_asked(path) or answer(b"", 429, Retry_After="3600")),
            "denying": lambda sock, path: _send(sock, answer(b"User-agent: *\nDisallow: /")),
            "mute": lambda sock, path: _send(sock, hang()),
            "leading": lambda sock, path: _send(sock, moved(inwards)),
        }
        ports = {name: self._serve("127.0.0.1", 0, reply) for name, reply in apart.items()}
        ports["silent"] = self._accept("127.0.0.1", 0, _hold)
        return ports | {"shared": port, "forbidden": forbidden, "closed": closed.getsockname()[1]}

    def _rows(self, n_rows: int, n_hostile: int) -> Iterator[Listed]:
        names = list(self.kinds)
        for number in range(n_rows):
            place = number * n_hostile // n_rows
            if place == (number + 1) * n_hostile // n_rows:
                sha256 = hashlib.sha256(jpeg(number)).hexdigest()
                yield Listed(self.url_of(GOOD, number), GOOD, frozenset({KEPT}), sha256)
            else:
                name = names[place % len(names)]
                yield Listed(self.url_of(name, number), name, self.kinds[name].ends)

    def _answer(self, sock: socket.socket, path: str) -> bool:
        """What a shared host says; whether the connection is kept."""
        _, first, *rest = path.split("/")
        if first == "good":
            return _send(sock, answer(jpeg(int(rest[0]))))
        page = self._pages.get(first)
        if isinstance(page, str):
            host = f"127.0.0.1:{self._ports['shared']}"
            return _send(sock, moved(page.format(host=host, path=first, n=rest[0], **self._ports)))
        return _send(sock, answer(b"nothing here", 404) if page is None else page)

    def _serve(self, address: str, port: int, reply: Callable[[socket.socket, str], bool]) -> int:
        return self._accept(address, port, lambda sock: _converse(sock, reply))

    def _count_on(self, address: str, port: int) -> int:
        """An address that nobody may be led to; connections are counted, and served a photo."""

        def intruder(sock: socket.socket) -> None:
            with self._lock:
                self.intrusions += 1
            _converse(sock, lambda sock, path: _send(sock, answer(jpeg())))

        return self._accept(address, port, intruder)

    def _accept(self, address: str, port: int, talk: Callable[[socket.socket], None]) -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=256)

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=talk, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, name=f"hostile {address}", daemon=True).start()
        self._resources.callback(listener.close)
        self._resources.callback(listener.shutdown, socket.SHUT_RDWR)
        return int(listener.getsockname()[1])


def _path(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _unless_asked(path: str) -> bytes:
    """404 for what is asked of a site before its photos; else nothing."""
    site_files = ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json")
    return answer(b"nothing here", 404) if path in site_files else b""


def _send(sock: socket.socket, page: Page) -> bool:
    if isinstance(page, bytes):
        sock.sendall(page)
        return True
    page(sock)
    return False


def _hold(sock: socket.socket) -> None:
    """Take what comes, say nothing."""
    with suppress(OSError), sock:
        while sock.recv(1 << 16):
            pass


def _converse(sock: socket.socket, reply: Callable[[socket.socket, str], bool]) -> None:
    """One connection, until either side has enough."""
    with suppress(OSError), sock:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                block = sock.recv(1 << 16)
                if not block:
                    return
                received += block
            head, _, received = received.partition(b"\r\n\r\n")
            if not reply(sock, head.decode("latin-1").split(" ")[1]):
                return
