"""Ask for one URL: safely, politely, and with an end.

    Client.get(url) -> Answer

Nothing is raised for what a server does; an `Answer` says it. Knows HTTP alone: no images, rows or policies.

    get       attempts, with waits between them
      follow    one attempt: a chain of hops
        hop       one request: the address is checked, the host's turn is awaited, the body is read
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from urllib3 import HTTPResponse, PoolManager, Timeout

from jobs.web.addresses import AddressRules
from jobs.web.answer import Answer, Headers, check_expected, check_hash
from jobs.web.body import Transfer, drop_body, read_body
from jobs.web.connection import current, open_session
from jobs.web.failures import RAISED, failure_of
from jobs.web.hosts import Hosts
from jobs.web.names import Lookup, Resolver, system_lookup
from jobs.web.options import FetchOptions
from jobs.web.reasons import HOST_FAILED, TRANSIENT, TRIED_AGAIN, WebError
from jobs.web.retry import RETRIED_STATUSES, pause_s, retry_after_s
from jobs.web.urls import Target, redirect_target, target_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STALE = 3
"""Kept-alive connections that may turn out to be closed before a request counts as failed."""

BeforeHop = Callable[[str], "str | None"]
"""Asked with a redirect's target: a reason to refuse it, or None."""


@dataclass(slots=True)
class _Ask:
    """One call of `get`: what was asked, and what it has cost so far."""

    url: str
    """The last that was asked for."""
    give_up_at: float
    headers: dict[str, str] = field(default_factory=dict)
    max_bytes: int = 0
    max_redirects: int = 0
    before_hop: BeforeHop | None = None
    ends_at: float = 0.0
    """When the attempt's transfer has taken its longest time; what is not the server's time puts it off."""
    hops: list[str] = field(default_factory=list)
    status: int = 0
    answer_headers: Headers = field(default_factory=Headers)
    requests: int = 0
    n_bytes: int = 0
    started_at: float = 0.0

    def answer(self, data: bytes = b"", reason: str = "", detail: str = "", transient: bool = False) -> Answer:
        seconds = time.monotonic() - self.started_at if self.started_at else 0.0
        return Answer(
            data, self.status, self.answer_headers, self.url, tuple(self.hops), self.requests, self.n_bytes, seconds,
            reason, detail, transient,
        )  # fmt: skip

    def refusal(self, error: WebError) -> Answer:
        transient = error.reason in TRANSIENT or (error.reason == "http-status" and self.status in RETRIED_STATUSES)
        return self.answer(error.part, error.reason, error.detail, transient)


