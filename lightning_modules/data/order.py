"""Which sample stands at a position, and what is drawn for it: pure functions of (seed, position).

Nothing here holds state, so nothing can be lost: a run that resumes asks for the next position and gets what it would
have got. Positions are global; they run on across epochs and ranks.
"""

from __future__ import annotations

import hashlib
import math

ROUNDS = 8


def index_at(seed: int, position: int, n: int) -> int:
    """The index, from 0 to n - 1, that stands at a position: each run of n positions is a permutation of its own.

    A Feistel network over Z_a x Z_b with a * b just above n, and cycle walking (Black and Rogaway, "Ciphers with
    Arbitrary Finite Domains", 2002): constant memory for any n.
    """
    if n < 1 or position < 0:
        raise ValueError(f"position {position} of {n} samples")
    epoch, value = divmod(position, n)
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    while True:
        value = _permute(seed, epoch, value, a, b)
        if value < n:
            return value


def random_seed_for(seed: int, position: int, purpose: str) -> int:
    """A 63-bit seed for one purpose (`noise`, `crop` ...) at one position; different purposes are independent."""
    return int.from_bytes(_digest(seed, position, purpose), "little") >> 1


def uniforms(seed: int, position: int, purpose: str, count: int) -> tuple[float, ...]:
    """`count` (at most 8) numbers in [0, 1) for one purpose at one position, with 53 bits each."""
    digest = _digest(seed, position, purpose, 8 * count)
    return tuple((int.from_bytes(digest[i : i + 8], "little") >> 11) * 2.0**-53 for i in range(0, 8 * count, 8))


def _permute(seed: int, epoch: int, value: int, a: int, b: int) -> int:
    left, right = divmod(value, b)
    for number in range(0, ROUNDS, 2):
        left = (left + _round(seed, epoch, number, right)) % a
        right = (right + _round(seed, epoch, number + 1, left)) % b
    return left * b + right


def _round(seed: int, epoch: int, number: int, half: int) -> int:
    return int.from_bytes(_digest(seed, epoch, f"order {number} {half}"), "little")


def _digest(seed: int, position: int, purpose: str, size: int = 8) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{position}\x1f{purpose}".encode(), digest_size=size).digest()
