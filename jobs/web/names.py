"""Names and their addresses: looked up once, checked, kept for a while.

The connection is made to the address that was checked here, so a name that changes its mind between the check and the
connection gains nothing. Odd spellings (`0x7f.1`, `2130706433`, `127.1`) need no rules of their own: the system's
resolver reads them, and its result is checked. A lookup cannot be interrupted, so each has a thread of its own, and
whoever waits for it waits no longer than his own time.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.web.addresses import AddressRules, IPAddress
from jobs.web.reasons import WebError

Lookup = Callable[[str], Sequence[tuple[Any, ...]]]
"""Name -> what `socket.getaddrinfo` gives for it. Raises as it does."""

_UNKNOWN = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_PASSING_S = 1.0
"""How long a failing DNS is remembered the first time; doubled each time, up to what a missing name is."""
_MOST_LOOKUPS = 64
"""At once: those that were given up still hold their threads."""
_MOST_NAMES = 65_536


def system_lookup(name: str) -> Sequence[tuple[Any, ...]]:
    """The system's resolver, hosts file included."""
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


@dataclass(slots=True)
class _Name:
    """What is known of one name. `known` is set once, when the rest is final."""

    known: threading.Event = field(default_factory=threading.Event)
    expires_at: float = float("inf")
    addresses: tuple[IPAddress, ...] = ()
    """Permitted ones, in the resolver's order."""
    reason: str = ""
    """Why there are none."""
    detail: str = ""
    failures: int = 0
    """Lookups in a row, before this one, that failed for a passing reason."""


class Resolver:
    """Names to permitted addresses. Safe for threads: one lookup at a time for each name."""

    def __init__(
        self, rules: AddressRules, ttl_s: float = 300.0, negative_ttl_s: float = 30.0, lookup: Lookup = system_lookup
    ) -> None:
        self._rules, self._ttl_s, self._negative_ttl_s, self._lookup = rules, ttl_s, negative_ttl_s, lookup
        self._names: OrderedDict[str, _Name] = OrderedDict()
        self._lock = threading.Lock()
        self._lookups = threading.BoundedSemaphore(_MOST_LOOKUPS)

    def addresses(self, host: str, until: float) -> tuple[IPAddress, ...]:
        """The permitted addresses of a name, or of an address in any spelling; at least one.

        Raises `WebError`: address-refused, no-such-host, dns, url-malformed. `until` is a time of `time.monotonic`.
        """
        host = host.strip("[]").lower()
        with self._lock:
            name = self._names.get(host)
            mine = name is None or time.monotonic() >= name.expires_at
            if mine:
                failures = name.failures + 1 if name is not None and name.reason == "dns" else 0
                name = self._names[host] = _Name(failures=failures)
                self._names.move_to_end(host)
                if len(self._names) > _MOST_NAMES:
                    self._names.popitem(last=False)
        assert name is not None
        if mine:
            self._start(name, host, until)
        if not name.known.is_set() and not name.known.wait(max(until - time.monotonic(), 0)):
            raise WebError("dns", f"{host}: no answer in time")
        if name.reason:
            raise WebError(name.reason, name.detail)
        return name.addresses

    def _start(self, name: _Name, host: str, until: float) -> None:
        try:
            self._finish(name, host, [ipaddress.ip_address(host)])
        except ValueError:
            if not self._lookups.acquire(timeout=max(until - time.monotonic(), 0)):
                self._fail(name, "dns", f"{host}: {_MOST_LOOKUPS} lookups are under way, none ends")
                return
            threading.Thread(target=self._look_up, args=(name, host), name="licet-dns", daemon=True).start()

    def _look_up(self, name: _Name, host: str) -> None:
        try:
            found = dict.fromkeys(str(entry[4][0]) for entry in self._lookup(host))
            self._finish(name, host, [ipaddress.ip_address(address) for address in found])
        except socket.gaierror as error:
            unknown = error.errno in _UNKNOWN
            self._fail(name, "no-such-host" if unknown else "dns", f"{host}: {error.strerror}")
        except (UnicodeError, ValueError) as error:  # no label may be empty, or longer than 63
            self._fail(name, "url-malformed", f"{host}: {error}")
        except OSError as error:
            self._fail(name, "dns", f"{host}: {error}")
        finally:
            if not name.known.is_set():
                self._fail(name, "dns", f"{host}: the lookup broke off")
            self._lookups.release()

    def _finish(self, name: _Name, host: str, found: list[IPAddress]) -> None:
        name.addresses = tuple(address for address in found if self._rules.permit(address))
        if name.addresses:
            name.expires_at = time.monotonic() + self._ttl_s
            name.known.set()
        else:
            refused = ", ".join(map(str, found)) or "nothing"
            self._fail(name, "address-refused", f"{host} is {refused}")

    def _fail(self, name: _Name, reason: str, detail: str) -> None:
        passing_s = _PASSING_S * 2.0 ** min(name.failures, 30)
        seconds = min(passing_s, self._negative_ttl_s) if reason == "dns" else self._negative_ttl_s
        name.reason, name.detail, name.expires_at = reason, detail, time.monotonic() + seconds
        name.known.set()
