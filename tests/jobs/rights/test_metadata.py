"""Rights in the bytes of real images: XMP, IPTC, C2PA, and garbage in their place."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from jobs.rights import c2pa, iim, xmp
from jobs.rights.blocks import MAX_XMP_BYTES, blocks_of, subtype_of

DMI = "http://ns.useplus.org/ldf/vocab/DMI-"
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF")


def said_by(image: bytes) -> tuple[dict[str, Any], str]:
    word = xmp.plus(xmp.all_rights_in(blocks_of(image).xmp))
    return word.said, word.reason


@pytest.mark.parametrize("kind", [*KINDS, "BMP"])
def test_the_first_bytes_tell_the_type(make_image: Callable[..., bytes], kind: str) -> None:
    assert subtype_of(make_image(kind)) == kind.lower()


@pytest.mark.parametrize("kind", [*KINDS, "BMP"])
def test_an_image_without_metadata_says_nothing(make_image: Callable[..., bytes], kind: str) -> None:
    blocks = blocks_of(make_image(kind))
    assert blocks.c2pa == blocks.photoshop == []
    assert xmp.all_rights_in(blocks.xmp) == {}  # Pillow's AVIF and TIFF have empty ones


@pytest.mark.parametrize("kind", KINDS)
def test_a_plus_prohibition_is_found_in_every_format(
    make_image: Callable[..., bytes], make_xmp: Callable[[str], bytes], kind: str
) -> None:
    packet = make_xmp(f"<plus:DataMining>{DMI}PROHIBITED-AIMLTRAINING</plus:DataMining>")
    assert said_by(make_image(kind, packet)) == ({"data-mining": "DMI-PROHIBITED-AIMLTRAINING"}, "plus-prohibited")


def test_a_compressed_packet_is_found(make_image: Callable[..., bytes], make_xmp: Callable[[str], bytes]) -> None:
    packet = make_xmp(f"<plus:DataMining>{DMI}PROHIBITED</plus:DataMining>")
    assert said_by(make_image("PNG", packet, zip=True))[1] == "plus-prohibited"


@pytest.mark.parametrize(
    ("properties", "term", "refused"),
    [
        (f"<plus:DataMining>{DMI}PROHIBITED</plus:DataMining>", "DMI-PROHIBITED", True),
        (f'@plus:DataMining="{DMI}PROHIBITED-GENAIMLTRAINING"', "DMI-PROHIBITED-GENAIMLTRAINING", True),
        (f'<plus:DataMining rdf:resource="{DMI}PROHIBITED"/>', "DMI-PROHIBITED", True),
        ("<plus:DataMining>DMI-PROHIBITED-SEECONSTRAINT</plus:DataMining>", "DMI-PROHIBITED-SEECONSTRAINT", True),
        (
            f"<plus:DataMining>{DMI}PROHIBITED-EXCEPTSEARCHENGINEINDEXING</plus:DataMining>",
            "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING",
            True,
        ),
        (f"<plus:DataMining>\n  {DMI}ALLOWED\n</plus:DataMining>", "DMI-ALLOWED", False),
        (f"<plus:DataMining>{DMI}UNSPECIFIED</plus:DataMining>", "DMI-UNSPECIFIED", False),
        (f"<dc:rights>{DMI}PROHIBITED</dc:rights>", None, False),
        (
            f"<plus:DataMining>{DMI}ALLOWED</plus:DataMining><plus:DataMining>{DMI}PROHIBITED</plus:DataMining>",
            "DMI-PROHIBITED",
            True,
        ),
        ("<plus:DataMining/>", None, False),
    ],
)
def test_plus_terms_mean_what_the_vocabulary_says(
    make_image: Callable[..., bytes], make_xmp: Callable[[str], bytes], properties: str, term: str | None, refused: bool
) -> None:
    said, reason = said_by(make_image("JPEG", make_xmp(properties)))
    assert said.get("data-mining") == term
    assert (reason == "plus-prohibited") is refused


def test_credits_are_kept_for_information(make_image: Callable[..., bytes], make_xmp: Callable[[str], bytes]) -> None:
    packet = make_xmp(
        '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© 2026\n Ann &amp; Bob</rdf:li></rdf:Alt></dc:rights>'
        "<photoshop:Credit>Ann</photoshop:Credit><xmpRights:WebStatement>https://example.org</xmpRights:WebStatement>"
    )
    said, reason = said_by(make_image("JPEG", packet))
    assert said == {"rights": "© 2026 Ann & Bob", "credit": "Ann", "web-statement": "https://example.org"}
    assert reason == ""


def test_a_packet_that_is_spread_over_segments_is_put_together(make_image: Callable[..., bytes]) -> None:
    packet = b'<x xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"><plus:DataMining>DMI-PROHIBITED</plus:DataMining></x>'
    plain = make_image("JPEG")
    segments = b""
    for start in (60, 0):  # in no order
        part = packet[start : start + 60] if start == 0 else packet[start:]
        head = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", len(packet), start)
        segments += b"\xff\xe1" + struct.pack(">H", 2 + len(head) + len(part)) + head + part
    assert said_by(plain[:2] + segments + plain[2:])[1] == "plus-prohibited"


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "DMI-PROHIBITED">]><x xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/">'
        b"<plus:DataMining>&a;</plus:DataMining></x>",
        b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><x><rights xmlns:dc="a:rights">&b;</rights></x>',
        b'<!DOCTYPE x SYSTEM "file:///etc/hostname"><x a=":rights"/>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x b=":rights">&a;</x>',
    ],
)
def test_entities_are_not_expanded_and_nothing_is_read(packet: bytes) -> None:
    assert xmp.rights_in(packet) in ({}, {"data-mining": "DMI-PROHIBITED"})


@pytest.mark.parametrize(
    ("packet", "fields"),
    [
        (b"<a><plus:DataMining>" + DMI.encode() + b"PROHIBITED</plus:Data", {"data-mining": "DMI-PROHIBITED"}),
        (b'<a plus:DataMining="DMI-ALLOWED" <', {"data-mining": "DMI-ALLOWED"}),
        (b"<a>" * 500 + b"DataMining", {}),
        (b"<?xml version='1.0' encoding='nonsense'?><a>DataMining</a>", {}),
        (b"DataMining", {}),
        (b"\0\0DataMining\0", {}),
    ],
)
def test_damage_does_not_lift_a_prohibition(packet: bytes, fields: dict[str, str]) -> None:
    assert xmp.rights_in(packet) == fields


def iptc(*datasets: tuple[int, int, bytes]) -> bytes:
    records = b"".join(struct.pack(">BBBH", 0x1C, r, d, len(v)) + v for r, d, v in datasets)
    return b"8BIM\x03\xed\0\0\0\0\0\2ab" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records


def test_iptc_records_are_read(make_image: Callable[..., bytes]) -> None:
    resources = b"Photoshop 3.0\0" + iptc((1, 90, b"\x1b%G"), (2, 116, "© Ann".encode()), (2, 110, b"Bob"))
    plain = make_image("JPEG")
    image = plain[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(resources)) + resources + plain[2:]
    (found,) = blocks_of(image).photoshop
    assert iim.rights_in(found) == {"rights": "© Ann", "credit": "Bob"}
    assert iim.rights_in(found[:-2]) == {"rights": "© Ann", "credit": "B"}
    assert iim.rights_in(found[:20]) == {}


def assertion(**uses: str) -> bytes:
    entries = {name.replace("__", "."): {"use": use} for name, use in uses.items()}
    return bytes(cbor2.dumps({"entries": entries}))


NO = assertion(cawg__ai_training="notAllowed", cawg__ai_inference="allowed")
YES = assertion(cawg__ai_training="allowed")


@pytest.mark.parametrize("kind", KINDS)
def test_c2pa_assertions_are_found_in_every_format(
    carrying: Callable[..., bytes], make_store: Callable[..., bytes], kind: str
) -> None:
    store = make_store([("c2pa.hash.data", b"cbor", b"\xa0"), ("cawg.training-mining", b"cbor", NO)])
    (found,) = blocks_of(carrying(kind, store)).c2pa
    assert c2pa.statements(found) == {"cawg.ai_training": "notAllowed", "cawg.ai_inference": "allowed"}


def test_a_store_of_many_segments_is_put_together(
    carrying: Callable[..., bytes], make_store: Callable[..., bytes]
) -> None:
    filler = ("c2pa.thumbnail", b"bidb", bytes(range(256)) * 30)
    store = make_store([filler, ("c2pa.training-mining", b"cbor", NO)])
    (found,) = blocks_of(carrying("JPEG", store, part_bytes=1000)).c2pa
    assert found == store
    assert c2pa.word(c2pa.statements(found)).reason == "c2pa-not-allowed"


@pytest.mark.parametrize(
    ("manifests", "refused"),
    [
        ([[("c2pa.training-mining", b"cbor", NO)]], True),
        ([[("cawg.training-mining__1", b"cbor", NO)]], True),
        ([[("cawg.training-mining.v2", b"cbor", NO)]], True),
        ([[("cawg.training-mining", b"cbor", YES)]], False),
        ([[("cawg.training-mining", b"cbor", assertion(cawg__data_mining="constrained"))]], True),
        ([[("cawg.training-mining", b"cbor", assertion(c2pa__ai_generative_training="notAllowed"))]], True),
        ([[("cawg.training-mining", b"cbor", assertion(cawg__ai_inference="notAllowed"))]], False),
        ([[("cawg.training-mining", b"cbor", cbor2.dumps({"c2pa.ai_training": {"use": "notAllowed"}}))]], True),
        ([[("cawg.training-mining", b"json", b'{"entries": {"cawg.ai_training": {"use": "notAllowed"}}}')]], True),
        ([[("cawg.training-mining", b"cbor", YES)], [("cawg.training-mining", b"cbor", NO)]], True),  # the newest
        ([[("cawg.training-mining", b"cbor", NO)], [("cawg.training-mining", b"cbor", YES)]], False),
        ([[("cawg.training-mining", b"cbor", NO)], [("c2pa.actions", b"cbor", YES)]], True),  # silence lifts nothing
        ([[("my.training-mining", b"cbor", NO)]], False),
        ([[("cawg.training-mining", b"cbor", b"")]], False),
        ([[("cawg.training-mining", b"cbor", NO[:-3])]], False),
        ([[("cawg.training-mining", b"cbor", b"\x81" * 5000)]], False),
        ([[("cawg.training-mining", b"cbor", b"\xd8\x23" + cbor2.dumps("(a{9999}){9999}"))]], False),
        ([[("cawg.training-mining", b"cbor", b"\xa1gentries\x9b\xff\xff\xff\xff\xff\xff\xff\xff")]], False),
        ([[("cawg.training-mining", b"cbor", cbor2.dumps({"entries": [1, {"use": "notAllowed"}]}))]], False),
        ([[("cawg.training-mining", b"cbor", cbor2.dumps({"entries": {7: {"use": "notAllowed"}, "x": 1}}))]], False),
        ([[("cawg.training-mining", b"json", b"[" * 50_000)]], False),
        ([], False),
    ],
)  # fmt: skip
def test_what_c2pa_manifests_say_of_training(
    make_store: Callable[..., bytes], manifests: list[list[tuple[str, bytes, bytes]]], refused: bool
) -> None:
    word = c2pa.word(c2pa.statements(make_store(*manifests)))
    assert (word.reason == "c2pa-not-allowed") is refused


def test_boxes_without_end_are_given_up() -> None:
    nested = b"jumb.training-mining"
    for _ in range(3000):
        nested = struct.pack(">I4s", 8 + len(nested), b"jumb") + nested
    assert c2pa.statements(nested) == {}
    assert c2pa.statements(struct.pack(">I4s", 8, b"free") * 100_000 + b".training-mining") == {}
    assert c2pa.statements(b"\0\0\0\1jumb" + b"\xff" * 8 + b".training-mining") == {}
    assert c2pa.statements(b"\0\0\0\3jumb.training-mining") == {}


@pytest.mark.parametrize("kind", [*KINDS, "BMP"])
def test_damaged_images_and_their_beginnings_raise_nothing(
    carrying: Callable[..., bytes],
    make_image: Callable[..., bytes],
    make_xmp: Callable[[str], bytes],
    make_store: Callable[..., bytes],
    kind: str,
) -> None:
    store = make_store([("cawg.training-mining", b"cbor", NO)])
    packet = b"" if kind == "BMP" else make_xmp(f"<plus:DataMining>{DMI}ALLOWED</plus:DataMining>")
    chance = random.Random(kind)
    for image in (carrying(kind, store), make_image(kind, packet)):
        for turn in range(300):
            damaged = bytearray(image[: chance.randrange(len(image))] if turn % 2 else image)
            for _ in range(chance.randrange(1, 30)):
                if damaged:
                    damaged[chance.randrange(min(len(damaged), 900))] = chance.choice((0, 1, 0x7F, 0xFF, 0x3C))
            blocks = blocks_of(bytes(damaged))
            assert xmp.plus(xmp.all_rights_in(blocks.xmp)).reason in ("", "plus-prohibited")
            for found in blocks.photoshop:
                assert set(iim.rights_in(found)) <= {"rights", "credit"}
            for found in blocks.c2pa:
                assert set(c2pa.statements(found).values()) <= {"allowed", "notAllowed", "constrained"}


def test_metadata_without_measure_is_not_read(make_image: Callable[..., bytes]) -> None:
    plain = make_image("PNG")
    bomb = b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"a" * (64 << 20))
    chunk = struct.pack(">I", len(bomb) - 4) + bomb + b"crc!"
    blocks = blocks_of(plain[:33] + chunk * 200 + plain[33:])
    assert [len(packet) for packet in blocks.xmp] == [MAX_XMP_BYTES] * 4
    entry = struct.pack("<HHII", 52545, 7, 1 << 20, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 400) + entry * 400 + bytes(1 << 20)
    assert len(blocks_of(tiff).c2pa) == 4
    many = b"<a xmlns:plus='http://ns.useplus.org/ldf/xmp/1.0/'>" + b"<b/>" * 200_000
    assert xmp.rights_in(many + b"<plus:DataMining>DMI-PROHIBITED</plus:DataMining></a>") == {
        "data-mining": "DMI-PROHIBITED"
    }
