"""What licet's own functions reach in plain processes: fetch, hash, decode, resize, encode. No Spark, catalog, shards.

rate = plain_rate(host, n, processes, threads, size_px, quality)          images a second, steady
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

from benchmarks.server import PhotoHost
from jobs.images.options import ImageOptions
from jobs.images.pixels.transform import transform
from jobs.web.client import Client
from jobs.web.options import FetchOptions

_CHUNK = 100


def plain_rate(host: PhotoHost, n: int, processes: int, threads: int, size_px: int, quality: int) -> float:
    """Photos a second between 20 % and 80 % of all, as the server saw them."""
    urls = [host.url(i) for i in range(n)]
    shares = [urls[i::processes] for i in range(processes)]
    host.sent_at()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        arguments = ([threads] * processes, [size_px] * processes, [quality] * processes)
        done = sum(pool.map(_share, shares, *arguments))
    assert done == n
    times = sorted(host.sent_at().values())
    first, last = n // 5, n * 4 // 5
    return (last - first) / (times[last] - times[first])


def _share(urls: list[str], threads: int, size_px: int, quality: int) -> int:
    """Work off one process's URLs; how many came to an encoded image."""
    options = FetchOptions(threads=threads, allow_networks=["127.0.0.0/8"], host_connections=0, host_requests_per_s=0)
    image = ImageOptions(size_px=size_px, quality=quality)

    def work(url: str) -> bool:
        answer = client.get(url)
        hashlib.sha256(answer.data).digest()
        return bool(transform(answer.data, {"boxes": "[]"}, image).get("payload"))

    with Client(options) as client, ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, urls, chunksize=_CHUNK))
