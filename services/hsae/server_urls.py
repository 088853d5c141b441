"""URLs of servers that contain a password: reserved characters in it must be percent-encoded."""

import re

_RESERVED = re.compile(r"[#/?@:\[\]]|%(?![0-9A-Fa-f]{2})")
_HINT = (
    "; in the user name and the password write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A, [ as %5B, ] as %5D"
    " and % as %25"
)


def encoding_hint(url: str) -> str:
    """The end of an error message about reserved characters; "" if user name and password have none."""
    _, _, rest = url.partition("://")
    credentials, found, _ = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    return _HINT if found and (_RESERVED.search(user) or _RESERVED.search(password)) else ""
