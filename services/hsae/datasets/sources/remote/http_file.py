"""Files on a web server, by ranges of their bytes."""

import errno
import netrc
import os
import re
import threading
from functools import cached_property
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from hsae.datasets.sources.remote.remote_file import Range, RemoteFile
from hsae.errors import ServiceError, UserError
from hsae.store.connection import SERVER_FAULTS, connection_pool

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_TOO_MANY_REQUESTS = 429
_OVERLOADED = (_TOO_MANY_REQUESTS, *SERVER_FAULTS)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_REASONS: dict[int, tuple[int, str]] = {
    401: (errno.EACCES, "the server asks for a password: write it into ~/.netrc, machine HOST login USER password ..."),
    403: (errno.EACCES, "the server refuses access"),
    404: (errno.ENOENT, "there is no such file on the server"),
    410: (errno.ENOENT, "the file is gone from the server"),
    416: (errno.EIO, "the file is empty or shorter than before"),
}


class WebServer:
    """Connections to a web server and those that it redirects to. Threads share them, a forked child has its own."""

    def __init__(self, origin: str) -> None:
        """Connects to nothing yet. `origin`: scheme, host and port."""
        self.origin = origin
        self._lock = threading.Lock()
        self._of_process: tuple[int, urllib3.PoolManager] | None = None

    @property
    def pool(self) -> urllib3.PoolManager:
        """The connections of this process."""
        with self._lock:
            if self._of_process is None or self._of_process[0] != os.getpid():
                self._of_process = os.getpid(), connection_pool(repeated=_OVERLOADED)
            return self._of_process[1]

    @cached_property
    def login(self) -> dict[str, str]:
        """The header with the password that `~/.netrc` has for the server, if it has one.

        Raises:
            UserError: that file cannot be read.
        """
        given = os.environ.get("NETRC")
        file = Path(given) if given else Path.home() / ".netrc"
        try:
            found = netrc.netrc(given).hosts.get(urlsplit(self.origin).hostname or "")
        except FileNotFoundError:
            return {}
        except (netrc.NetrcParseError, OSError) as error:
            # Not the text of the error, in which words of the file stand.
            reason = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else error.strerror
            raise UserError(f"{file}: cannot be read ({reason}); correct it") from error
        return urllib3.make_headers(basic_auth=f"{found[0]}:{found[2]}") if found else {}

    def get(self, path: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer after all redirects, its body still to be read.

        Redirects lead to http and https alone, from https to https alone. The password is sent to the server itself
        alone.

        Raises:
            OSError: a redirect leads elsewhere, or there are too many.
            ServiceError: a server cannot be reached, or is overloaded.
        """
        url = f"{self.origin}{path}"
        for _ in range(_MOST_REDIRECTS + 1):
            own = self.login if url.startswith(f"{self.origin}/") else {}
            answer = self._ask(url, {**headers, **own})
            if answer.status not in _REDIRECTS:
                return answer
            there = answer.headers.get("Location", "")
            answer.close()
            try:
                before, url = url, urljoin(url, there)
                scheme = urlsplit(url).scheme
            except ValueError as error:
                raise OSError(errno.EPROTO, "the server redirects to what is no URL") from error
            if not there or scheme not in {"http", "https"} or (before.startswith("https:") and scheme == "http"):
                where = scheme if there else "nowhere"
                raise OSError(errno.EPROTO, f"the server redirects to {where}, which is not followed")
        raise OSError(errno.ELOOP, f"the server redirects more than {_MOST_REDIRECTS} times")

    def _ask(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        host = urlsplit(url).netloc.rpartition("@")[2]
        try:
            answer = self.pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
        except (HTTPError, OSError) as error:
            raise ServiceError(f"the web server {host} cannot be reached ({_why(error)}); check the network") from error
        if answer.status in _OVERLOADED:
            answer.close()
            raise ServiceError(f"the web server {host} answers with HTTP {answer.status}, time and again; try later")
        return answer


class HttpFile(RemoteFile):
    """A file on a web server."""

    def __init__(self, server: WebServer, path: str) -> None:
        """Ask for nothing yet. `path`: as it stands in a URL."""
        self._server = server
        self._path = path

    def __str__(self) -> str:
        return f"{self._server.origin}{self._path}"

    def ask(self, offset: int, size: int) -> Range:
        """See `RemoteFile`."""
        headers = {"Range": f"bytes={offset}-{offset + size - 1}", "Accept-Encoding": "identity"}
        answer = self._server.get(self._path, headers)
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != 206 or found is None or int(found[1]) != offset:
            answer.close()
            if answer.status in {200, 206}:
                raise OSError(
                    errno.EPROTO, "the server gives no ranges of bytes; download the tars and give their path"
                )
            number, reason = _REASONS.get(answer.status, (errno.EIO, f"the server answers with HTTP {answer.status}"))
            raise OSError(number, reason)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        return Range(answer, int(found[3]), version)


def _why(error: BaseException) -> str:
    """The reason, without the URL, which may be a signed one."""
    cause = getattr(error, "reason", None) or error
    known = {
        urllib3.exceptions.NameResolutionError: "its host name is unknown",
        urllib3.exceptions.ConnectTimeoutError: "no connection in time",
        urllib3.exceptions.ReadTimeoutError: "it gives no answer",
        urllib3.exceptions.SSLError: "no TLS connection; SSL_CERT_FILE names another certificate authority",
        urllib3.exceptions.ProtocolError: "it closed the connection",
    }
    if isinstance(cause, urllib3.exceptions.NewConnectionError) and isinstance(cause.__cause__, OSError):
        return (cause.__cause__.strerror or type(cause.__cause__).__name__).lower()
    return next((text for kind, text in known.items() if isinstance(cause, kind)), type(cause).__name__)