class Client:
    """Sends requests for any number of threads, which share connections, names and what is known of hosts."""

    def __init__(self, options: FetchOptions, lookup: Lookup = system_lookup) -> None:
        """`lookup` looks names up; tests give names of their own."""
        self.options = options
        self._session = open_session(options)
        self._headers = {name: str(value) for name, value in self._session.headers.items()}
        self._pools: PoolManager = self._session.get_adapter("https://").poolmanager  # type: ignore[attr-defined]
        self._resolver = Resolver(
            AddressRules.of(options.allow_networks, everything=bool(options.proxy)),
            options.dns_ttl_s,
            options.dns_negative_ttl_s,
            lookup,
        )
        self._hosts = Hosts(
            options.host_connections, options.host_requests_per_s, options.host_failures, options.host_cooldown_s
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._session.close()

    def slow_down(self, url: str, interval_s: float) -> None:
        """Ask a URL's host no more often than once in so many seconds, as its site wishes. Raises `WebError`."""
        self._hosts.of(target_of(url).host_name).slow_down(interval_s)

    def get(
        self,
        url: str,
        *,
        max_bytes: int | None = None,
        accept: str = "image/*,*/*;q=0.1",
        give_up_at: float | None = None,
        before_hop: BeforeHop | None = None,
        expect_hash: str = "",
        max_redirects: int | None = None,
        retries: int | None = None,
    ) -> Answer:
        """Ask for a URL. `give_up_at` is a time of `time.monotonic`; None takes the options' value everywhere.

        `before_hop` is asked with every redirect's target, in this thread, while no host's turn is held.
        `expect_hash` is `md5:`, `sha256:` or `sha512:` and hexadecimal digits.
        """
        options = self.options
        ask = _Ask(
            url,
            float("inf") if give_up_at is None else give_up_at,
            headers={**self._headers, "Accept": accept},
            max_bytes=options.max_bytes if max_bytes is None else max_bytes,
            max_redirects=options.max_redirects if max_redirects is None else max_redirects,
            before_hop=before_hop,
        )
        try:
            check_expected(expect_hash)
            answer = self._attempts(ask, target_of(url), options.retries if retries is None else retries)
            check_hash(answer, expect_hash if not answer.reason else "")
        except WebError as error:
            return ask.refusal(error)
        return answer

    def refusal(self, url: str, give_up_at: float | None = None) -> Answer | None:
        """Why a URL cannot be asked for, whoever asks; None when it may be. Sends nothing: at most a name is looked up.

        A lookup that fails for a passing reason is not a refusal: `get` tries that again.
        """
        ask = _Ask(url, float("inf") if give_up_at is None else give_up_at)
        try:
            target = target_of(url)
            if time.monotonic() >= ask.give_up_at:
                raise WebError("unit-deadline", "before its turn")
            if not self.options.proxy:
                self._check_address(ask, target)
        except WebError as error:
            return None if error.reason == "dns" else ask.refusal(error)
        return None

    def _attempts(self, ask: _Ask, target: Target, retries: int) -> Answer:
        options = self.options
        attempt = 0
        last: Answer | None = None
        while True:
            try:
                return ask.answer(data=self._follow(ask, target))
            except WebError as error:
                if last is not None and error.reason == "host-down":
                    return last  # which says more
                last = ask.refusal(error)
            again = last.reason in TRIED_AGAIN or (last.reason == "http-status" and last.transient)
            asked_s = self._asked_s(ask)
            if not again or attempt >= retries:
                return last
            wait_s = pause_s(attempt, options.backoff_s, asked_s, options.max_wait_s)
            if time.monotonic() + wait_s >= ask.give_up_at:
                raise WebError("unit-deadline", f"before another attempt; the last: {last.reason}: {last.detail}")
            time.sleep(wait_s)
            attempt += 1

    def _asked_s(self, ask: _Ask) -> float:
        """How long the server wants us to wait. All requests to it wait so long, not this one alone."""
        header = ask.answer_headers.get("Retry-After")
        if ask.status not in RETRIED_STATUSES or not header:
            return 0.0
        seconds = retry_after_s(header, datetime.datetime.now(datetime.timezone.utc))
        self._hosts.of(target_of(ask.url).host_name).pause(min(seconds, self.options.max_wait_s))
        return seconds

    def _follow(self, ask: _Ask, target: Target) -> bytes:
        """One attempt: the body of the first answer that does not redirect."""
        ask.hops.clear()
        ask.ends_at = time.monotonic() + self.options.deadline_s
        while True:
            ask.url, ask.status, ask.answer_headers = target.url, 0, Headers()
            if not self.options.proxy:
                self._check_address(ask, target)
            if ask.hops and ask.before_hop is not None:
                asked_at = time.monotonic()
                refused = ask.before_hop(target.url)
                ask.ends_at += time.monotonic() - asked_at
                if refused is not None:
                    raise WebError(refused, target.url)
            data = self._hop(ask, target)
            if data is not None:
                return data
            if len(ask.hops) >= ask.max_redirects:
                raise WebError("too-many-redirects", f"more than {ask.max_redirects}, the last from {target.url}")
            ask.hops.append(target.url)
            target = redirect_target(target, ask.answer_headers.get_all("Location")[0])

    def _check_address(self, ask: _Ask, target: Target) -> None:
        try:
            until = time.monotonic() + self.options.connect_timeout_s
            self._resolver.addresses(target.host, min(until, ask.give_up_at))
        except WebError as error:
            if error.reason == "dns" and time.monotonic() >= ask.give_up_at:
                raise WebError("unit-deadline", error.detail) from error
            raise

    def _hop(self, ask: _Ask, target: Target) -> bytes | None:
        """One request, in the host's turn. None when it redirects."""
        host = self._hosts.of(target.host_name)
        queued_at = time.monotonic()
        host.enter(ask.give_up_at)
        good: bool | None = None
        try:
            ask.ends_at += time.monotonic() - queued_at
            data = self._request(ask, target)
            good = True
            return data
        except WebError as error:
            if error.reason in HOST_FAILED:
                good = False
            elif error.reason != "unit-deadline":
                good = True
            raise
        finally:
            host.leave(good)

    def _request(self, ask: _Ask, target: Target) -> bytes | None:
        """Send it. A kept-alive connection that was closed meanwhile says nothing, so another is taken at once."""
        for stale in range(_STALE + 1):
            end_reason = "transfer-timeout" if ask.ends_at < ask.give_up_at else "unit-deadline"
            transfer = Transfer(self.options, min(ask.ends_at, ask.give_up_at), end_reason)
            transfer.left_s()
            ask.started_at = ask.started_at or time.monotonic()
            ask.requests += 1
            current.transfer, current.resolver = transfer, self._resolver
            try:
                return self._exchange(ask, target, transfer)
            except RAISED as error:
                failure = failure_of(error)
                if failure.reason == "timeout" and time.monotonic() >= transfer.ends_at:
                    failure = WebError(end_reason, failure.detail)
                closed_meanwhile = failure.reason == "connection" and not (transfer.connected or transfer.n_bytes)
                if stale == _STALE or not closed_meanwhile:
                    raise failure from error
            finally:
                ask.n_bytes += transfer.n_bytes
                current.transfer = None
        raise AssertionError("the last turn of the loop returns or raises")

    def _exchange(self, ask: _Ask, target: Target, transfer: Transfer) -> bytes | None:
        absolute = self.options.proxy and target.scheme == "http"
        pool = self._pools.connection_from_host(target.host, target.port, target.scheme)
        response = pool.urlopen(
            "GET",
            target.url if absolute else target.path,
            headers=ask.headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            timeout=Timeout(connect=self.options.connect_timeout_s, read=self.options.timeout_s),
        )
        assert isinstance(response, HTTPResponse)
        transfer.head_is_read(ask.max_bytes)
        ask.status, ask.answer_headers = response.status, Headers(response.headers)
        try:
            if response.status == 200:
                return read_body(response, ask.max_bytes)
        finally:
            drop_body(response, transfer)
        if response.status in _REDIRECTS and "Location" in ask.answer_headers:
            return None
        raise WebError("http-status", f"HTTP {response.status}")


_clients: dict[tuple[int, str], Client] = {}
_clients_lock = threading.Lock()


def client_for(options: FetchOptions) -> Client:
    """This process's client for these options: connections, names and hosts are kept from one unit to the next.

    After a fork the child has its own; its parent's is left as it is, for its locks may be held.
    """
    key = (os.getpid(), repr(options))
    with _clients_lock:
        if key not in _clients:
            _clients[key] = Client(options)
        return _clients[key]


def _forked() -> None:
    global _clients_lock
    _clients_lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)
