"""What a licence expression allows and asks for.

An SPDX expression is parsed with `license-expression` and written out as alternatives: `A AND (B OR C)` is
`[{A, B}, {A, C}]`. Terms of each licence id come from one table below; `AND` unites them. This file knows licences,
not purposes: whether terms suffice for a purpose is `licet.policy`'s to say.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from license_expression import ExpressionError, ExpressionParseError, Licensing, get_license_index

from licet.errors import UsageError

NO_ASSERTION = "NOASSERTION"
"""SPDX's word for: nobody knows."""

PUBLIC_DOMAIN = "LicenseRef-Public-Domain"
"""Dedicated to the public domain by its author or by law, without one of the SPDX dedications."""

ALL_RIGHTS_RESERVED = "LicenseRef-All-Rights-Reserved"

_ID = re.compile(r"^[A-Za-z0-9.\-+:]+$")


class LicenceError(UsageError):
    """A licence expression that SPDX does not know."""


class Obligation(str, Enum):
    """What a user of the work must do or must not do."""

    ATTRIBUTION = "attribution"
    NOTICE = "keep-notice"
    SHARE_ALIKE = "share-alike"
    NON_COMMERCIAL = "non-commercial"
    NO_DERIVATIVES = "no-derivatives"


@dataclass(frozen=True, slots=True)
class Terms:
    """What one licence, or several at once, say."""

    licences: frozenset[str]
    obligations: frozenset[Obligation] = field(default_factory=frozenset)
    known: bool = True
    """False when a licence is valid SPDX but not in our table: a person has to read it."""
    asserted: bool = True
    """False for NOASSERTION and NONE: nobody has said what the terms are."""
    reserved: bool = False
    """True when the owner grants nothing."""

    def expression(self) -> str:
        """The licences of these terms as one SPDX expression, in a fixed order."""
        return " AND ".join(sorted(self.licences))


_BY = frozenset({Obligation.ATTRIBUTION})
_NOTICE = frozenset({Obligation.ATTRIBUTION, Obligation.NOTICE})
_SHARE = frozenset({Obligation.ATTRIBUTION, Obligation.SHARE_ALIKE})
_COPYLEFT = frozenset({Obligation.ATTRIBUTION, Obligation.NOTICE, Obligation.SHARE_ALIKE})
_FREE: frozenset[Obligation] = frozenset()

_CC_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
_CC = {
    "BY": _BY,
    "BY-SA": _SHARE,
    "BY-NC": _BY | {Obligation.NON_COMMERCIAL},
    "BY-ND": _BY | {Obligation.NO_DERIVATIVES},
    "BY-NC-SA": _SHARE | {Obligation.NON_COMMERCIAL},
    "BY-NC-ND": _BY | {Obligation.NON_COMMERCIAL, Obligation.NO_DERIVATIVES},
}

_TABLE: dict[str, frozenset[Obligation]] = {
    **{f"CC-{name}-{version}": terms for name, terms in _CC.items() for version in _CC_VERSIONS},
    **dict.fromkeys(("CC0-1.0", "CC-PDDC", "PDDL-1.0", "Unlicense", "0BSD", "WTFPL", PUBLIC_DOMAIN), _FREE),
    **dict.fromkeys(("CDLA-Permissive-2.0", "ODC-By-1.0", "etalab-2.0", "OGL-UK-3.0"), _BY),
    **dict.fromkeys(
        ("MIT", "MIT-0", "ISC", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "Zlib", "BSL-1.0", "PSF-2.0",
         "Artistic-2.0", "CDLA-Permissive-1.0", "OFL-1.1"),
        _NOTICE,
    ),
    **dict.fromkeys(("ODbL-1.0", "CDLA-Sharing-1.0"), _SHARE),
    **dict.fromkeys(
        ("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later",
         "LGPL-3.0-only", "LGPL-3.0-or-later", "AGPL-3.0-only", "AGPL-3.0-or-later", "MPL-2.0", "EPL-2.0", "EUPL-1.2",
         "GFDL-1.2-only", "GFDL-1.2-or-later", "GFDL-1.3-only", "GFDL-1.3-or-later"),
        _COPYLEFT,
    ),
}  # fmt: skip


@functools.cache
def _spdx_ids() -> dict[str, str]:
    """Lower-case id -> SPDX's spelling, for every current licence and exception on the list."""
    ids = (entry.get("spdx_license_key") for entry in get_license_index() if not entry.get("is_deprecated"))
    return {i.lower(): i for i in ids if i and not i.startswith("LicenseRef-")}


