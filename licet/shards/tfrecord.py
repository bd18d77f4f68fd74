"""TFRecord: one `tf.train.Example` per sample, one feature per field of `Sample`, under the field's own name.

    frame = length (uint64) · masked CRC-32C of length · Example · masked CRC-32C of Example      all little-endian

Text fields are UTF-8 in a bytes feature, `payload` is a bytes feature, numbers are int64 features, one value each. The
index's offset, length and checksum cover the whole frame. Format: tensorflow.org/tutorials/load_data/tfrecord.

The message type is declared here, with protobuf's own library and in a pool of its own, for two reasons: importing the
`tfrecord` package imports torch; and its map of features is written in an order that each build of protobuf may choose.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards.index import crc32c
from licet.shards.pread import FlatReader
from licet.shards.shard import Place, close_durably, create

RECORDS_COVER_STRUCTURE = True

_NUMBERS = frozenset(name for name in SAMPLE_SCHEMA.names if str(SAMPLE_SCHEMA.field(name).type) == "int32")
_N_HEADER = 12
_N_FOOTER = 4


class Writer:
    """See `licet.shards.shard.FormatWriter`."""

    def __init__(self, path: str) -> None:
        self._file = create(path)
        self._offset = 0

    def append(self, sample: Sample, encoded: bytes) -> Place:
        frame = _frame(_example(sample))
        place = Place(self._offset, len(frame), crc32c(frame))
        self._file.write(frame)
        self._offset += len(frame)
        return place

    def finish(self) -> None:
        close_durably(self._file)

    def abandon(self) -> None:
        self._file.close()


def _frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc32c(length), data, _masked_crc32c(data)))


def _masked_crc32c(data: bytes) -> bytes:
    """The checksum, rotated and shifted by a constant, so that a checksum of checksums is of some use."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _example(sample: Sample) -> bytes:
    example = _example_class()()
    for name in SAMPLE_SCHEMA.names:
        feature = example.features.feature.add(key=name).value
        value = getattr(sample, name)
        if name in _NUMBERS:
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
    serialised: bytes = example.SerializeToString()
    return serialised


def _sample(path: str, frame: bytes) -> Sample:
    values: dict[str, Any] = {}
    try:
        example = _example_class().FromString(memoryview(frame)[_N_HEADER:-_N_FOOTER])
    except DecodeError as error:
        raise ValueError(str(error)) from error
    for entry in example.features.feature:
        if entry.key in _NUMBERS:
            values[entry.key] = entry.value.int64_list.value[0]
        else:
            value = entry.value.bytes_list.value[0]
            values[entry.key] = value if entry.key == "payload" else value.decode()
    return Sample(**values)


@functools.cache
def _example_class() -> Any:
    """The message class of `tensorflow.Example`, with the map spelt out as what it is on the wire: repeated entries.

        message BytesList { repeated bytes value = 1; }
        message Int64List { repeated int64 value = 1 [packed = true]; }
        message Feature   { oneof kind { BytesList bytes_list = 1; Int64List int64_list = 3; } }
        message Entry     { string key = 1; Feature value = 2; }
        message Features  { repeated Entry feature = 1; }
        message Example   { Features features = 1; }

    See protobuf.dev/programming-guides/proto3/#maps-features (wire compatibility).
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="licet/example.proto", package="tensorflow", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int | str]) -> Any:
        """Declare a message; a field's type is one of protobuf's numbers, or the name of a message above."""
        declared = file.message_type.add(name=name)
        for field_name, number, label, kind in fields:
            field = declared.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".tensorflow.{kind}"
            else:
                field.type = kind
        return declared

    message("BytesList", ("value", 1, many, kinds.TYPE_BYTES))
    message("Int64List", ("value", 1, many, kinds.TYPE_INT64))
    feature = message("Feature", ("bytes_list", 1, one, "BytesList"), ("int64_list", 3, one, "Int64List"))
    feature.oneof_decl.add(name="kind")
    for choice in feature.field:
        choice.oneof_index = 0
    message("Entry", ("key", 1, one, kinds.TYPE_STRING), ("value", 2, one, "Feature"))
    message("Features", ("feature", 1, many, "Entry"))
    message("Example", ("features", 1, one, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Reader = functools.partial(FlatReader, sample_of=_sample)
"""See `licet.shards.ShardReader`."""
