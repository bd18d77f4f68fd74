"""Files that say something of a whole site: one fetch for each origin and file, however many threads ask; then kept.

What a failure means, by RFC 9309, 2.3.1: a client error (4xx) or a chain of more than five redirects is a file that
does not exist; a server error, a broken network and anything else is a file that could not be read. 429 counts with the
latter: "not now" says nothing of what the file holds. Of a file longer than 500 KiB the beginning is parsed.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLongError
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from jobs.rights.finding import now, short

MAX_PARSED_BYTES = 500 * 1024
MAX_BYTES = 8 << 20
"""Of a file that is accepted at all: a client that cuts longer ones off may hand over nothing."""
MAX_REDIRECTS = 5

_ACCEPT = "text/plain,application/json;q=0.9,*/*;q=0.1"
_CUT = "too-large"
_OTHER_STATUS = "http-status"
_NO_END_OF_REDIRECTS = "too-many-redirects"
_OUR_TIME_WAS_UP = "unit-deadline"  # says nothing of the site, so it is not kept


class Answer(Protocol):
    """What a request came to, redirects and retries included; `jobs.web.client.Answer` is one."""

    @property
    def data(self) -> bytes: ...
    @property
    def status(self) -> int:
        """0 when no answer was received."""

    @property
    def reason(self) -> str:
        """Empty when the whole body of a 200 is here."""

    @property
    def detail(self) -> str: ...
    @property
    def transient(self) -> bool:
        """Whether it may be another one another time."""

    @property
    def requests(self) -> int:
        """Requests sent, redirects and retries included."""


class Getter(Protocol):
    """Sends a GET; `jobs.web.client.Client.get` is one. Raises nothing for what servers and networks do."""

    def __call__(
        self, url: str, *, max_bytes: int | None, accept: str, give_up_at: float | None, max_redirects: int | None
    ) -> Answer: ...


class Parsed(Protocol):
    """The content of such a file."""

    weight: int
    """Bytes of memory, roughly."""


Content = TypeVar("Content", bound=Parsed)


@dataclass(frozen=True, slots=True)
class SiteFile(Generic[Content]):
    """One file of one site."""

    state: Literal["read", "absent", "unreachable"]
    status: int
    """Of HTTP; 0 when no answer was received."""
    at: str
    """When it was asked: UTC, ISO 8601."""
    content: Content
    """As an empty file's, unless it was read."""
    detail: str = ""
    transient: bool = False
    """Whether a file that could not be read may be readable another time."""


class Sites:
    """Asks sites and keeps what they said. Thread-safe; not for use after a fork."""

    def __init__(
        self,
        get: Getter,
        max_files: int,
        max_bytes: int,
        ttl_s: float,
        failed_ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._get, self._clock = get, clock
        self._max_files, self._max_bytes, self._ttl_s, self._failed_ttl_s = max_files, max_bytes, ttl_s, failed_ttl_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, SiteFile[Any]]] = OrderedDict()
        self._n_bytes = 0
        self._under_way: dict[str, Future[SiteFile[Any]]] = {}

    def known(self, url: str) -> SiteFile[Any] | None:
        """What is kept of a file; None when it must be asked (again)."""
        with self._lock:
            return self._fresh(url)

    def ask(
        self,
        url: str,
        parse: Callable[[str], Content],
        give_up_at: float | None = None,
        max_parsed_bytes: int = MAX_PARSED_BYTES,
    ) -> tuple[SiteFile[Content], int]:
        """The file, and how many requests this call sent for it. `give_up_at` is of `time.monotonic`."""
        with self._lock:
            if (kept := self._fresh(url)) is not None:
                return kept, 0
            first = (waiting := self._under_way.get(url)) is None
            if waiting is None:
                waiting = self._under_way[url] = Future()
        if first:
            return self._fetch(url, parse, give_up_at, max_parsed_bytes, waiting)
        try:
            patience_s = None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            return waiting.result(timeout=patience_s), 0
        except WaitedTooLongError:
            return SiteFile("unreachable", 0, now(), parse(""), "no answer before the deadline", True), 0

    def _fresh(self, url: str) -> SiteFile[Any] | None:
        kept = self._kept.get(url)
        if kept is None or kept[0] <= self._clock():
            return None
        self._kept.move_to_end(url)
        return kept[1]

    def _fetch(
        self,
        url: str,
        parse: Callable[[str], Content],
        give_up_at: float | None,
        max_parsed_bytes: int,
        waiting: Future[SiteFile[Content]],
    ) -> tuple[SiteFile[Content], int]:
        at = now()
        try:
            answer = self._get(
                url, max_bytes=MAX_BYTES, accept=_ACCEPT, give_up_at=give_up_at, max_redirects=MAX_REDIRECTS
            )
            file = _site_file(answer, at, parse, max_parsed_bytes)
        except BaseException as error:  # whoever waits must not wait for ever; it is raised here as well
            with self._lock:
                del self._under_way[url]
            waiting.set_exception(error)
            raise
        with self._lock:
            del self._under_way[url]
            if answer.reason != _OUR_TIME_WAS_UP:
                self._keep(url, file)
        waiting.set_result(file)
        return file, answer.requests

    def _keep(self, url: str, file: SiteFile[Any]) -> None:
        ttl_s = self._failed_ttl_s if file.state == "unreachable" else self._ttl_s
        if (old := self._kept.pop(url, None)) is not None:
            self._n_bytes -= _weight(old[1])
        self._kept[url] = (self._clock() + ttl_s, file)
        self._n_bytes += _weight(file)
        while len(self._kept) > self._max_files or (self._n_bytes > self._max_bytes and len(self._kept) > 1):
            _, (_, oldest) = self._kept.popitem(last=False)
            self._n_bytes -= _weight(oldest)


def _weight(file: SiteFile[Any]) -> int:
    return 500 + int(file.content.weight)


def _site_file(answer: Answer, at: str, parse: Callable[[str], Content], max_parsed_bytes: int) -> SiteFile[Content]:
    status, detail = answer.status, short(f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason)
    if not answer.reason or (answer.reason == _CUT and answer.data):
        return SiteFile("read", status, at, parse(answer.data[:max_parsed_bytes].decode("utf-8", "replace")))
    if answer.reason == _NO_END_OF_REDIRECTS or (answer.reason == _OTHER_STATUS and status < 500 and status != 429):
        return SiteFile("absent", status, at, parse(""), detail)
    return SiteFile("unreachable", status, at, parse(""), detail, answer.transient or status == 429 or status >= 500)
