"""URLs as sites' files speak of them: origin, path, and path patterns with `*` and a final `$` (RFC 9309, 2.2.3).

Protego, which decides on robots.txt as a whole, has no public way to match one pattern, and normalises the URL for each
question. Here pattern and path are normalised once, by the same rules: a test compares the two.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_from_bytes

_URL = re.compile(r"(https?)://([^/?#\\\s]+)([^#]*)", re.IGNORECASE).match
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PLAIN = re.compile(r"[A-Za-z0-9_.~/=-]*").fullmatch
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class Target(NamedTuple):
    """A URL, taken apart once."""

    question: str
    """A URL of the same path at no particular host: all that a path pattern may look at, and safe to parse."""
    origin: str
    """scheme://host[:port], small letters, no default port, no password."""
    path: str
    """Path and query, beginning with a slash."""


def target_of(url: str) -> Target | None:
    """The URL's parts; None when it is no http or https URL with a host."""
    found = _URL(url)
    if found is None or not _is_text(url):
        return None
    scheme, host, path = found[1].lower(), found[2].rpartition("@")[2].lower(), found[3]
    host = host.removesuffix(_DEFAULT_PORTS[scheme])
    if not host or host.startswith(":"):
        return None
    if not path.isprintable():
        path = re.sub(r"[\t\r\n]", "", path)  # as every client does (WHATWG URL, 4.1)
    if not path.startswith("/"):
        path = "/" + path
    return Target(f"http://h{path}", f"{scheme}://{host}", path)


def _is_text(url: str) -> bool:
    """Whether it has no lone surrogates: they stand for bytes that were no text, and are in no URL."""
    return url.isascii() or not any("\ud800" <= character <= "\udfff" for character in url)


class Pattern:
    """One path pattern. Case counts; percent-encoding does not."""

    __slots__ = ("_exact", "_parts", "length", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._exact = text.endswith("$")
        normal = _normal(text.removesuffix("$"), "*")
        self._parts = re.sub(r"\*+", "*", normal).split("*")
        self.length = len(normal) + self._exact
        """Bytes of the encoded pattern: the longer, the more specific."""

    def matches(self, target: Target) -> bool:
        """Whether the pattern covers the URL's path and query."""
        path = _normal_path(target.path)
        first, *others = self._parts
        if not path.startswith(first):
            return False
        at = len(first)
        if not others:
            return not self._exact or at == len(path)
        for part in others[:-1]:
            at = path.find(part, at)
            if at < 0:
                return False
            at += len(part)
        last = others[-1]
        return path.endswith(last) and at + len(last) <= len(path) if self._exact else path.find(last, at) >= 0


def _normal(path: str, also_kept: str = "") -> str:
    """The path with percent-encoding where it must be and nowhere else; that of `/` and `%` stays as it is."""
    if _PLAIN(path):
        return path
    raw, kept = path.encode("utf-8"), b"/%" + also_kept.encode()
    if b"%" in raw:
        raw = _ESCAPE.sub(lambda found: _decoded(found[1], kept), raw)
    return quote_from_bytes(raw, safe="/%=" + also_kept)


_normal_path = lru_cache(maxsize=256)(_normal)
"""Several rules ask of one path."""


def _decoded(digits: bytes, kept: bytes) -> bytes:
    byte = bytes([int(digits, 16)])
    return b"%" + digits.upper() if byte in kept else byte
