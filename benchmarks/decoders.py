"""Nothing escapes from the decoders: damaged files by the thousand, and stand-ins that crash, spin and swallow memory.

    python -m benchmarks.decoders [--files 5000] [--processes 1]

Seeds of every format and mode are cut, flipped, edited in their headers, and their parts exchanged, by a generator with
a fixed seed; each goes through the whole transform in a decoding process, as in a run. An escape is an exception that
is not `Refused`, a death without its reason recorded, a picture of an impossible shape, or damage to the next job.
One line per measurement; the last line is a JSON object.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image, ImageCms
from skimage import data as photos

from jobs.images.decoding.isolation import Crash, Isolated
from jobs.images.decoding.reasons import REASONS
from jobs.images.options import ImageOptions

MEMORY_BYTES = 512 << 20
CPU_S = 5.0
WALL_S = 120.0
STANDINS = {
    "segfault": "decoder-crashed",
    "abort": "decoder-crashed",
    "exit": "decoder-crashed",
    "spin": "decoder-timeout",
    "allocate": "decoder-memory",
    "allocate-in-c": "decoder-memory",
}


def seeds() -> list[bytes]:
    """Files of every format and mode, 2 to 40 KB."""
    cat = Image.fromarray(photos.chelsea()).resize((96, 64))
    translucent = cat.convert("RGBA")
    translucent.putalpha(cat.convert("L"))
    exif = Image.Exif()
    exif[274], exif[271] = 6, "a camera"
    frames = {"save_all": True, "append_images": [cat.rotate(90), cat.rotate(180)]}
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    sixteen = Image.frombytes("I;16", cat.size, bytes(range(256)) * (cat.width * cat.height * 2 // 256))
    made: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (cat, "JPEG", {"exif": exif, "icc_profile": icc}),
        (cat, "JPEG", {"progressive": True, "subsampling": 0}),
        (cat, "JPEG", {"restart_marker_rows": 1}),
        (cat.convert("L"), "JPEG", {}),
        (cat.convert("CMYK"), "JPEG", {"icc_profile": icc}),
        (cat, "PNG", {"icc_profile": icc, "exif": exif}),
        (cat.convert("P"), "PNG", {"transparency": 3}),
        (translucent, "PNG", {}),
        (sixteen, "PNG", {}),
        (cat, "PNG", frames),
        (cat, "GIF", frames),
        (cat, "WEBP", {"exif": exif}),
        (translucent, "WEBP", {"lossless": True, "icc_profile": icc}),
        (cat, "WEBP", frames),
        (cat, "AVIF", {"exif": exif, "icc_profile": icc}),
        (translucent, "AVIF", {}),
        (cat, "AVIF", frames),
        (cat, "TIFF", {"exif": exif}),
        (cat, "TIFF", {"compression": "tiff_lzw"} | frames),
        (cat, "TIFF", {"compression": "jpeg"}),
        (cat.convert("CMYK"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (cat.convert("1"), "TIFF", {"compression": "group4"}),
        (cat, "BMP", {}),
        (cat.convert("P"), "BMP", {}),
    ]
    files = []
    for image, format, options in made:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        files.append(buffer.getvalue())
    return files


def damaged(n_files: int, seed: int = 0) -> Iterator[bytes]:
    """`n_files` damaged files, the same for the same seed."""
    chance, originals = random.Random(seed), seeds()
    harms = (_cut, _flip, _edit_header, _edit_field, _exchange, _repeat, _insert)
    for number in range(n_files):
        data = bytearray(originals[number % len(originals)])
        for _ in range(chance.choice((1, 1, 2, 4))):
            chance.choice(harms)(data, chance)
        yield bytes(data)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3, 30)) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _edit_header(data: bytearray, chance: random.Random) -> None:
    """Bytes near the start, where sizes and counts are."""
    for _ in range(chance.randint(1, 4)):
        if len(data) > 4:
            data[chance.randrange(4, min(len(data), 400))] = chance.choice(
                (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )


def _edit_field(data: bytearray, chance: random.Random) -> None:
    """A 32-bit number anywhere, to one that is hard to bear."""
    if len(data) > 8:
        value = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 50_000, len(data)))
        struct.pack_into(chance.choice("<>") + "I", data, chance.randrange(len(data) - 4), value)


def _exchange(data: bytearray, chance: random.Random) -> None:
    """Two stretches change places, as when chunks come in the wrong order."""
    if len(data) > 64:
        length = chance.randint(4, len(data) // 4)
        one, other = (chance.randrange(len(data) - length) for _ in range(2))
        data[one : one + length], data[other : other + length] = data[other : other + length], data[one : one + length]


def _repeat(data: bytearray, chance: random.Random) -> None:
    if len(data) > 64:
        start = chance.randrange(len(data) - 32)
        part = data[start : start + chance.randint(8, 512)]
        data[start:start] = part * chance.randint(1, 20)


def _insert(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.randbytes(chance.randint(1, 64))


def escape(outcome: dict[str, Any] | Crash) -> str:
    """What is wrong with the answer to a damaged file; empty when nothing is."""
    if isinstance(outcome, Crash):
        return outcome.detail if outcome.detail.startswith("raised") and outcome.reason == "decoder-crashed" else ""
    if "reason" in outcome:
        return "" if outcome["reason"] in REASONS and outcome["detail"] else f"refused for {outcome['reason']!r}"
    whole = outcome["width"] > 0 and outcome["height"] > 0 and len(outcome["payload"]) > 100
    return "" if whole else f"a picture of {outcome['width']} x {outcome['height']}"


def fuzz(n_files: int, processes: int) -> dict[str, Any]:
    """Damaged files through the transform, each followed up in the counts of its reason."""
    options = asdict(ImageOptions(size_px=64, max_pixels=20_000_000))
    reasons: Counter[str] = Counter()
    escapes: list[str] = []
    start = time.monotonic()
    with Isolated(
        "jobs.images.pixels.transform:worker", options,
        memory_bytes=MEMORY_BYTES, cpu_s=CPU_S, wall_s=WALL_S, processes=processes,
    ) as pool:  # fmt: skip
        for number, data in enumerate(damaged(n_files)):
            outcome = pool.run(data, {"boxes": "[]"})
            fault = escape(outcome)
            if fault:
                escapes.append(f"file {number}: {fault}")
            reasons[outcome.reason if isinstance(outcome, Crash) else outcome.get("reason", "decoded")] += 1
        whole = all(isinstance(outcome := pool.run(data), dict) and "payload" in outcome for data in seeds())
    return {
        "files": n_files,
        "reasons": dict(reasons.most_common()),
        "escapes": escapes,
        "seeds_decode_afterwards": whole,
        "seconds": round(time.monotonic() - start, 1),
    }


def standin(spec: dict[str, Any]) -> Callable[[bytes, dict[str, Any]], dict[str, Any]]:
    """A decoder that does harm when told so, and echoes otherwise."""
    deeds: dict[str, Callable[[], object]] = {
        "segfault": lambda: ctypes.string_at(0),
        "abort": lambda: ctypes.CDLL(None).abort(),
        "exit": lambda: ctypes.CDLL(None)._exit(7),
        "spin": _spin,
        "allocate": lambda: [bytes(1 << 20) for _ in iter(int, 1)],
        "allocate-in-c": _allocate_in_c,
    }

    def work(data: bytes, job: dict[str, Any]) -> dict[str, Any]:
        if "do" in job:
            deeds[job["do"]]()
        return {"said": data}

    return work


def _spin() -> None:
    while True:
        pass


def _allocate_in_c() -> None:
    """As a library that does not check what malloc gives."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    while True:
        ctypes.memset(library.malloc(ctypes.c_size_t(32 << 20)) or 0, 1, 32 << 20)


