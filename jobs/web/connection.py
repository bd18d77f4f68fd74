"""Connections that go where the check has been, kept alive in urllib3's pools under a `requests` session.

One TLS context serves a process. A connection finds its transfer by its thread: pools hand connections over themselves.
"""

from __future__ import annotations

import functools
import http.client
import io
import logging
import resource
import socket
import ssl
import threading
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from jobs.web.addresses import IPAddress
from jobs.web.body import LimitedReader, Transfer
from jobs.web.names import Resolver
from jobs.web.options import FetchOptions
from jobs.web.reasons import WebError

_MOST_ADDRESSES = 4
"""Tried for one name."""
_OTHER_DESCRIPTORS = 512

logging.getLogger("urllib3").setLevel(logging.ERROR)  # what a server gets wrong is an answer's reason, not our log's


class _Current(threading.local):
    """The transfer that this thread is at, and the names that it may connect to."""

    transfer: Transfer | None = None
    resolver: Resolver | None = None


current = _Current()


class _LimitedResponse(http.client.HTTPResponse):
    """An answer that is read within its transfer's limits."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        assert current.transfer is not None
        raw = self.fp.detach()
        self.fp = io.BufferedReader(LimitedReader(raw, sock, current.transfer), 1 << 14)


class PlainConnection(HTTPConnection):
    """A connection to an address that was checked."""

    response_class = _LimitedResponse

    def _new_conn(self) -> socket.socket:
        return _dial(self._dns_host, self.port)


class TLSConnection(HTTPSConnection):
    """The same under TLS. The certificate is checked against the name."""

    response_class = _LimitedResponse

    def _new_conn(self) -> socket.socket:
        return _dial(self._dns_host, self.port)


class PlainPool(HTTPConnectionPool):
    ConnectionCls = PlainConnection


class TLSPool(HTTPSConnectionPool):
    ConnectionCls = TLSConnection


class DirectAdapter(HTTPAdapter):
    """Pools of checked connections."""

    def __init__(self, options: FetchOptions) -> None:
        self._options = options
        super().__init__()

    def init_poolmanager(self, *_: Any, **__: Any) -> None:
        options = self._options
        keep = options.host_connections or max(options.threads, 8)
        shared: dict[str, Any] = {
            "num_pools": min(options.pools, _descriptors(options.pools * keep + _OTHER_DESCRIPTORS) // keep),
            "maxsize": keep,
            "ssl_context": tls_context(options.ca_bundle),
            "retries": False,
        }
        manager = urllib3.ProxyManager(options.proxy, **shared) if options.proxy else urllib3.PoolManager(**shared)
        manager.pool_classes_by_scheme = {"http": PlainPool, "https": TLSPool}
        self.poolmanager = manager


def open_session(options: FetchOptions) -> requests.Session:
    """A session without proxies, passwords and cookies of the environment or of the servers."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers = requests.structures.CaseInsensitiveDict(options.headers)
    session.headers.update({"User-Agent": options.agent, "Accept-Encoding": "identity"})
    adapter = DirectAdapter(options)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


@functools.cache
def tls_context(ca_bundle: str) -> ssl.SSLContext:
    """The process's one context: TLS 1.2 or later, certificates and names verified."""
    context = create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.load_verify_locations(certifi.where())
    if ca_bundle:
        folder = Path(ca_bundle).is_dir()
        context.load_verify_locations(None if folder else ca_bundle, ca_bundle if folder else None)
    return context


def _dial(host: str, port: int) -> socket.socket:
    """A connection to one of the host's permitted addresses. Raises `WebError`."""
    transfer, resolver = current.transfer, current.resolver
    assert transfer is not None and resolver is not None
    transfer.connected = True
    failure = WebError("connection", f"{host}: no address")
    for address in resolver.addresses(host, transfer.ends_at)[:_MOST_ADDRESSES]:
        try:
            return _connect(address, port, transfer)
        except WebError:
            raise
        except TimeoutError:
            failure = transfer.timed_out(f"connecting to {address} port {port}")
        except OSError as error:
            failure = WebError("connection", f"{address} port {port}: {error.strerror or error}")
    raise failure


def _connect(address: IPAddress, port: int, transfer: Transfer) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        options = transfer.options
        sock.settimeout(min(options.connect_timeout_s, options.timeout_s, transfer.left_s()))
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _descriptors(wanted: int) -> int:
    """Raise this process's soft limit of open files towards `wanted`, as far as it may; what there is for us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted - _OTHER_DESCRIPTORS if soft == unlimited else max(soft - _OTHER_DESCRIPTORS, 64)
