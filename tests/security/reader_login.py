"""The password of the readers' role in these tests, and URLs as libpq wants them."""

from sqlalchemy import URL

PASSWORD = "reader's own: p@ss/word%wörd"


def uri(url: URL) -> str:
    """As libpq wants it: it takes no bare spaces."""
    return url.render_as_string(hide_password=False).replace(" ", "%20")
