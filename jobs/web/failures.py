"""What libraries raise, in the words of `jobs.web.reasons`."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator

import requests
import urllib3.exceptions as u3

from jobs.web.reasons import WebError

RAISED = (requests.exceptions.RequestException, u3.HTTPError, http.client.HTTPException, OSError, ValueError)
"""What a request may raise; ValueError is for URLs and headers that http.client finds malformed."""

_KINDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError), "connection"),
    ((ssl.SSLError, u3.SSLError), "tls"),
    ((TimeoutError, u3.TimeoutError), "timeout"),
    ((http.client.IncompleteRead, u3.IncompleteRead), "connection"),
    ((u3.LocationParseError, UnicodeError, http.client.InvalidURL), "url-malformed"),
    ((u3.DecodeError,), "encoding-damaged"),
    ((http.client.HTTPException, u3.InvalidHeader, u3.InvalidChunkLength, ValueError), "bad-response"),
)
"""In order: the first kind of which the innermost error is one, then the one around it, and so on."""


def failure_of(error: BaseException) -> WebError:
    """The reason for an error: the innermost cause says most; the outer ones repeat it with object addresses."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, WebError):
            return link
    for link in reversed(chain):
        for kinds, reason in _KINDS:
            if isinstance(link, kinds):
                return WebError(reason, _plain(link))
    return WebError("connection", _plain(chain[-1]))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _plain(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