def _canonical_id(licence_id: str) -> str:
    if licence_id.upper() in (NO_ASSERTION, "NONE"):
        return NO_ASSERTION
    if licence_id.startswith("LicenseRef-") and _ID.match(licence_id):
        return licence_id
    known = _spdx_ids().get(licence_id.lower())
    if known is None:
        raise LicenceError(
            f"licence {licence_id!r} is not on the SPDX list: use its SPDX id, LicenseRef-<name> for terms of your "
            f"own, or {NO_ASSERTION} when nobody knows."
        )
    return known


def _canonical_symbol(symbol: str) -> str:
    """`licence` or `licence WITH exception`, in SPDX's spelling."""
    return " WITH ".join(_canonical_id(part) for part in re.split(r"\s+WITH\s+", symbol, flags=re.IGNORECASE))


@functools.lru_cache(maxsize=4096)
def alternatives(expression: str) -> tuple[Terms, ...]:
    """The ways to comply with an SPDX expression, in the order written: one `Terms` for each choice that `OR` leaves.

    Raises `LicenceError` for an id that SPDX does not know, or an expression that does not parse.
    """
    if not expression.strip():
        return (_terms_of(frozenset({NO_ASSERTION})),)
    return tuple(dict.fromkeys(_terms_of(ids) for ids in _choices(_parsed(expression))))


def _parsed(expression: str) -> object:
    """The expression as a tree, None for an empty one. Raises `LicenceError`."""
    try:
        return Licensing().parse(expression)
    except (ExpressionError, ExpressionParseError) as error:
        raise LicenceError(f"licence {expression!r} is not an SPDX expression: {error}.") from error


def _choices(node: object) -> list[frozenset[str]]:
    operator = getattr(node, "operator", "").strip().upper()
    if operator not in ("AND", "OR"):
        render = getattr(node, "render", None)
        return [frozenset({_canonical_symbol(render() if render else str(node))})]
    parts = [_choices(arg) for arg in node.args]  # type: ignore[attr-defined]
    if operator == "OR":
        return list(itertools.chain.from_iterable(parts))
    return [frozenset().union(*combination) for combination in itertools.product(*parts)]


def _terms_of(ids: Iterable[str]) -> Terms:
    licences = frozenset(ids)
    bare = {i.split(" WITH ")[0] for i in licences}
    return Terms(
        licences=licences,
        obligations=frozenset().union(*(_TABLE.get(i, _FREE) for i in bare)),
        known=all(i in _TABLE or i == ALL_RIGHTS_RESERVED for i in bare - {NO_ASSERTION}),
        asserted=NO_ASSERTION not in bare,
        reserved=ALL_RIGHTS_RESERVED in bare,
    )


def normalise(expression: str) -> str:
    """The expression in SPDX's spelling, alternatives kept. Raises `LicenceError`."""
    choices = [terms.expression() for terms in alternatives(expression)]
    if len(choices) == 1:
        return choices[0]
    return " OR ".join(f"({c})" if " AND " in c else c for c in choices)


def all_of(expressions: Iterable[str]) -> str:
    """One expression that binds a user to every one of these: what a merged copy carries.

    What already is a conjunction is taken apart, so that merging a merged copy again repeats nothing.
    """
    unique = sorted({part for expression in expressions for part in _conjuncts(expression)})
    return " AND ".join(f"({e})" if " OR " in e else e for e in unique) if unique else NO_ASSERTION


def _conjuncts(expression: str) -> list[str]:
    """The normalised parts that `AND` joins at the top of an expression; itself, where nothing does."""
    tree = _parsed(expression)
    if getattr(tree, "operator", "").strip().upper() != "AND":
        whole = normalise(expression)
        return [whole] if " OR " in whole else whole.split(" AND ")
    return [part for arg in tree.args for part in _conjuncts(arg.render())]  # type: ignore[attr-defined]


def licence_page(licence_id: str) -> str:
    """The page that explains an SPDX licence, or an empty string for a LicenseRef or NOASSERTION."""
    bare = licence_id.split(" WITH ")[0]
    if bare.lower() not in _spdx_ids():
        return ""
    return f"https://spdx.org/licenses/{bare}.html"


def table_digest_input() -> str:
    """The obligations table as text, so that a policy's hash changes when the table does."""
    return "\n".join(f"{key}:{','.join(sorted(o.value for o in _TABLE[key]))}" for key in sorted(_TABLE))
