"""What travels between a process and its decoding processes: length-prefixed msgpack, never pickles.

A message bears the number of its job, so that bytes which do not belong to it are recognised.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import msgpack

MAX_CONTROL_BYTES = 1 << 17
"""Size of one message between a process and its zygote, on a socket that keeps the borders of messages."""
_HEAD = struct.Struct("<QI")
_BIN_32 = struct.Struct(">BI")
"""msgpack's head of a byte string of up to 4 GiB."""
_PIECE = 1 << 20
"""Bytes that room is made for at once."""


class WireError(ValueError):
    """What arrived is not a message, or answers another job."""


def send(connection: socket.socket, number: int, *parts: bytes) -> None:
    """Send a packed message, which may come in parts, as job `number`'s."""
    waiting = [memoryview(part) for part in (_HEAD.pack(sum(map(len, parts)), number), *parts)]
    while waiting:
        sent = connection.sendmsg(waiting)
        while waiting and sent >= len(waiting[0]):
            sent -= len(waiting.pop(0))
        if waiting:
            waiting[0] = waiting[0][sent:]


def request(data: bytes, job: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The message {"job": …, "data": …} in two parts, so that `data` is not copied."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(2)
    for part in ("job", dict(job), "data"):
        packer.pack(part)
    return packer.bytes() + _BIN_32.pack(0xC6, len(data)), data


def receive(
    connection: socket.socket, max_bytes: int, number: int | None = None, give_up_at: float | None = None
) -> tuple[int, Any]:
    """(job number, message). `give_up_at` is a time of `time.monotonic`.

    Raises `EOFError` when the other side is gone, `TimeoutError`, and `WireError` for garbage, for more than
    `max_bytes` and for another number than `number`.
    """
    length, found = _HEAD.unpack(_exactly(connection, _HEAD.size, give_up_at))
    if length > max_bytes or number not in (None, found):
        raise WireError(f"a message of {length} bytes with number {found}, expected {number}")
    try:
        return found, msgpack.unpackb(_exactly(connection, length, give_up_at))
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"a message that is not msgpack: {error}") from error


def _exactly(connection: socket.socket, n_bytes: int, give_up_at: float | None) -> bytearray:
    """The next `n_bytes`. Room is made as they come: a length that lies costs what was really sent, twice at most."""
    block, filled = bytearray(min(n_bytes, _PIECE)), 0
    while filled < n_bytes:
        if filled == len(block):
            block.extend(bytes(min(filled, n_bytes - filled)))
        if give_up_at is not None:
            connection.settimeout(max(give_up_at - time.monotonic(), 1e-6))
        with memoryview(block) as view:
            read = connection.recv_into(view[filled:])
        if read == 0:
            raise EOFError("the other side closed the connection")
        filled += read
    return block
