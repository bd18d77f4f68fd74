"""Why a row of a list is refused before anything is asked of its site. None of them passes with time."""

REASONS: dict[str, str] = {
    "row-malformed": "the line is not a row of its list",
    "row-not-utf8": "the row holds bytes that are not text in the list's encoding",
    "url-missing": "the row has no URL",
    "url-malformed": "the URL is not an absolute http or https URL",
    "url-credentials": "the URL holds a user name or password",
}
TRANSIENT: frozenset[str] = frozenset()
