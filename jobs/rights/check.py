"""Opt-outs of one URL: what its site says before anything is requested, what the answer and the image say after.

    rights = Rights(client.get, agent="licet")
    finding = rights.before(url, protocols)                  robots.txt, AIPREF in it, ai.txt, TDMRep's file
    hops = rights.hops(protocols)                            the same for each site that the answer redirects to
    finding = rights.after(url, headers, data, protocols)    headers, and metadata in the image's bytes

Which protocols bind is the source's choice; what is not listed is not asked. The first protocol that says no decides;
before the request the others are then not asked any more, so that a no costs as few requests as possible.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple, Protocol

from jobs.rights import aipref, c2pa, iim, tdmrep, xmp, xrobots
from jobs.rights.aitxt import AiTxt
from jobs.rights.blocks import Blocks, blocks_of, subtype_of
from jobs.rights.finding import Finding, Said, Word, now, short
from jobs.rights.groups import product_token
from jobs.rights.options import PROTOCOLS, RightsOptions
from jobs.rights.patterns import Target, target_of
from jobs.rights.robots import Robots
from jobs.rights.sites import Getter, SiteFile, Sites
from licet.errors import UsageError

_OF_SITES = frozenset({"robots.txt", "aipref", "ai.txt", "tdmrep"})
_OF_BYTES = frozenset({"iptc-plus", "tdmrep", "c2pa"})


class Headers(Protocol):
    """Response headers; names without regard to case."""

    def get_all(self, name: str) -> list[str]:
        """The values of every line of this name, in their order."""


class _No(NamedTuple):
    reason: str
    detail: str
    transient: bool = False


class Rights:
    """Asks and remembers, for one process. Thread-safe."""

    def __init__(self, get: Getter, agent: str = "licet", options: RightsOptions | None = None) -> None:
        """`agent` is our product token or a whole User-Agent that begins with it."""
        limits = options or RightsOptions()
        self.agent = product_token(agent)
        if not self.agent:
            raise UsageError(f"rights.agent must begin with letters, digits, - or _, found {agent!r}.")
        self._sites = Sites(get, limits.max_files, limits.max_cache_bytes, limits.ttl_s, limits.failed_ttl_s)
        self._parse_robots: Callable[[str], Robots] = partial(Robots, agent=self.agent)
        self._parse_ai_txt: Callable[[str], AiTxt] = partial(AiTxt, agent=self.agent)

    def before(self, url: str, protocols: Collection[str] = PROTOCOLS, give_up_at: float | None = None) -> Finding:
        """What the site says. `give_up_at` (of `time.monotonic`) bounds the wait for it."""
        if _OF_SITES.isdisjoint(protocols):
            return Finding()
        target = target_of(url)
        if target is None:
            return Finding(False, "no-site", short(url))
        said: Said = {}
        requests = 0
        for ask in (self._ask_robots, self._ask_ai_txt, self._ask_tdmrep):
            no, sent = ask(target, protocols, give_up_at, said)
            requests += sent
            if no is not None:
                return Finding(False, no.reason, no.detail, said, no.transient, requests)
        return Finding(said=said, requests=requests)

    def hops(self, protocols: Collection[str] = PROTOCOLS, give_up_at: float | None = None) -> Hops:
        """What `before` says of redirects, for `Client.get(before_hop=…)`."""
        return Hops(partial(self.before, protocols=protocols, give_up_at=give_up_at))

    def after(self, url: str, headers: Headers, data: bytes, protocols: Collection[str] = PROTOCOLS) -> Finding:
        """What the answer's headers and the image's own bytes say. Sends nothing, never raises for their content."""
        words: list[tuple[str, Word]] = []
        if "x-robots-tag" in protocols:
            values = headers.get_all("X-Robots-Tag")
            at = datetime.datetime.now(datetime.timezone.utc)
            words.append(("x-robots-tag", xrobots.header(values, self.agent, at) if values else Word({})))
        if "tdmrep" in protocols:
            said = tdmrep.header(headers.get_all("tdm-reservation"), headers.get_all("tdm-policy"))
            words.append(("tdmrep", said))
        if "aipref" in protocols:
            words.append(("aipref", aipref.header(headers.get_all("Content-Usage"))))
        if "ai.txt" in protocols and (about_type := self._ai_txt_by_type(url, data)) is not None:
            words.append(("ai.txt", about_type))
        if not _OF_BYTES.isdisjoint(protocols):
            words.extend(_words_of(blocks_of(data), protocols))
        return _united(words)

    def crawl_delay_s(self, url: str) -> float | None:
        """Seconds between requests that the site's robots.txt asks us for, if it was read and says so."""
        target = target_of(url)
        file = self._sites.known(target.origin + "/robots.txt") if target is not None else None
        return file.content.crawl_delay_s if file is not None else None

    def _ask_robots(
        self, target: Target, protocols: Collection[str], give_up_at: float | None, said: Said
    ) -> tuple[_No | None, int]:
        crawling, usage = "robots.txt" in protocols, "aipref" in protocols
        if not crawling and not usage:
            return None, 0
        address = target.origin + "/robots.txt"
        file, sent = self._sites.ask(address, self._parse_robots, give_up_at)
        if crawling:
            said["robots.txt"] = _asked(file)
        if file.state == "unreachable":
            return _No("robots-unreachable", f"{address}: {file.detail}", file.transient), sent
        if crawling and not file.content.allows(target):
            line = file.content.refusal(target)
            said["robots.txt"]["rule"] = rule = short(str(line or "its rules together"))
            return _No("robots-disallowed", rule), sent
        if usage:
            found = said.setdefault("aipref", {})["robots.txt"] = _asked(file)
            if file.content.usage and (stated := file.content.usage.decisive(target)) is not None:
                found["rule"] = rule = short(str(stated[1]))
                if stated[0] is False:
                    return _No("aipref-disallowed", rule), sent
        return None, sent

    def _ask_ai_txt(
        self, target: Target, protocols: Collection[str], give_up_at: float | None, said: Said
    ) -> tuple[_No | None, int]:
        if "ai.txt" not in protocols:
            return None, 0
        address = target.origin + "/ai.txt"
        file, sent = self._sites.ask(address, self._parse_ai_txt, give_up_at)
        said["ai.txt"] = found = _asked(file)
        if file.state == "unreachable":
            return _No("ai-txt-unreachable", f"{address}: {file.detail}", file.transient), sent
        if (line := file.content.refusal(target)) is not None:
            found["rule"] = rule = short(str(line))
            return _No("ai-txt-disallowed", rule), sent
        return None, sent

    def _ask_tdmrep(
        self, target: Target, protocols: Collection[str], give_up_at: float | None, said: Said
    ) -> tuple[_No | None, int]:
        if "tdmrep" not in protocols:
            return None, 0
        address = target.origin + tdmrep.PATH
        file, sent = self._sites.ask(address, tdmrep.TdmRep, give_up_at, tdmrep.MAX_BYTES)
        found = _asked(file)
        said["tdmrep"] = {"file": found}
        if (rule := file.content.rule(target)) is None:
            return None, sent
        found["rule"] = short(f"{rule.pattern.text}: {int(rule.reserved)} (rule {rule.number})")
        if rule.policy:
            found["policy"] = rule.policy
        if rule.reserved:
            more = f", policy {rule.policy}" if rule.policy else ""
            return _No("tdm-reserved", short(f"tdmrep.json {found['rule']}{more}")), sent
        return None, sent

    def _ai_txt_by_type(self, url: str, data: bytes) -> Word | None:
        """Rules of ai.txt about file types, now that the type is known; None where they have nothing to add."""
        target = target_of(url)
        file = self._sites.known(target.origin + "/ai.txt") if target is not None else None
        if target is None or file is None or not file.content.by_type:
            return None
        line = file.content.refusal(target, subtype_of(data))
        if line is None:
            return None
        return Word({**_asked(file), "rule": short(str(line))}, "ai-txt-disallowed", short(str(line)))


