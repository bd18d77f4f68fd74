"""From a position to a decoded pair of images: one instance, one class image, as pure functions of (seed, position).

    rows = Rows([Part(manifest, selection)], "tfrecord")        index -> sample, shards opened on first use
    stream = PairStream(instance=Half(rows, tokens), prior=..., seed=0, view=View(size_px=64))
    stream[12]                                                  the pair at global position 12

A stream may be copied to worker processes, forked or spawned: open files never travel. It knows nothing of batches.
"""

from __future__ import annotations

import bisect
import io
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL.Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from licet.errors import LicetError, ShardDamagedError, UsageError
from licet.manifest import Manifest, ShardEntry
from licet.records import Sample
from licet.selection import Selection
from licet.shards import ShardFormat, ShardReader, open_reader
from lightning_modules.data.order import index_at, uniforms

OPEN_SHARDS = 64
"""Shards that a process keeps open at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """A manifest and the rows of it that are used."""

    manifest: Manifest
    selection: Selection


@dataclass(frozen=True, slots=True)
class View:
    """How a stored image becomes a square of pixels."""

    size_px: int
    crop: Literal["center", "random"] = "center"
    """Where the crop lies."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Range of the crop's side, as a share of the image's shorter side."""
    flip_probability: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise UsageError(f"crop_scale {self.crop_scale}: expected two numbers, 0 < low <= high <= 1.")
        if not 0 <= self.flip_probability <= 1:
            raise UsageError(f"flip_probability {self.flip_probability}: expected a number from 0 to 1.")
        if self.size_px < 1:
            raise UsageError(f"size_px {self.size_px}: expected at least 1.")


class Rows:
    """The chosen rows of one manifest or several, in plan order, with random access; each record is checked as read."""

    def __init__(self, parts: Sequence[Part], format: ShardFormat | None = None) -> None:
        self._shards: list[tuple[int, int, ShardEntry]] = []
        self._parts = list(parts)
        self._formats = [_format_of(part.manifest, format) for part in parts]
        counts: list[int] = []
        for number, part in enumerate(parts):
            for shard, entry in enumerate(part.manifest.entries()):
                self._shards.append((number, shard, entry))
                counts.append(part.selection.counts[shard])
        self._ends = list(itertools.accumulate(counts))
        self._readers = _Readers()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        """Raises `ShardDamagedError` when a shard or its index is not what the manifest lists."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = bisect.bisect_right(self._ends, index)
        part, shard, entry = self._shards[number]
        reader, records = self._readers.get(number, lambda: self._open(part, shard, entry))
        return reader[int(records[index - (self._ends[number - 1] if number else 0)])]

    def _open(self, part: int, shard: int, entry: ShardEntry) -> tuple[ShardReader, Any]:
        manifest, format = self._parts[part].manifest, self._formats[part]
        file = entry.files[format]
        index = manifest.index(entry, format)
        path = manifest.shard(entry, format)
        return open_reader(format, path, index, file.sha256), self._parts[part].selection.positions(shard)


class _Readers:
    """The open shards of this process: least recently used are closed, and none survives a fork or a pickle."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._open: OrderedDict[int, tuple[ShardReader, Any]] = OrderedDict()

    def get(self, number: int, open_it: Callable[[], tuple[ShardReader, Any]]) -> tuple[ShardReader, Any]:
        if self._pid != os.getpid():  # forked: the parent's files are not ours to use, nor to close
            self.__init__()  # type: ignore[misc]
        if number not in self._open:
            self._open[number] = open_it()
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)[1][0].close()
        self._open.move_to_end(number)
        return self._open[number]

    def __reduce__(self) -> tuple[type[_Readers], tuple[()]]:
        return _Readers, ()


@dataclass(frozen=True, slots=True)
class Half:
    """Rows and the tokens that go with each of them."""

    rows: Rows
    tokens: Tensor
    """(L,) int64."""


@dataclass(frozen=True, slots=True)
class Image:
    """One decoded image of a pair."""

    key: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    """(H, W, 3) uint8."""
    tokens: Tensor


@dataclass(frozen=True, slots=True)
class PairItem:
    """What stands at a position."""

    position: int
    instance: Image
    prior: Image | None


