"""A site whose answers a test writes down, a plain client, and images that carry metadata."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from jobs.rights.check import Rights
from jobs.rights.options import RightsOptions


@dataclass
class Site:
    """Path -> (status, headers, body); anything else is 404."""

    url: str = ""
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    slow_s: float = 0.0
    log: list[str] = field(default_factory=list)

    def put(self, path: str, body: str | bytes, status: int = 200, **headers: str) -> None:
        self.pages[path] = (status, headers, body.encode() if isinstance(body, str) else body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """The log is `Site.log`."""

    def do_GET(self) -> None:
        self.site.log.append(self.path)
        time.sleep(self.site.slow_s)
        status, headers, body = self.site.pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site() -> Iterator[Site]:
    """A server on a port of its own."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Plain:
    """What `get` returns."""

    data: bytes = b""
    status: int = 0
    reason: str = ""
    detail: str = ""
    transient: bool = False
    requests: int = 1


def get(url: str, *, max_bytes: int | None, accept: str, give_up_at: float | None, max_redirects: int | None) -> Plain:
    """A GET with nothing but what the rights need of one."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.max_redirects = max_redirects or 0
            answer = session.get(url, headers={"Accept": accept}, timeout=5)
    except requests.TooManyRedirects as error:
        return Plain(status=302, reason="too-many-redirects", detail=str(error), requests=1 + session.max_redirects)
    except requests.RequestException as error:
        return Plain(reason="connection", detail=type(error).__name__, transient=True)
    sent = 1 + len(answer.history)
    if answer.status_code != 200:
        return Plain(status=answer.status_code, reason="http-status", detail=str(answer.status_code), requests=sent)
    if max_bytes is not None and len(answer.content) > max_bytes:
        return Plain(answer.content[:max_bytes], 200, "too-large", "more than asked for", requests=sent)
    return Plain(answer.content, 200, requests=sent)


@pytest.fixture
def rights() -> Rights:
    """With nothing kept yet."""
    return Rights(get, "licet/1.0 (tests)")


@pytest.fixture
def make_rights() -> Callable[..., Rights]:
    """`Rights` with options of the test's own."""
    return lambda **options: Rights(get, "licet", RightsOptions(**options))


class Headers:
    """Response headers as (name, value) lines."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.lines = lines

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key.lower() == name.lower()]


@pytest.fixture
def headers() -> type[Headers]:
    return Headers


def xmp_packet(properties: str) -> bytes:
    """An XMP packet with these elements (or, with a leading @, attributes)."""
    attributes, elements = (properties[1:], "") if properties.startswith("@") else ("", properties)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:tdm="http://www.w3.org/ns/tdmrep/" xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/"'
        f' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" {attributes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta>   <?xpacket end="w"?>'
    ).encode()


def image(kind: str, xmp: bytes = b"", **options: Any) -> bytes:
    """A real image of this Pillow format that carries the packet."""
    picture = Image.linear_gradient("L").convert("RGB")
    buffer = io.BytesIO()
    if kind == "PNG":
        notes = PngInfo()
        if xmp:
            notes.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"), zip=options.pop("zip", False))
        picture.save(buffer, kind, pnginfo=notes)
    elif kind == "TIFF":
        tags = ImageFileDirectory_v2()
        for tag, value in {**options.pop("tags", {}), **({700: xmp} if xmp else {})}.items():
            tags.tagtype[tag] = 7  # bytes
            tags[tag] = value
        picture.save(buffer, kind, tiffinfo=tags)
    elif kind == "GIF":
        picture.quantize(16).save(buffer, kind)
        if xmp:  # an application extension, and the trailer by which readers of sub-blocks find its end
            trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
            extension = b"!\xff\x0bXMP DataXMP" + xmp + trailer
            return buffer.getvalue().removesuffix(b";") + extension + b";"
    else:
        picture.save(buffer, kind, **({"xmp": xmp} if xmp else {}), **options)
    return buffer.getvalue()


@pytest.fixture
def make_image() -> Callable[..., bytes]:
    return image


@pytest.fixture
def make_xmp() -> Callable[[str], bytes]:
    return xmp_packet


def box(kind: bytes, content: bytes) -> bytes:
    """A JUMBF box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def superbox(type_: bytes, label: str, *content: bytes) -> bytes:
    """A JUMBF superbox with its description."""
    uuid = type_ + b"\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
    return box(b"jumb", box(b"jumd", uuid + b"\x03" + label.encode() + b"\0") + b"".join(content))


def manifest_store(*manifests: list[tuple[str, bytes, bytes]]) -> bytes:
    """A C2PA manifest store: for each manifest its assertions as (label, kind of box, content)."""
    made = []
    for number, assertions in enumerate(manifests):
        boxes = [superbox(kind, label, box(kind, content)) for label, kind, content in assertions]
        made.append(superbox(b"c2ma", f"urn:uuid:{number}", superbox(b"c2as", "c2pa.assertions", *boxes)))
    return superbox(b"c2pa", "c2pa", *made)


@pytest.fixture
def make_store() -> Callable[..., bytes]:
    return manifest_store


def with_store(kind: str, store: bytes, part_bytes: int = 65_000) -> bytes:
    """An image that carries a manifest store, where C2PA puts it in this format."""
    plain = image(kind)
    if kind == "JPEG":
        head, rest = store[:8], store[8:]
        parts = [rest[i : i + part_bytes] for i in range(0, len(rest), part_bytes)]
        segments = b""
        for number, part in enumerate(parts, 1):
            content = b"JP" + struct.pack(">HI", 1, number) + head + part
            segments += b"\xff\xeb" + struct.pack(">H", 2 + len(content)) + content
        return plain[:2] + segments + plain[2:]
    if kind == "PNG":
        chunk = b"caBX" + store
        return plain[:33] + struct.pack(">I", len(store)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
    if kind == "WEBP":
        chunk = b"C2PA" + struct.pack("<I", len(store)) + store + b"\0" * (len(store) & 1)
        return b"RIFF" + struct.pack("<I", len(plain) - 8 + len(chunk)) + plain[8:] + chunk
    if kind == "GIF":
        parts = [store[i : i + 255] for i in range(0, len(store), 255)]
        blocks = b"".join(bytes([len(part)]) + part for part in parts)
        return plain.removesuffix(b";") + b"!\xff\x0bC2PA_GIF\x01\0\0" + blocks + b"\0;"
    if kind == "AVIF":
        content = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"\0\0\0\0manifest\0" + bytes(8) + store
        return plain + struct.pack(">I", 8 + len(content)) + b"uuid" + content
    if kind == "TIFF":
        return image(kind, tags={52545: store})
    return plain + store


@pytest.fixture
def carrying() -> Callable[..., bytes]:
    return with_store
