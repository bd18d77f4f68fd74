"""A real S3-compatible server, for all tests of what lies at URLs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

SETTINGS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[int]:
    """The port at which `s3` will serve; from here on the environment leads S3's libraries and new processes to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = {**SETTINGS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield port
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def s3_server() -> Callable[[int], AbstractContextManager[None]]:
    """`serving_s3`, for tests that start a server of their own."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    return serving_s3


@pytest.fixture(scope="session")
def s3(s3_server: Callable[[int], AbstractContextManager[None]], s3_environment: int) -> Iterator[None]:
    """A server for the whole session."""
    with s3_server(s3_environment):
        yield


@pytest.fixture
def bucket(s3: None) -> str:
    """URL of a new bucket."""
    import fsspec

    name = f"licet-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@contextmanager
def serving_s3(port: int) -> Iterator[None]:
    """moto's server in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(port):
            if server.poll() is not None:
                raise RuntimeError(f"moto's server ended with {server.returncode}")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
