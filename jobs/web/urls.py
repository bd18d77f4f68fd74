"""What is asked for: a URL taken apart, or refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from jobs.web.reasons import WebError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    url: str
    """Normalised, without fragment."""
    scheme: str
    host: str
    """Lower case, punycode; an IPv6 address in brackets."""
    port: int
    path: str
    """With its query: what the request line says."""

    @property
    def host_name(self) -> str:
        """What limits are kept for: http and https of one host are one."""
        return self.host if self.port in (80, 443) else f"{self.host}:{self.port}"


def target_of(url: str) -> Target:
    """Take a URL apart. Raises `WebError`: url-malformed, url-credentials."""
    try:
        parts = parse_url(url.strip())
    except (LocationParseError, UnicodeError, ValueError) as error:
        raise WebError("url-malformed", f"{url[:300]!r}: {error}") from error
    port = _PORTS.get(parts.scheme or "")
    if port is None or not parts.host:
        raise WebError("url-malformed", f"{url[:300]!r} is not an absolute http or https URL")
    if parts.auth is not None:
        raise WebError("url-credentials", f"for {parts.host}")
    path = parts.request_uri
    return Target(
        url=parts._replace(fragment=None).url,
        scheme=parts.scheme or "",
        host=parts.host,
        port=port if parts.port is None else parts.port,
        path=path,
    )


def redirect_target(base: Target, location: str) -> Target:
    """Where a Location header leads (RFC 9110, 10.2.2). Raises `WebError`: redirect-refused, url-credentials."""
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")  # bytes that http.client took for Latin-1
    try:
        return target_of(urljoin(base.url, location.strip()))
    except ValueError as error:
        raise WebError("redirect-refused", f"{location[:300]!r}: {error}") from error
    except WebError as error:
        reason = error.reason if error.reason == "url-credentials" else "redirect-refused"
        raise WebError(reason, error.detail) from error
