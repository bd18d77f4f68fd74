"""What a request came to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from urllib3 import HTTPHeaderDict

from jobs.web.reasons import WebError

_HEX_DIGITS = {"md5": 32, "sha256": 64, "sha512": 128}


class Headers:
    """An answer's headers. Names have no case; a name may have several values."""

    def __init__(self, headers: HTTPHeaderDict | None = None) -> None:
        self._headers = HTTPHeaderDict() if headers is None else headers

    def __contains__(self, name: str) -> bool:
        return name in self._headers

    def __repr__(self) -> str:
        return repr(self._headers)

    def get(self, name: str, default: str = "") -> str:
        """All its values, joined by commas as RFC 9110 allows."""
        return self._headers.get(name, default)

    def get_all(self, name: str) -> list[str]:
        """Each of its values, in the order of the answer."""
        return self._headers.getlist(name)


@dataclass(frozen=True)
class Answer:
    """What a request came to: bytes, or the reason why there are none."""

    data: bytes = b""
    """The whole body, unpacked. Empty when there is a reason, but for too-large with a limit of at most 1 MiB: then the
    body's start, up to the limit, because text is of use without its end (robots.txt: RFC 9309, 2.5)."""
    status: int = 0
    """The last HTTP status; 0 when no answer came."""
    headers: Headers = field(default_factory=Headers)
    url: str = ""
    """The last URL that was asked for."""
    hops: tuple[str, ...] = ()
    """The URLs that redirected there, in order."""
    requests: int = 0
    """Requests sent, redirects and retries included."""
    n_bytes: int = 0
    """Received over the wire, redirects and retries included."""
    seconds: float = 0.0
    """From the first request to the last byte."""
    reason: str = ""
    """Empty for status 200 and a whole body; else of `jobs.web.reasons.REASONS`, or what `before_hop` said."""
    detail: str = ""
    """For people."""
    transient: bool = False
    """Whether the same request may end better another time."""

    @cached_property
    def sha256(self) -> str:
        """Of the data, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def check_expected(expected: str) -> None:
    """Raises `WebError` when it is not `md5:`, `sha256:` or `sha512:` and hexadecimal digits; empty is no hash."""
    algorithm, _, digits = expected.partition(":")
    right = len(digits) == _HEX_DIGITS.get(algorithm) and all(digit in "0123456789abcdefABCDEF" for digit in digits)
    if expected and not right:
        raise WebError("hash-malformed", f"{expected[:200]!r}")


def check_hash(answer: Answer, expected: str) -> None:
    """Raises `WebError` when the data do not hash to what is expected, or it is no hash; empty is not looked at."""
    check_expected(expected)
    algorithm, _, digits = expected.partition(":")
    if not expected:
        return
    if algorithm == "sha256":
        found = answer.sha256
    else:
        found = hashlib.new(algorithm, answer.data, usedforsecurity=False).hexdigest()
    if found != digits.lower():
        raise WebError("hash-mismatch", f"expected {expected}, found {algorithm}:{found}")
