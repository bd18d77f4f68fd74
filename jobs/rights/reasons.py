"""Why a row may be refused for what its site or its file says."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "no-site": "the URL names no site that could be asked",
    "robots-disallowed": "robots.txt disallows it for us",
    "robots-unreachable": "robots.txt could not be read because of the server or the network",
    "ai-txt-disallowed": "ai.txt disallows it for training",
    "ai-txt-unreachable": "ai.txt could not be read because of the server or the network",
    "tdm-reserved": "TDMRep reserves the rights to text and data mining",
    "x-robots-tag": "an X-Robots-Tag header refuses training or indexing",
    "aipref-disallowed": "a Content-Usage preference disallows training",
    "plus-prohibited": "the image's own PLUS metadata prohibits data mining",
    "c2pa-not-allowed": "the image's own content credentials do not allow training or data mining",
}
"""Every reason of this package, in the order in which they are looked for."""

TRANSIENT = frozenset({"robots-unreachable", "ai-txt-unreachable"})
"""The reasons that may pass."""
