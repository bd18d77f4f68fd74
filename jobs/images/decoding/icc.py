"""Is this ICC profile sRGB? Decided by what it does, not by its name, without a colour engine.

ICC.1:2022 sections 7 (header, tags) and 10 (curves, XYZ); IEC 61966-2-1 for sRGB itself.
"""

from __future__ import annotations

import math
import struct

_COLORANTS = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.71410),
}
"""sRGB's primaries, adapted to D50."""
_COLORANT_TOLERANCE = 0.002
_CURVE_TOLERANCE = 0.003
"""Of linear light. A pure power of 2.2 is further away than this."""
_PROBES = (0.1, 0.25, 0.5, 0.75, 0.9)


def is_srgb(icc: bytes) -> bool:
    """Whether an RGB profile has sRGB's primaries and curve. False for what cannot be read."""
    try:
        tags = _tags(icc)
        if icc[16:20] != b"RGB " or b"A2B0" in tags:
            return False
        near = all(
            abs(found - wanted) < _COLORANT_TOLERANCE
            for tag, colorant in _COLORANTS.items()
            for found, wanted in zip(_xyz(tags[tag]), colorant, strict=True)
        )
        return near and all(
            abs(_curve(tags[tag], probe) - _srgb(probe)) < _CURVE_TOLERANCE
            for tag in (b"rTRC", b"gTRC", b"bTRC")
            for probe in _PROBES
        )
    except (KeyError, ValueError, IndexError, OverflowError, ZeroDivisionError, struct.error):
        return False


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 1000:
        raise ValueError(f"{count} tags")
    entries = (struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(count))
    return {name: icc[at : at + size] for name, at, size in entries}


def _xyz(tag: bytes) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _curve(tag: bytes, x: float) -> float:
    """A tone curve at `x`, both 0 to 1."""
    if tag[:4] == b"para":
        return _parametric(tag, x)
    if tag[:4] != b"curv":
        raise ValueError(f"a curve of type {tag[:4]!r}")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return x
    if count == 1:
        return math.pow(x, struct.unpack_from(">H", tag, 12)[0] / 256)
    place = x * (count - 1)
    left = min(int(place), count - 2)
    low, high = struct.unpack_from(">2H", tag, 12 + 2 * left)
    return float(low + (high - low) * (place - left)) / 65535


def _parametric(tag: bytes, x: float) -> float:
    """Function type 3: (a x + b)^g from d on, c x below. The other types are not sRGB's."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind != 3:
        raise ValueError(f"parametric curve {kind}")
    g, a, b, c, d = (value / 65536 for value in struct.unpack_from(">5i", tag, 12))
    return math.pow(a * x + b, g) if x >= d else float(c * x)


def _srgb(x: float) -> float:
    return x / 12.92 if x <= 0.04045 else math.pow((x + 0.055) / 1.055, 2.4)
