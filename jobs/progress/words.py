"""Bytes and times for reading."""

from __future__ import annotations


def size(n_bytes: float) -> str:
    """Bytes for reading: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" or n_bytes >= 100 else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} PB"


def duration(seconds: float) -> str:
    """A time for reading: 42 s, 3 min 20 s, 5 h 12 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, unit_s, small, small_s in (("min", 60, "s", 1), ("h", 3600, "min", 60), ("d", 86400, "h", 3600)):
        if whole < unit_s * (60 if unit == "min" else 24) or unit == "d":
            rest = whole % unit_s // small_s
            return f"{whole // unit_s:,} {unit}" + (f" {rest} {small}" if rest else "")
    raise AssertionError("days take any number")
