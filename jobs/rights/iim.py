"""Rights fields of IPTC's older records (IIM 4.2), which Photoshop keeps among its image resources. For information."""

from __future__ import annotations

import struct

from jobs.rights.finding import short

_IPTC_RESOURCE = b"8BIM\x04\x04"
_FIELDS = {116: "rights", 110: "credit"}  # of record 2: copyright notice, credit
_MAX_DATASETS = 1_000


def rights_in(resources: bytes) -> dict[str, str]:
    """Copyright notice and credit; nothing where there are none or the bytes are no such resources."""
    at = resources.find(_IPTC_RESOURCE)
    if at < 0 or at + 7 > len(resources):
        return {}
    at += 6
    at += (resources[at] + 2) & ~1  # the resource's name: its length, its letters, padded to an even number
    if at + 4 > len(resources):
        return {}
    (size,) = struct.unpack_from(">I", resources, at)
    return _datasets(resources[at + 4 : at + 4 + size])


def _datasets(records: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    at = 0
    for _ in range(_MAX_DATASETS):
        if at + 5 > len(records) or records[at] != 0x1C:
            break
        record, dataset, size = struct.unpack_from(">BBH", records, at + 1)
        if size & 0x8000:  # an extended length: no text that we look for is that long
            break
        value = records[at + 5 : at + 5 + size]
        if record == 2 and dataset in _FIELDS and value:
            fields.setdefault(_FIELDS[dataset], short(value.decode("utf-8", "replace")))
        at += 5 + size
    return fields
