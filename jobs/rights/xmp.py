"""What XMP (ISO 16684-1) says of rights: PLUS data mining, TDMRep, and who is to be credited.

    rights_in(packet) -> {"data-mining": "DMI-PROHIBITED-AIMLTRAINING", "rights": "© …", …}

Untrusted XML: a document type declaration is refused, so there are no entities to expand and nothing external is read;
depth and sizes are bounded. A packet that is no XML is still searched for the PLUS terms: damage does not lift a no.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.parsers import expat

from jobs.rights.finding import Word, short

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
_XMP_RIGHTS = "http://ns.adobe.com/xap/1.0/rights/"
_TDM = "http://www.w3.org/ns/tdmrep"

_FIELDS = {
    f"{_PLUS} DataMining": "data-mining",
    f"{_PLUS} OtherConstraints": "constraints",
    **{f"{ns} reservation": "tdm-reservation" for ns in (_TDM, _TDM + "/", _TDM + "#")},
    **{f"{ns} policy": "tdm-policy" for ns in (_TDM, _TDM + "/", _TDM + "#")},
    "http://purl.org/dc/elements/1.1/ rights": "rights",
    f"{_XMP_RIGHTS} WebStatement": "web-statement",
    f"{_XMP_RIGHTS} UsageTerms": "usage-terms",
    "http://ns.adobe.com/photoshop/1.0/ Credit": "credit",
}
_WORTH_PARSING = (b"DataMining", b"ns/tdmrep", b":rights", b"WebStatement", b"UsageTerms", b":Credit")
_TERM = re.compile(r"DMI-[A-Z-]+")
_TERM_IN_DAMAGE = re.compile(rb"DataMining[^D]{1,200}?(DMI-[A-Z-]{1,60})|vocab/(DMI-[A-Z-]{1,60})")
_MAX_DEPTH = 64
_MAX_ELEMENTS = 20_000
_MAX_VALUE = 2_000


class _RefusedError(ValueError):
    """Not XML as XMP has it."""


def rights_in(packet: bytes) -> dict[str, str]:
    """The fields above that a packet has, each as one short line."""
    if not any(mark in packet for mark in _WORTH_PARSING):
        return {}
    reader = _Reader()
    try:
        reader.read(packet)
    except (expat.ExpatError, _RefusedError):
        for found in _TERM_IN_DAMAGE.finditer(packet):
            reader.add("data-mining", (found[1] or found[2]).decode("ascii"))
    return {name: short(value) for name, value in reader.fields.items()}


class _Reader:
    """Collects properties in each form that RDF allows: attribute, text, resource, items of a list."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._depth = self._n_elements = 0
        self._open = ""
        self._opened_at = 0
        self._text: list[str] = []
        self._n_text = 0

    def read(self, packet: bytes) -> None:
        parser = expat.ParserCreate(encoding="UTF-8", namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.Parse(packet.strip(b"\0 \t\r\n"), True)

    def add(self, name: str, value: str) -> None:
        """The first value counts; for data mining the first that prohibits."""
        value = value.strip()
        if name == "data-mining":
            found = _TERM.search(value.upper())
            value = found[0] if found else value
            if value.startswith("DMI-PROHIBITED") and not self.fields.get(name, "").startswith("DMI-PROHIBITED"):
                self.fields[name] = value
        if value:
            self.fields.setdefault(name, value)

    def _refuse_doctype(self, *_: object) -> None:
        raise _RefusedError("a document type declaration")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._n_elements += 1
        if self._depth > _MAX_DEPTH or self._n_elements > _MAX_ELEMENTS:
            raise _RefusedError(f"more than {_MAX_DEPTH} levels or {_MAX_ELEMENTS} elements")
        for key, value in attributes.items():
            if key in _FIELDS:
                self.add(_FIELDS[key], value)
        if not self._open and name in _FIELDS:
            self._open, self._opened_at, self._text, self._n_text = _FIELDS[name], self._depth, [], 0
        if self._open and f"{_RDF} resource" in attributes:
            self.add(self._open, attributes[f"{_RDF} resource"])

    def _end(self, name: str) -> None:
        if self._open and self._depth == self._opened_at:
            self.add(self._open, " ".join("".join(self._text).split()))
            self._open = ""
        self._depth -= 1

    def _characters(self, text: str) -> None:
        if self._open and self._n_text < _MAX_VALUE:
            self._text.append(text)
            self._n_text += len(text)


def plus(fields: dict[str, str]) -> Word:
    """What the PLUS Data Mining property says; every `DMI-PROHIBITED…` is a no, whatever it makes an exception for.

    Credits and rights statements come along for information (IPTC Photo Metadata Standard 2023.1).
    """
    information = {name: value for name, value in fields.items() if not name.startswith(("data-mining", "tdm-"))}
    said = {**({"data-mining": fields["data-mining"]} if "data-mining" in fields else {}), **information}
    if fields.get("data-mining", "").startswith("DMI-PROHIBITED"):
        more = f": {fields['constraints']}" if "constraints" in fields else ""
        return Word(said, "plus-prohibited", short(f"plus:DataMining {fields['data-mining']}{more}"))
    return Word(said)


def all_rights_in(packets: Sequence[bytes]) -> dict[str, str]:
    """Of several packets of one image; the first to name a field counts, unless a later one prohibits."""
    fields: dict[str, str] = {}
    for packet in packets:
        more = rights_in(packet)
        if more.get("data-mining", "").startswith("DMI-PROHIBITED"):
            fields["data-mining"] = more["data-mining"]
        fields = more | fields
    return fields
