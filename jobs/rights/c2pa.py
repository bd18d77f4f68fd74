"""Training-and-data-mining assertions in C2PA manifest stores (JUMBF: ISO/IEC 19566-5; C2PA 1.4, 18.18; CAWG 1.1).

    statements(superbox) -> {"cawg.ai_training": "notAllowed", …}

Of several manifests the last that makes such an assertion speaks: it is the newest, and an edit that says nothing does
not lift what was said before. Signatures are not verified: a wish needs no proof, and a false one costs one image.
Untrusted bytes: boxes and CBOR have bounds of depth, number and size, and CBOR tags mean nothing here.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import cbor2

from jobs.rights.finding import Word, short

BINDING = frozenset({"ai_generative_training", "ai_training", "data_mining"})
"""Uses that are ours; `ai_inference` is not. `constrained` without more counts as `notAllowed` (CAWG 1.1, 3.1)."""

_LABEL = re.compile(r"(c2pa|cawg)\.training-mining(\.v\d+)?(__\d+)?").fullmatch
_MARK = b".training-mining"
_MAX_DEPTH = 12
_MAX_BOXES = 4_096
_MAX_ASSERTION_BYTES = 1 << 16
_MAX_ENTRIES = 8
_TAGS_WITH_A_MEANING = (0, 1, 2, 3, 4, 5, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)


class _Box(NamedTuple):
    kind: bytes
    start: int
    stop: int
    """Of the content, in the whole."""


class _Walk:
    """Finds the assertions in one superbox, counting the boxes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = _MAX_BOXES
        self.found: dict[str, dict[str, str]] = {}
        """Manifest label -> entries, in the order of the store."""

    def boxes(self, start: int, stop: int) -> Iterator[_Box]:
        while start + 8 <= stop and self.left > 0:
            self.left -= 1
            size, kind = struct.unpack_from(">I4s", self.data, start)
            head = 8
            if size == 1 and start + 16 <= stop:
                (size,) = struct.unpack_from(">Q", self.data, start + 8)
                head = 16
            end = stop if size == 0 else min(start + size, stop)
            if end < start + head:
                return
            yield _Box(kind, start + head, end)
            start = end

    def superbox(self, box: _Box, manifest: str, depth: int) -> None:
        """`manifest` is the label of the manifest that the box is in; empty above that level."""
        label = ""
        for child in self.boxes(box.start, box.stop):
            if child.kind == b"jumd":
                label = self._label(child)
            elif child.kind == b"jumb" and depth < _MAX_DEPTH:
                self.superbox(child, manifest or (label if depth == 1 else ""), depth + 1)
            elif child.kind in (b"cbor", b"json") and _LABEL(label):
                self._assertion(child, manifest)

    def _label(self, box: _Box) -> str:
        """Description box: 16 bytes of type, one of switches, a label that ends with a zero byte."""
        content = self.data[box.start : min(box.stop, box.start + 1_024)]
        if len(content) < 18 or not content[16] & 2:
            return ""
        return content[17:].partition(b"\0")[0].decode("utf-8", "replace")

    def _assertion(self, box: _Box, manifest: str) -> None:
        content = self.data[box.start : box.stop]
        if len(content) <= _MAX_ASSERTION_BYTES and (entries := _entries(_decode(box.kind, content))):
            self.found[manifest] = self.found.get(manifest, {}) | entries


def statements(superbox: bytes) -> dict[str, str]:
    """Use -> `allowed`, `notAllowed` or `constrained`, as the last manifest that speaks of it has it."""
    if _MARK not in superbox:
        return {}
    walk = _Walk(superbox)
    for box in walk.boxes(0, len(superbox)):
        if box.kind == b"jumb":
            walk.superbox(box, "", 0)
    return list(walk.found.values())[-1] if walk.found else {}


def word(entries: dict[str, str]) -> Word:
    """What follows from such statements."""
    said = {"entries": entries} if entries else {}
    for use, verdict in entries.items():
        if use.rpartition(".")[2] in BINDING and verdict != "allowed":
            return Word(said, "c2pa-not-allowed", f"{use}: {verdict}")
    return Word(said)


def _decode(kind: bytes, content: bytes) -> Any:
    try:
        if kind == b"json":
            return json.loads(content)
        return cbor2.loads(content, max_depth=_MAX_DEPTH, strict_hashable_types=True, semantic_decoders=_AS_THEY_ARE)
    except (cbor2.CBORDecodeError, ValueError, RecursionError):
        return None


def _entries(assertion: Any) -> dict[str, str]:
    """CAWG 1.0 forgot the map `entries` in its definition: both forms are read."""
    if not isinstance(assertion, dict):
        return {}
    entries = assertion.get("entries", assertion)
    if not isinstance(entries, dict):
        return {}
    said: dict[str, str] = {}
    for use, entry in entries.items():
        verdict = entry.get("use") if isinstance(entry, dict) else None
        if isinstance(use, str) and verdict in ("allowed", "notAllowed", "constrained") and len(said) < _MAX_ENTRIES:
            said[short(use)] = verdict
    return said


def _as_it_is(value: Any, immutable: bool) -> Any:
    """A tagged value without what its tag means: no regular expression is compiled, no huge number computed."""
    return value


_AS_THEY_ARE = dict.fromkeys(_TAGS_WITH_A_MEANING, _as_it_is)
