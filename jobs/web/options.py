"""How URLs are requested."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from licet import __version__
from licet.errors import UsageError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "transfer-encoding", "user-agent"}
)  # fmt: skip
SPEED = frozenset(
    {
        "threads", "dns_ttl_s", "dns_negative_ttl_s", "host_connections", "host_requests_per_s", "host_failures",
        "host_cooldown_s", "pools",
    }
)  # fmt: skip
"""Options that change how fast and how politely URLs are requested, not what becomes of them."""
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True)
class FetchOptions:
    """How URLs are requested."""

    threads: int = 8
    """Requests under way at once, in each unit."""
    timeout_s: float = 10.0
    """Longest wait for the next bytes."""
    connect_timeout_s: float = 10.0
    """Longest wait for a connection, its TLS handshake included; no longer than timeout_s."""
    deadline_s: float = 60.0
    """Longest time for one whole transfer, redirects included."""
    min_bytes_per_s: int = 1000
    """Slower transfers are given up; 0 lifts it."""
    min_rate_window_s: float = 10.0
    """Time over which min_bytes_per_s is taken."""
    max_bytes: int = 50_000_000
    """Larger files are refused while they arrive, counted after decompression."""
    retries: int = 2
    """Further attempts after 429, 500, 502, 503, 504, broken connections, timeouts and failing DNS."""
    backoff_s: float = 0.5
    """Wait before the first further attempt; doubled each time, with jitter."""
    max_wait_s: float = 30.0
    """Longest wait before a further attempt, whatever the server asks for."""
    max_redirects: int = 5
    """Longest chain of redirects."""
    user_agent: str = f"licet/{__version__} (builds licensed training data)"
    """Say who you are."""
    contact_url: str = ""
    """Where you can be reached; sent with the user agent."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every request. Every host sees them, so credentials are refused."""
    proxy: str = ""
    """Egress proxy, such as http://proxy:3128. It then resolves names, and address checks are its own."""
    ca_bundle: str = ""
    """PEM file, or folder, of certificate authorities that are trusted beside the usual ones."""
    allow_networks: list[str] = field(default_factory=list)
    """Networks that are not public and yet may be connected to, such as 10.1.0.0/16."""
    dns_ttl_s: float = 300.0
    """How long a name's addresses are kept."""
    dns_negative_ttl_s: float = 30.0
    """How long is remembered that a name does not exist."""
    host_connections: int = 4
    """Requests under way at once to one host, in each process; 0 lifts it."""
    host_requests_per_s: float = 20.0
    """Requests sent to one host, in each process; 0 lifts it."""
    host_failures: int = 10
    """Failures in a row after which a host is left alone; 0 lifts it."""
    host_cooldown_s: float = 60.0
    """How long it is left alone before one request tries it again."""
    pools: int = 512
    """Hosts whose connections are kept alive, in each process."""

    def __post_init__(self) -> None:
        least = {
            "threads": 1, "max_bytes": 1, "pools": 1, "retries": 0, "max_redirects": 0, "min_bytes_per_s": 0,
            "backoff_s": 0, "max_wait_s": 0, "dns_ttl_s": 0, "dns_negative_ttl_s": 0, "host_connections": 0,
            "host_requests_per_s": 0, "host_failures": 0, "host_cooldown_s": 0,
        }  # fmt: skip
        for name, number in least.items():
            if not getattr(self, name) >= number:
                raise UsageError(f"fetch.{name} must be at least {number}, found {getattr(self, name)!r}.")
        for name in ("timeout_s", "connect_timeout_s", "deadline_s", "min_rate_window_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"fetch.{name} must be above 0, found {getattr(self, name)!r}.")
        self._check_headers()
        self._check_proxy()
        for network in self.allow_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise UsageError(f"fetch.allow_networks: {network!r} is no network: {error}.") from error
        if self.ca_bundle and not Path(self.ca_bundle).exists():
            raise UsageError(f"fetch.ca_bundle: there is no {self.ca_bundle!r}.")

    @property
    def agent(self) -> str:
        """The User-Agent header."""
        return f"{self.user_agent} (+{self.contact_url})" if self.contact_url else self.user_agent

    def _check_headers(self) -> None:
        for name, value in {**self.headers, "User-Agent": self.agent}.items():
            if not _TOKEN.fullmatch(name) or not value.isascii() or not value.isprintable():
                raise UsageError(f"fetch.headers: {name!r}: {value!r} is not a header: printable ASCII alone.")
        for name in self.headers:
            if name.lower() in _CREDENTIALS:
                raise UsageError(f"fetch.headers: {name} would be sent to every host of the list; it is refused.")
            if name.lower() in _OWN_HEADERS:
                raise UsageError(f"fetch.headers: {name} is set by licet; see user_agent and contact_url.")

    def _check_proxy(self) -> None:
        if not self.proxy:
            return
        try:
            url = parse_url(self.proxy)
        except LocationParseError as error:
            raise UsageError(f"fetch.proxy is not a URL: {error}.") from error
        if url.scheme != "http" or not url.host or url.auth or url.path not in (None, "", "/"):
            raise UsageError("fetch.proxy must be http://host:port, without a user name or a password.")
