"""What the jobs' flags and YAML files may say.

Config stops here: what lies below is called with plain typed values. These classes travel to the executors, so they
must not be defined in an entry file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from licet import __version__
from licet.errors import UsageError
from licet.policy import Outcome, Policy, Purpose

PurposeName = Literal["research", "commercial-training", "redistribution"]
ImageFormat = Literal["jpg", "png", "webp"]
ResizeMode = Literal["center_crop", "keep_ratio", "no"]
OutcomeName = Literal["allow", "allow-with-obligations", "review", "deny"]
EngineName = Literal["spark", "local"]
PlanMode = Literal["frozen", "new"]


@dataclass(frozen=True)
class PolicyOptions:
    """What the data is for, and the rules that a person has decided otherwise."""

    purpose: PurposeName
    """What the data will be used for."""
    overrides: dict[str, OutcomeName] = field(default_factory=dict)
    """Policy rule -> outcome, such as `licence-unlisted: allow`."""

    def policy(self) -> Policy:
        """Raises `UsageError` for a rule that does not exist."""
        return Policy(Purpose(self.purpose), {rule: Outcome(name) for rule, name in self.overrides.items()})


@dataclass(frozen=True)
class FetchOptions:
    """How URLs are requested."""

    threads: int = 8
    """Requests under way at once, in each unit."""
    timeout_s: float = 10.0
    """Longest wait for a connection, and for the next bytes."""
    deadline_s: float = 60.0
    """Longest time for one whole transfer."""
    max_bytes: int = 50_000_000
    """Larger files are refused while they arrive."""
    retries: int = 2
    """Further attempts after 429, 5xx and broken connections."""
    backoff_s: float = 0.5
    """Wait before the first further attempt; doubled each time, with jitter."""
    max_wait_s: float = 30.0
    """Longest wait before a further attempt, whatever the server asks for."""
    max_redirects: int = 5
    """Longest chain of redirects."""
    user_agent: str = f"licet/{__version__} (builds licensed training data)"
    """Say who you are and how you can be reached."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.retries < 0 or self.timeout_s <= 0 or self.max_bytes < 1:
            raise UsageError(
                "fetch needs threads and max_bytes of at least 1, retries of at least 0 and timeout_s above 0, "
                f"found {self.threads}, {self.max_bytes}, {self.retries} and {self.timeout_s:g}."
            )


@dataclass(frozen=True)
class ImageOptions:
    """What is stored of an image."""

    size_px: int = 512
    """Short side in pixels."""
    resize: ResizeMode = "center_crop"
    """`center_crop` keeps the middle square, `keep_ratio` the whole image, `no` the size as it is."""
    upscale: bool = False
    """Whether smaller images are enlarged to size_px."""
    format: ImageFormat = "jpg"
    """How images are encoded."""
    quality: int = 95
    """Of jpg and webp, 1 to 100."""
    max_pixels: int = 100_000_000
    """Images whose header promises more are refused before they are decoded."""
    background: str = "#ffffff"
    """Colour behind transparent pixels."""

    def __post_init__(self) -> None:
        if self.size_px < 1 or not 1 <= self.quality <= 100:
            raise UsageError(f"size_px must be at least 1 and quality 1 to 100, found {self.size_px}, {self.quality}.")
        _ = self.background_rgb

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        digits = self.background.removeprefix("#")
        try:
            red, green, blue = bytes.fromhex(digits)
        except ValueError as error:
            raise UsageError(f"background must be a colour such as #ffffff, found {self.background!r}.") from error
        return red, green, blue


@dataclass(frozen=True)
class SparkOptions:
    """The Spark that is started when none is given by spark-submit or a notebook."""

    master: str = "local[*,4]"
    """Spark master; `local[*,4]` is one thread for each core here, four attempts for each task."""
    driver_memory: str = "2g"
    """Heap of the driver's JVM."""
    jars: list[str] = field(default_factory=list)
    """Delta's JARs on this machine, where they cannot be downloaded."""
    ivy: str = ""
    """Folder of an Ivy cache that holds Delta's JARs."""


def local_folder(path: str, name: str) -> Path:
    """A folder that this machine sees as a path. Raises `UsageError` for a URL."""
    if "://" in path:
        raise UsageError(
            f"{name} must be a folder that all machines see under one path, found {path!r}: mount the store."
        )
    return Path(path).resolve()
