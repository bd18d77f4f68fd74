"""One transfer's limits, and the reading of its body.

Whatever a server sends passes through `LimitedReader`: the status line, endless headers, chunk sizes, trailers. So the
time for the whole transfer, the minimum rate and the bytes on the wire are counted in one place, and what a body
becomes when it is unpacked is counted in `read_body`.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, cast

from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from jobs.web.options import FetchOptions
from jobs.web.reasons import WebError

_MOST_HEAD_BYTES = 1 << 18
_BLOCK_BYTES = 1 << 20
_SMALL_BYTES = 1 << 14
"""A body that nobody wants is read up to this size, because that is cheaper than a new connection."""
_DRAIN_S = 1.0
_PART_BYTES = 1 << 20
"""Up to this limit the start of a larger body is read and kept: see `Answer.data`."""
_REGISTERED = frozenset({"br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress", "zstd"})
"""IANA's content codings that may not be known here. What is neither known nor registered is a mistake: no coding."""


@dataclass(slots=True)
class Transfer:
    """One request and its answer: what it may take, and what it took. Used by one thread."""

    options: FetchOptions
    ends_at: float
    """Time of `time.monotonic` after which it is given up."""
    end_reason: str
    """What is then said: transfer-timeout, or unit-deadline when the unit's time is the shorter."""
    n_bytes: int = 0
    """Received, as they came over the wire."""
    connected: bool = False
    """Whether it made a connection of its own; else one that was kept alive served it."""
    most_bytes: int = _MOST_HEAD_BYTES
    most_bytes_reason: str = "bad-response"
    _window_at: float = 0.0
    _window_bytes: int = 0

    def left_s(self) -> float:
        """Seconds until it is given up, above 0. Raises `WebError` when there are none."""
        left_s = self.ends_at - time.monotonic()
        if left_s <= 0:
            raise WebError(self.end_reason, f"{self.n_bytes} bytes so far")
        return left_s

    def timed_out(self, doing: str) -> WebError:
        """The error for a wait that was too long: the transfer's own end, or the server's silence."""
        if time.monotonic() >= self.ends_at:
            return WebError(self.end_reason, f"{doing}, {self.n_bytes} bytes so far")
        return WebError("timeout", f"{doing}, {self.n_bytes} bytes so far")

    def head_is_read(self, max_bytes: int) -> None:
        """The body begins. Its framing and compression may take as much again as its content, and some more."""
        self.most_bytes = self.n_bytes + 2 * max_bytes + (1 << 20)
        self.most_bytes_reason = "too-large"

    def arrived(self, n_bytes: int) -> None:
        """Count bytes. Raises `WebError` when they are too many, or come too slowly."""
        now = time.monotonic()
        self.n_bytes += n_bytes
        if self.n_bytes > self.most_bytes:
            raise WebError(self.most_bytes_reason, f"more than {self.most_bytes} bytes on the wire")
        if not self._window_at:
            self._window_at = now
            return
        self._window_bytes += n_bytes
        window_s = now - self._window_at
        if window_s < self.options.min_rate_window_s:
            return
        if self._window_bytes < self.options.min_bytes_per_s * window_s:
            raise WebError("too-slow", f"{self._window_bytes} bytes in {window_s:.1f} s")
        self._window_at, self._window_bytes = now, 0


class LimitedReader(io.RawIOBase):
    """The reading side of a socket, within a transfer's limits. `raw` is the socket's own, and closed with it."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, transfer: Transfer) -> None:
        self._raw, self._sock, self._transfer = raw, sock, transfer
        self._timeout_s = transfer.options.timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As of `io.RawIOBase`; raises `WebError` when a limit is passed."""
        transfer, sock = self._transfer, self._sock
        if transfer.ends_at - time.monotonic() < self._timeout_s:
            sock.settimeout(transfer.left_s())
        try:  # past `self._raw` and `SSLSocket.recv_into`, which cost more than a record of 16 KiB
            if isinstance(sock, ssl.SSLSocket):
                n_bytes = cast(int, sock.read(len(buffer), buffer))
            else:
                n_bytes = sock.recv_into(buffer)
        except TimeoutError as error:
            raise transfer.timed_out("waited for bytes") from error
        transfer.arrived(n_bytes)
        return n_bytes

    def close(self) -> None:
        self._raw.close()
        super().close()


def read_body(response: HTTPResponse, max_bytes: int) -> bytes:
    """The whole body, unpacked.

    Raises `WebError`: too-large, encoding-unsupported, and what the transfer raises; errors of urllib3 as they are.
    """
    packed = _is_packed(response.headers.get("Content-Encoding", ""))
    announced = response.length_remaining
    if announced is not None and announced > max_bytes > _PART_BYTES:
        raise WebError("too-large", f"{announced} bytes are announced, the limit is {max_bytes}")
    blocks, n_bytes = [], 0
    while block := response.read(min(_BLOCK_BYTES, max_bytes + 1 - n_bytes), decode_content=packed):
        blocks.append(block)
        n_bytes += len(block)
        if n_bytes > max_bytes:
            part = b"".join(blocks)[:max_bytes] if max_bytes <= _PART_BYTES else b""
            raise WebError("too-large", f"more than {max_bytes} bytes", part)
        if response.length_remaining == 0 and not packed:
            break
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def drop_body(response: HTTPResponse, transfer: Transfer) -> None:
    """Leave the connection fit for the next request where that is cheap; else close it."""
    length = response.length_remaining
    try:
        if not response.isclosed() and length is not None and length <= _SMALL_BYTES:
            transfer.ends_at = min(transfer.ends_at, time.monotonic() + _DRAIN_S)
            while response.read(_SMALL_BYTES, decode_content=False):
                pass
    except (HTTPError, OSError):
        pass  # the answer is known; only the connection is lost, and closed below
    finally:
        if not response.isclosed():
            response.close()
        response.release_conn()


def _is_packed(content_encoding: str) -> bool:
    """Whether a body must be unpacked. Raises `WebError` for a coding that cannot be undone here."""
    codings = {name.strip().lower() for name in content_encoding.split(",")}
    if codings & _REGISTERED - set(HTTPResponse.CONTENT_DECODERS):
        raise WebError("encoding-unsupported", f"Content-Encoding: {content_encoding}")
    return not codings.isdisjoint(HTTPResponse.CONTENT_DECODERS)
