"""URLs of servers with a password in them: characters that a URL gives another meaning must be encoded."""

import re

_RESERVED = re.compile(r"[#/?@:\[\]]|%(?![0-9A-Fa-f]{2})")
_HINT = (
    "; in the user name and the password write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A, [ as %5B, ] as %5D"
    " and % as %25"
)


def encoding_hint(url: str) -> str:
    """How to write reserved characters, as the end of a message; empty where user name and password hold none."""
    _, _, rest = url.partition("://")
    credentials, found, _ = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    return _HINT if found and (_RESERVED.search(user) or _RESERVED.search(password)) else ""