class Failure:
    """An error of ours on its way out of a worker process.

    A DataLoader rebuilds a worker's exception from its text alone, which loses the type; so it travels as an item.
    """

    def __init__(self, error: LicetError) -> None:
        self._kind, self._arguments, self._fields = type(error), error.args, dict(vars(error))

    def error(self) -> LicetError:
        """The error, as it was raised."""
        error = self._kind.__new__(self._kind)
        error.args = self._arguments
        vars(error).update(self._fields)
        return error


class PairStream(Dataset[PairItem | Failure]):
    """The pair at each global position, without end."""

    def __init__(self, instance: Half, prior: Half | None, seed: int, view: View) -> None:
        self.instance, self.prior, self.seed, self.view = instance, prior, seed, view

    def __getitem__(self, position: int) -> PairItem | Failure:
        try:
            prior = None if self.prior is None else self._image(self.prior, position, "prior")
            return PairItem(position, self._image(self.instance, position, "instance"), prior)
        except LicetError as error:
            return Failure(error)

    def _image(self, half: Half, position: int, name: str) -> Image:
        # The halves have orders of their own, so that pairs differ from epoch to epoch.
        sample = half.rows[index_at(_order_seed(self.seed, name), position, len(half.rows))]
        draws = uniforms(self.seed, position, f"view {name}", 4)
        return Image(sample.key, look(decode_image(sample), self.view, draws), half.tokens)


def decode_image(sample: Sample) -> PIL.Image.Image:
    """The stored image in RGB. Raises `ShardDamagedError` for a payload that is not an image."""
    try:
        return PIL.Image.open(io.BytesIO(sample.payload)).convert("RGB")
    except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise ShardDamagedError("of the manifest", f"key {sample.key}", f"its payload is no image ({error})") from error


def look(image: PIL.Image.Image, view: View, draws: Sequence[float]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A square of the image, resized and perhaps flipped: (size_px, size_px, 3) uint8.

    `draws` are four numbers in [0, 1): the crop's scale within its range, its place from left and top, the flip.
    """
    low, high = view.crop_scale
    scale, left, top, flip = draws
    side = min(image.size) * (low + (high - low) * scale)
    if view.crop == "center":
        left = top = 0.5
    x, y = (image.width - side) * left, (image.height - side) * top
    square = image.resize(
        (view.size_px, view.size_px), PIL.Image.Resampling.BICUBIC, box=(x, y, x + side, y + side), reducing_gap=3.0
    )
    pixels = np.asarray(square)
    return pixels[:, ::-1] if flip < view.flip_probability else pixels


class PositionBatches(Sampler[list[int]]):
    """Batches of consecutive positions, from where the run stands to the end of its epoch.

    Step s of `world_size` processes takes batch_size * world_size positions; each rank takes its run of them.
    """

    def __init__(
        self,
        batch_size: int,
        next_position: Callable[[], int],
        positions_per_epoch: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batch_size, self.next_position, self.positions_per_epoch = batch_size, next_position, positions_per_epoch
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        """`next_position` is asked now: what workers fetched in advance and nobody used is not counted."""
        stride = self.batch_size * self.world_size
        start = self.next_position()
        stop = None
        if self.positions_per_epoch is not None:
            stop = (start // self.positions_per_epoch + 1) * self.positions_per_epoch
        first = start + self.rank * self.batch_size
        for begin in itertools.count(first, stride) if stop is None else range(first, stop, stride):
            yield list(range(begin, begin + self.batch_size))


class EpochBatches(PositionBatches):
    """The same with a length: the whole epoch's, also where a run resumes in its middle, as Lightning counts."""

    def __len__(self) -> int:
        assert self.positions_per_epoch is not None
        return self.positions_per_epoch // (self.batch_size * self.world_size)


def _order_seed(seed: int, half: str) -> int:
    return seed * 2 + (half == "prior")


def _format_of(manifest: Manifest, wanted: ShardFormat | None) -> ShardFormat:
    if wanted is None:
        return manifest.formats[0]
    if wanted not in manifest.formats:
        raise UsageError(
            f"{manifest.path} holds no {wanted} shards: choose from {', '.join(manifest.formats)}, or ingest with it."
        )
    return wanted