class Hops:
    """Called with each URL that an answer redirects to, before it is requested."""

    def __init__(self, before: Callable[[str], Finding]) -> None:
        self._before = before
        self.last = Finding()
        """Of the last redirect."""
        self.requests = 0
        """Requests sent to ask the sites of all redirects."""

    def __call__(self, url: str) -> str | None:
        """The reason why this URL must not be requested; None when it may be."""
        self.last = self._before(url)
        self.requests += self.last.requests
        return self.last.reason or None


def _asked(file: SiteFile[Any]) -> dict[str, Any]:
    return {"status": file.status, "at": file.at}


def _words_of(blocks: Blocks, protocols: Collection[str]) -> list[tuple[str, Word]]:
    """What an image's metadata says."""
    words = []
    fields = xmp.all_rights_in(blocks.xmp) if blocks.xmp else {}
    if "tdmrep" in protocols:
        words.append(("tdmrep", tdmrep.metadata(fields)))
    if "iptc-plus" in protocols:
        for resources in blocks.photoshop:
            fields = iim.rights_in(resources) | fields
        words.append(("iptc-plus", xmp.plus(fields)))
    if "c2pa" in protocols:
        entries: dict[str, str] = {}
        for superbox in blocks.c2pa:
            entries |= c2pa.statements(superbox)
        words.append(("c2pa", c2pa.word(entries)))
    return words


def _united(words: list[tuple[str, Word]]) -> Finding:
    """All that was said; the first no decides."""
    at = now()
    said: Said = {}
    no: Word | None = None
    for protocol, word in words:
        said[protocol] = {"at": at} | said.get(protocol, {}) | word.said
        if word.reason and no is None:
            no = word
    if no is None:
        return Finding(said=said)
    return Finding(False, no.reason, no.detail, said)


_rights: dict[tuple[int, RightsOptions], Rights] = {}
_lock = threading.Lock()


def rights_for(get: Getter, options: RightsOptions) -> Rights:
    """One `Rights` for each process, client and set of options: what sites said outlives a unit of work."""
    owner = getattr(get, "__self__", get)  # a bound method is another object each time; its client is not
    with _lock:
        rights = _rights.get((id(owner), options))
        if rights is None:  # it keeps `get`, and so its client, alive: the id stays taken
            rights = _rights[id(owner), options] = Rights(get, options.agent, options)
        return rights


def _forget() -> None:
    """In a child process: its parent's locks and waits are not its own."""
    global _lock
    _rights.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
