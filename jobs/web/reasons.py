"""Why a request may end without the bytes that were asked for."""

from __future__ import annotations

import requests

REASONS: dict[str, str] = {
    # before any request
    "url-malformed": "the URL is not an absolute http or https URL",
    "url-credentials": "the URL, or one that it redirects to, carries a user name or a password",
    "hash-malformed": "the expected hash is not md5:, sha256: or sha512: and its hexadecimal digits",
    "address-refused": "the host's address is private, reserved or otherwise not of the public internet",
    # names and connections
    "no-such-host": "the host's name does not exist",
    "dns": "the host's name could not be looked up this time",
    "connection": "no connection, or it broke before the end",
    "tls": "the server's certificate does not hold",
    "timeout": "the server took too long to connect, or to send its next bytes",
    "too-slow": "the bytes came slower than the minimum rate",
    "transfer-timeout": "the whole transfer took longer than its limit",
    "host-down": "the host failed many times in a row and is left alone for a while",
    "unit-deadline": "the unit's time was over before the row's turn, or during it",
    # answers
    "http-status": "the server answered with a status other than 200",
    "bad-response": "the answer is not HTTP, or its head is beyond all measure",
    "encoding-unsupported": "the answer is compressed in a way that was not asked for and is not known",
    "encoding-damaged": "the compressed answer does not unpack",
    "too-many-redirects": "the server redirects without end",
    "redirect-refused": "the server redirects to something that is not an http or https URL",
    "too-large": "the file is larger than the limit",
    "hash-mismatch": "the bytes do not have the hash that the list gives",
}
"""Every reason an `Answer` can have, but those of `before_hop`."""

TRANSIENT = frozenset(
    {"dns", "connection", "timeout", "too-slow", "transfer-timeout", "host-down", "unit-deadline"}
)  # fmt: skip
"""Reasons that may pass by themselves. `http-status` is one of them when the status is: see `Answer.transient`."""

TRIED_AGAIN = frozenset({"dns", "connection", "timeout"})
"""What another attempt in the same call may mend. A slow server had its time already."""

HOST_FAILED = frozenset({"connection", "timeout", "too-slow", "transfer-timeout"})
"""What counts against a host: see `jobs.web.hosts`."""


class WebError(requests.exceptions.RequestException):
    """A request that ends here, for a reason of `REASONS` or of `before_hop`. Never leaves `Client.get`."""

    def __init__(self, reason: str, detail: str, part: bytes = b"") -> None:
        """`part`: what was read of the body, where that is of use."""
        super().__init__(detail)
        self.reason, self.detail, self.part = reason, detail, part
