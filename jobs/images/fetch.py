"""Fetch one URL: kept-alive connections, deadlines, a size limit, retries with back-off.

    fetch(record, fetcher) -> Fetched | Rejected

This stage knows HTTP. It does not know policies, images or shards.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from jobs.images.records import Fetched
from licet.records import Rejected, SourceRecord

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BLOCK_BYTES = 1 << 16
_REFUSED_URLS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationParseError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one attempt, redirects included, came to."""

    data: bytes = b""
    status: int = 0
    reason: str = ""
    """Empty when the data is what was asked for."""
    detail: str = ""
    again: bool = False
    """Whether another attempt may end better."""
    wait_s: float = 0.0
    """Seconds that the server asked us to wait."""


class Fetcher:
    """Sends requests, one session per thread, and counts every one that it sends.

    Proxies and passwords of the environment are not used: what is requested is what was decided.
    """

    def __init__(
        self,
        user_agent: str,
        timeout_s: float = 10.0,
        deadline_s: float = 60.0,
        max_bytes: int = 50_000_000,
        retries: int = 2,
        backoff_s: float = 0.5,
        max_wait_s: float = 30.0,
        max_redirects: int = 5,
    ) -> None:
        self.user_agent, self.timeout_s, self.deadline_s, self.max_bytes = user_agent, timeout_s, deadline_s, max_bytes
        self.retries, self.backoff_s, self.max_wait_s = retries, backoff_s, max_wait_s
        self.max_redirects = max_redirects
        self.sent: Counter[str] = Counter()
        """Row id -> requests that were sent for it."""
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._sessions: list[requests.Session] = []

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions:
            session.close()

    def get(self, row_id: str, url: str) -> _Answer:
        """One attempt: follow redirects, read the body."""
        give_up_at = time.monotonic() + self.deadline_s
        try:
            for _ in range(self.max_redirects + 1):
                if urlsplit(url).scheme not in ("http", "https"):
                    return _Answer(reason="redirect-refused", detail=url)
                with self._send(row_id, url) as response:
                    if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                        return self._read(response, give_up_at)
                    url = urljoin(url, response.headers["Location"])
            return _Answer(reason="too-many-redirects", detail=f"more than {self.max_redirects}, the last to {url}")
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            return _Answer(reason="timeout", detail=_plain(error), again=True)
        except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
            return _Answer(reason="tls", detail=_plain(error))
        except _REFUSED_URLS as error:
            return _Answer(reason="url-malformed", detail=_plain(error))
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return _Answer(reason="connection", detail=_plain(error), again=True)

    def _send(self, row_id: str, url: str) -> requests.Response:
        with self._lock:
            self.sent[row_id] += 1
        return self._session().get(url, stream=True, timeout=self.timeout_s, allow_redirects=False)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.headers.update({"User-Agent": self.user_agent, "Accept": "image/*,*/*;q=0.1"})
            session.headers["Accept-Encoding"] = "identity"
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(pool_connections=16, pool_maxsize=1))
            self._threads.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    def _read(self, response: requests.Response, give_up_at: float) -> _Answer:
        """The body, counted as it arrives: no announced length is believed."""
        status = response.status_code
        if status != 200:
            again = status in RETRIED_STATUSES
            wait_s = _retry_after_s(response.headers.get("Retry-After", "")) if again else 0.0
            return _Answer(status=status, reason="http-status", detail=f"HTTP {status}", again=again, wait_s=wait_s)
        body = bytearray()
        while block := response.raw.read1(_BLOCK_BYTES, decode_content=True):
            body += block
            if len(body) > self.max_bytes:
                return _Answer(status=status, reason="too-large", detail=f"more than {self.max_bytes} bytes")
            if time.monotonic() > give_up_at:
                detail = f"{len(body)} bytes after {self.deadline_s:g} s"
                return _Answer(status=status, reason="timeout", detail=detail)
        return _Answer(data=bytes(body), status=status)


def fetch(record: SourceRecord, fetcher: Fetcher) -> Fetched | Rejected:
    """Fetch a record's URL; 429, 5xx and broken connections are tried again, other answers are final."""
    attempt = 0
    while True:
        answer = fetcher.get(record.row_id, record.url)
        if not answer.again or attempt == fetcher.retries:
            break
        pause_s = fetcher.backoff_s * 2**attempt * random.uniform(0.5, 1.5)
        time.sleep(min(max(pause_s, answer.wait_s), fetcher.max_wait_s))
        attempt += 1
    n_requests = fetcher.sent[record.row_id]
    if not answer.reason:
        return Fetched(record=record, data=answer.data, requests=n_requests)
    return Rejected(
        row_id=record.row_id,
        stage="fetch",
        reason=answer.reason,
        detail=answer.detail,
        http_status=answer.status,
        requests=n_requests,
    )


def _retry_after_s(header: str) -> float:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3); 0 when it gives a date or nothing."""
    return float(header) if header.isascii() and header.isdigit() else 0.0


def _plain(error: BaseException) -> str:
    """The innermost cause in one short line: the outer ones repeat it with object addresses."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}"[:300]
