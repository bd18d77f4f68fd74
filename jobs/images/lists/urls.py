"""One spelling for URLs that mean the same: what is compared, never what is shown.

    canonical("HTTP://Example.ORG:80/a/../%7Eb#c") -> "http://example.org/~b"

By RFC 3986, section 6.2 (case, percent-encoding, dot segments, default port) and, where browsers do more, the WHATWG
URL standard (IDNA host, numeric IPv4, `%2e`). The fragment goes, for no server sees it. The query keeps its order, for
some servers mind it. Pure: no network, no files.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import idna


@dataclass(frozen=True, slots=True)
class Refused:
    """Not a URL that can be asked for."""

    reason: str
    """A key of `jobs.images.lists.reasons.REASONS`."""
    detail: str


_CANONICAL = re.compile(
    r"https?://(?=[^/]{1,63}/)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?"
    r"(?:/(?!\.)[A-Za-z0-9._~!$&'()*+,;=:@-]*)+(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
)
"""URLs that are as they should be: most of a list. The long way gives the same for them."""
_PARTS = re.compile(r"(?is)(https?)://([^/?#\\]*)([^?#]*)(\?[^#]*)?(?:#.*)?")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})|([^A-Za-z0-9._~!$&'()*+,;=:@/?%-])")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_FORBIDDEN_IN_HOSTS = re.compile(r"[\x00-\x20\x7f#%/:<>?@\[\\\]^|]")
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical(url: str) -> str | Refused:
    """The canonical spelling of an absolute http or https URL, or why it is none."""
    if _CANONICAL.fullmatch(url):
        return url
    parts = _PARTS.fullmatch(url)
    if not parts or _NOT_IN_URLS.search(url):
        return Refused("url-malformed", url[:250])
    scheme, authority, path, query = parts[1].lower(), parts[2], parts[3], parts[4] or ""
    if "@" in authority:
        return Refused("url-credentials", f"{scheme}://…@{authority.rpartition('@')[2][:200]}")
    if "\\" in path:  # browsers read it as "/", other clients do not: two servers could be meant
        return Refused("url-malformed", f"a backslash in {url[:230]}")
    try:
        host, port = _host_and_port(authority, scheme)
    except ValueError as error:
        return Refused("url-malformed", f"{error}: {url[:200]}")
    return f"{scheme}://{host}{port}{_without_dots(_percent(path))}{_percent(query)}"


def _host_and_port(authority: str, scheme: str) -> tuple[str, str]:
    split = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?", authority)
    if not split or not split[1]:
        raise ValueError("no host, or a port that is not a number")
    number = int(split[2][:20]) if split[2] else _DEFAULT_PORTS[scheme]
    if not 0 < number < 65536:
        raise ValueError(f"no port {number}")
    return _host(split[1]), "" if number == _DEFAULT_PORTS[scheme] else f":{number}"


def _host(host: str) -> str:
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(_no_zone(host[1:-1])).compressed}]"
    host = _percent_decoded(host)
    if not host.isascii():
        host = idna.uts46_remap(host, std3_rules=False, transitional=False)
        host = ".".join(x if x.isascii() else idna.alabel(x).decode("ascii") for x in host.split("."))
    host = host.lower()
    labels = host.removesuffix(".").split(".")
    if _FORBIDDEN_IN_HOSTS.search(host) or len(host) > 253 or not all(0 < len(label) < 64 for label in labels):
        raise ValueError("no such host can be")
    if labels[-1].isdigit() or re.fullmatch("0x[0-9a-f]*", labels[-1]):
        return str(ipaddress.IPv4Address(_ipv4(labels)))
    return host


def _ipv4(labels: list[str]) -> int:
    """The address that browsers and libc read in 127.1, 0x7f000001 or 017700000001."""
    if len(labels) > 4:
        raise ValueError("no IPv4 address")
    numbers = [_number(label) for label in labels]
    *most, last = numbers
    if any(number > 255 for number in most) or last >= 256 ** (5 - len(labels)):
        raise ValueError("no IPv4 address")
    return int(sum(number * 256 ** (3 - place) for place, number in enumerate(most)) + last)


def _number(label: str) -> int:
    if not re.fullmatch("0x[0-9a-f]{0,16}|[0-9]{1,20}", label):
        raise ValueError("no IPv4 address")
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8) if len(label) > 1 and label[0] == "0" else int(label)


def _no_zone(address: str) -> str:
    if "%" in address:
        raise ValueError("an IPv6 address with a zone")
    return address


def _percent_decoded(host: str) -> str:
    decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), host.encode("utf-8"))
    return decoded.decode("utf-8")


def _percent(text: str) -> str:
    """Capital hexadecimal digits, nothing encoded that need not be, everything encoded that must be."""
    return _PERCENT.sub(_one, text)


def _one(found: re.Match[str]) -> str:
    if found[1]:
        byte = int(found[1], 16)
        return chr(byte) if byte in _UNRESERVED else f"%{byte:02X}"
    return "".join(f"%{byte:02X}" for byte in found[2].encode("utf-8"))


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4, for an absolute path."""
    if "/." not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
