"""TLS is always verified; a proxy is used when it is asked for, and then alone."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import trustme

from jobs.web.connection import tls_context
from licet.errors import UsageError


def test_a_tls_connection_goes_to_the_checked_address_under_its_name(
    kit: Any, authority: trustme.CA, ca_bundle: str
) -> None:
    asked: list[str] = []
    context = kit.tls_context_for(authority, "photos.test")
    context.sni_callback = lambda sock, name, _: asked.append(name)
    with (
        kit.serving({"/": kit.answer(b"x" * 300_000)}, context=context) as site,
        kit.client(kit.names(photos_test="127.0.0.1"), ca_bundle=ca_bundle) as client,
    ):
        for _ in range(3):
            answer = client.get(f"https://photos.test:{site.port}/")
            assert (answer.reason, len(answer.data)) == ("", 300_000), answer.detail
        assert f"Host: photos.test:{site.port}" in site.heads[0]
        assert (asked, site.connections) == (["photos.test"], 1)


def test_connections_to_many_names_survive_and_serve_all_threads(
    kit: Any, authority: trustme.CA, ca_bundle: str
) -> None:
    hosts = [f"h{n}.photos.test" for n in range(60)]
    lookup = kit.names(**{host.replace(".", "_"): "127.0.0.1" for host in hosts})
    context = kit.tls_context_for(authority, "*.photos.test")
    with (
        kit.serving({"/": kit.answer(b"x" * 50_000)}, context=context) as site,
        kit.client(lookup, ca_bundle=ca_bundle, timeout_s=10, retries=0) as client,
    ):

        def get(host: str) -> tuple[str, int]:
            answer = client.get(f"https://{host}:{site.port}/")
            return answer.reason, len(answer.data)

        for _ in range(3):
            with ThreadPoolExecutor(6) as threads:
                assert list(threads.map(get, hosts)) == [("", 50_000)] * 60
        assert (len(site.heads), site.connections) == (180, 60)


def test_certificates_that_do_not_hold_are_refused(kit: Any, authority: trustme.CA, ca_bundle: str) -> None:
    names = kit.names(photos_test="127.0.0.1", other_test="127.0.0.1")
    with kit.serving({"/": kit.answer(b"x")}, context=kit.tls_context_for(authority, "photos.test")) as site:
        with kit.client(names, ca_bundle=ca_bundle) as client:
            other_name = client.get(f"https://other.test:{site.port}/")
        with kit.client(names) as client:
            unknown_authority = client.get(f"https://photos.test:{site.port}/")
        for answer in (other_name, unknown_authority):
            assert (answer.reason, answer.transient, answer.requests) == ("tls", False, 1), answer.detail
        assert site.heads == []


def test_a_server_that_hangs_or_breaks_in_the_handshake_is_given_up(kit: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, kit.client(retries=1, timeout_s=0.5) as client:
        answer = client.get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        assert (answer.reason, answer.transient, answer.requests) == ("timeout", True, 2), answer.detail
    with kit.serving({}) as site, kit.client(retries=0, timeout_s=1) as client:
        assert client.get(f"https://127.0.0.1:{site.port}/").reason in ("tls", "connection", "timeout")


def test_a_process_has_one_tls_context(ca_bundle: str) -> None:
    context = tls_context(ca_bundle)
    assert tls_context(ca_bundle) is context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.fixture
def proxy() -> Any:
    """An egress proxy that knows where *.test is: its port, and what it was asked."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)

    def relay(sock: socket.socket) -> None:
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65536)
            line = head.split(b"\r\n")[0].decode()
            asked.append(line)
            target = line.split(" ")[1]
            port = int(target.removeprefix("http://").split("/")[0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as upstream:
                if line.startswith("CONNECT"):
                    sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    path = "/" + target.split("/", 3)[3]
                    upstream.sendall(head.replace(target.encode(), path.encode(), 1))
                thread = threading.Thread(target=pump, args=(sock, upstream), daemon=True)
                thread.start()
                pump(upstream, sock)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=relay, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_proxy_that_was_asked_for_gets_every_request(
    kit: Any, proxy: Any, authority: trustme.CA, ca_bundle: str
) -> None:
    port, asked = proxy
    secure = kit.serving({"/s": kit.answer(b"secure")}, context=kit.tls_context_for(authority, "photos.test"))
    options = {"proxy": f"http://127.0.0.1:{port}", "ca_bundle": ca_bundle, "allow_networks": []}
    page = kit.closing(kit.answer(b"plain", Connection="close"))  # the fixture reads one request of a connection
    with kit.serving({"/p": page}) as plain, secure as site, kit.client(**options) as client:
        for _ in range(2):
            assert client.get(f"http://photos.test:{plain.port}/p").data == b"plain"
            assert client.get(f"https://photos.test:{site.port}/s").data == b"secure"
        assert f"Host: photos.test:{plain.port}" in plain.heads[0]
        assert set(asked) == {
            f"GET http://photos.test:{plain.port}/p HTTP/1.1",
            next(line for line in asked if line.startswith(f"CONNECT photos.test:{site.port} ")),
        }


def test_a_proxy_that_is_not_there_is_a_broken_connection(kit: Any) -> None:
    with kit.serving({"/": kit.answer(b"x")}) as site, kit.client(proxy="http://127.0.0.1:9", retries=0) as client:
        assert client.get(f"{site.url}/").reason == "connection"
        assert site.connections == 0


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "http://me:secret@proxy:3128"},
        {"proxy": "socks5://proxy:1080"},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"cookie": "a=b"}},
        {"headers": {"User-Agent": "x"}},
        {"headers": {"X-A": "a\r\nX-B: b"}},
        {"headers": {"X A": "a"}},
        {"contact_url": "https://tests.example/\r\nX-B: b"},
        {"ca_bundle": "/nowhere/ca.pem"},
        {"allow_networks": ["127.0.0.1/8"]},
        {"timeout_s": 0},
        {"host_connections": -1},
        {"deadline_s": float("nan")},
    ],
)
def test_options_that_cannot_be_meant_are_refused(kit: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"fetch.{'headers' if 'contact_url' in options else next(iter(options))}"):
        kit.client(**options)