def standins() -> dict[str, Any]:
    """Each stand-in's recorded reason, and whether the job after it was whole."""
    found, after = {}, []
    with Isolated("benchmarks.decoders:standin", memory_bytes=MEMORY_BYTES, cpu_s=1.0, wall_s=WALL_S) as pool:
        for deed in STANDINS:
            outcome = pool.run(b"hostile", {"do": deed})
            found[deed] = outcome.reason if isinstance(outcome, Crash) else "answered"
            after.append(pool.run(b"next") == {"said": b"next"})
    return {"recorded": found, "as_expected": found == STANDINS, "next_job_whole": all(after)}


def overhead(n_jobs: int = 2000, n_bytes: int = 200_000) -> dict[str, float]:
    """What a job costs that does nothing: `n_bytes` in, 30 KB out. Milliseconds of processor time and of wall clock."""
    data = bytes(n_bytes)
    with Isolated("benchmarks.decoders:answering", {"n_bytes": 30_000}) as pool:
        pool.run(data)
        cpu, wall, before = time.process_time(), time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(n_jobs):
            pool.run(data)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    theirs = children.ru_utime + children.ru_stime - before.ru_utime - before.ru_stime
    return {
        "caller_cpu_ms": round(cpu / n_jobs * 1e3, 3),
        "process_cpu_ms_with_start": round(theirs / n_jobs * 1e3, 3),
        "wall_ms": round(wall / n_jobs * 1e3, 3),
    }


def answering(spec: dict[str, Any]) -> Callable[[bytes, dict[str, Any]], dict[str, Any]]:
    """A decoder that always gives the same bytes."""
    answer = {"payload": bytes(spec["n_bytes"])}
    return lambda data, job: answer


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args(argv)
    fuzzed = fuzz(given.files, given.processes)
    for line in (f"damaged files: {fuzzed['files']} in {fuzzed['seconds']} s: {fuzzed['reasons']}", *fuzzed["escapes"]):
        sys.stdout.write(line + "\n")
    harmed = standins()
    sys.stdout.write(f"stand-ins: {harmed['recorded']}, the next job whole: {harmed['next_job_whole']}\n")
    cost = overhead()
    sys.stdout.write(f"cost of isolation per job, 200 KB in and 30 KB out: {cost}\n")
    n_escapes = len(fuzzed["escapes"]) + (not harmed["as_expected"]) + (not harmed["next_job_whole"])
    n_escapes += not fuzzed["seeds_decode_afterwards"]
    figures = {"damaged": fuzzed, "standins": harmed, "overhead": cost, "n_escapes": n_escapes}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if n_escapes == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
