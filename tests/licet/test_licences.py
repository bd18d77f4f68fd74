"""SPDX expressions and what they ask for."""

from __future__ import annotations

import pytest

from licet.licences import (
    ALL_RIGHTS_RESERVED,
    PUBLIC_DOMAIN,
    LicenceError,
    Obligation,
    all_of,
    alternatives,
    licence_page,
    normalise,
)

A, N, S = Obligation.ATTRIBUTION, Obligation.NOTICE, Obligation.SHARE_ALIKE
NC, ND = Obligation.NON_COMMERCIAL, Obligation.NO_DERIVATIVES


@pytest.mark.parametrize(
    ("licence", "obligations"),
    [
        ("CC0-1.0", set()),
        (PUBLIC_DOMAIN, set()),
        ("CC-BY-4.0", {A}),
        ("CC-BY-SA-3.0", {A, S}),
        ("CC-BY-NC-2.0", {A, NC}),
        ("CC-BY-ND-2.5", {A, ND}),
        ("CC-BY-NC-SA-4.0", {A, NC, S}),
        ("CC-BY-NC-ND-1.0", {A, NC, ND}),
        ("MIT", {A, N}),
        ("GPL-3.0-or-later", {A, N, S}),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", {A, N, S}),
        ("ODbL-1.0", {A, S}),
    ],
)
def test_a_licence_asks_for_what_its_text_says(licence: str, obligations: set[Obligation]) -> None:
    (terms,) = alternatives(licence)
    assert terms.obligations == obligations
    assert (terms.known, terms.asserted, terms.reserved) == (True, True, False)


def test_and_unites_obligations() -> None:
    (terms,) = alternatives("CC-BY-4.0 AND (CC-BY-SA-4.0 AND CC-BY-NC-4.0)")
    assert terms.obligations == {A, S, NC}
    assert terms.licences == {"CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0"}


def test_or_leaves_a_choice_in_the_order_written() -> None:
    assert [t.expression() for t in alternatives("MIT AND (CC-BY-4.0 OR CC0-1.0)")] == [
        "CC-BY-4.0 AND MIT",
        "CC0-1.0 AND MIT",
    ]
    assert len(alternatives("MIT OR MIT")) == 1


@pytest.mark.parametrize("expression", ["", "  ", "NOASSERTION", "noassertion", "NONE"])
def test_nobody_knows_is_not_free(expression: str) -> None:
    (terms,) = alternatives(expression)
    assert not terms.asserted
    assert normalise(expression) == "NOASSERTION"


def test_terms_of_your_own_are_valid_and_unknown() -> None:
    (terms,) = alternatives("LicenseRef-Museum-1")
    assert (terms.known, terms.asserted) == (False, True)
    (reserved,) = alternatives(ALL_RIGHTS_RESERVED)
    assert reserved.reserved


def test_valid_spdx_outside_the_table_is_unknown() -> None:
    (terms,) = alternatives("Beerware")
    assert not terms.known


@pytest.mark.parametrize(
    "wrong", ["CC-BY", "Creative Commons", "MIT AND", "(MIT", "GPL-2.0", "MIT WITH Nothing", "M!T"]
)
def test_what_spdx_does_not_know_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(LicenceError, match=r"licence .* is not (on the SPDX list|an SPDX expression)") as caught:
        normalise(wrong)
    assert caught.value.exit_code == 2


def test_spelling_becomes_that_of_spdx() -> None:
    assert normalise("mit and (cc-by-4.0 or CC0-1.0)") == "(CC-BY-4.0 AND MIT) OR (CC0-1.0 AND MIT)"
    assert normalise("gpl-2.0-OR-later with classpath-exception-2.0") == "GPL-2.0-or-later WITH Classpath-exception-2.0"


def test_all_of_binds_to_every_one() -> None:
    assert all_of(["mit", "CC-BY-4.0", "MIT"]) == "CC-BY-4.0 AND MIT"
    assert all_of(["MIT OR CC0-1.0", "CC-BY-4.0"]) == "CC-BY-4.0 AND (MIT OR CC0-1.0)"
    assert all_of([]) == "NOASSERTION"


def test_all_of_takes_conjunctions_apart_so_that_nothing_stands_twice() -> None:
    assert all_of(["MIT AND (mit AND CC0-1.0)", "MIT"]) == "CC0-1.0 AND MIT"
    once = all_of(["MIT OR CC0-1.0", "CC-BY-4.0"])
    assert all_of([once, "CC-BY-4.0", "MIT OR CC0-1.0"]) == once
    assert all_of([once, "GPL-3.0-only WITH Classpath-exception-2.0 AND CC-BY-4.0"]) == (
        "CC-BY-4.0 AND GPL-3.0-only WITH Classpath-exception-2.0 AND (MIT OR CC0-1.0)"
    )
    assert all_of(["", "NONE AND MIT"]) == "MIT AND NOASSERTION"


def test_a_page_explains_spdx_licences_only() -> None:
    assert licence_page("CC-BY-4.0").endswith("/CC-BY-4.0.html")
    assert licence_page("GPL-2.0-or-later WITH Classpath-exception-2.0").endswith("/GPL-2.0-or-later.html")
    assert licence_page("LicenseRef-Museum-1") == licence_page("NOASSERTION") == ""
