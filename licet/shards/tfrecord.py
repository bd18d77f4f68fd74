"""TFRecord: one `tf.train.Example` per sample, one feature per field of `Sample`, under the field's own name.

    frame = length (uint64) · masked CRC-32C of length · Example · masked CRC-32C of Example      all little-endian

Text fields are UTF-8 in a bytes feature, `payload` is a bytes feature, numbers are int64 features, one value each. The
index's offset, length and checksum cover the whole frame. Format: tensorflow.org/tutorials/load_data/tfrecord.

The message type is declared here, with protobuf's own library and in a pool of its own: the `tfrecord` package has it
too, but importing that imports torch.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from licet.errors import ShardDamagedError
from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards.index import ShardIndex, crc32c, record_name
from licet.shards.pread import RecordFile
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


class Reader:
    """See `licet.shards.ShardReader`."""

    def __init__(self, path: str, index: ShardIndex) -> None:
        self._path, self._index = path, index
        self._file = RecordFile(path, index)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, position: int) -> Sample:
        frame = memoryview(self._file.read(position))
        try:
            return _sample(frame[_N_HEADER:-_N_FOOTER])
        except (DecodeError, ValueError, TypeError, IndexError) as error:
            raise ShardDamagedError(self._path, record_name(self._index, position), str(error)) from error

    def close(self) -> None:
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
    features = example.features.feature
    for name in SAMPLE_SCHEMA.names:
        value = getattr(sample, name)
        if name in _NUMBERS:
            features[name].int64_list.value.append(value)
        else:
            features[name].bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
    serialised: bytes = example.SerializeToString(deterministic=True)
    return serialised


def _sample(data: memoryview) -> Sample:
    features = _example_class().FromString(data).features.feature
    values: dict[str, Any] = {}
    for name in SAMPLE_SCHEMA.names:
        if name in _NUMBERS:
            values[name] = features[name].int64_list.value[0]
        else:
            value = features[name].bytes_list.value[0]
            values[name] = value if name == "payload" else value.decode()
    return Sample(**values)


@functools.cache
def _example_class() -> Any:
    """The message class of `tensorflow.Example`.

    message BytesList { repeated bytes value = 1; }
    message Int64List { repeated int64 value = 1 [packed = true]; }
    message Feature   { oneof kind { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; } }
    message Features  { map<string, Feature> feature = 1; }
    message Example   { Features features = 1; }
    """
    Field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(parent: Any, name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        declared = parent.add(name=name)
        for field, number, label, kind, type_name in fields:
            declared.field.add(name=field, number=number, label=label, type=kind, type_name=type_name or None)
        return declared

    one, many, nested = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED, Field.TYPE_MESSAGE
    types = file.message_type
    message(types, "BytesList", ("value", 1, many, Field.TYPE_BYTES, ""))
    message(types, "FloatList", ("value", 1, many, Field.TYPE_FLOAT, ""))
    message(types, "Int64List", ("value", 1, many, Field.TYPE_INT64, ""))
    kinds = [(name.lower(), name.title().replace("_L", "L")) for name in ("bytes_list", "float_list", "int64_list")]
    feature = message(
        types, "Feature", *((field, i, one, nested, f".tensorflow.{name}") for i, (field, name) in enumerate(kinds, 1))
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message(types, "Features", ("feature", 1, many, nested, ".tensorflow.Features.FeatureEntry"))
    entry = message(
        features.nested_type,
        "FeatureEntry",
        ("key", 1, one, Field.TYPE_STRING, ""),
        ("value", 2, one, nested, ".tensorflow.Feature"),
    )
    entry.options.map_entry = True
    message(types, "Example", ("features", 1, one, nested, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
