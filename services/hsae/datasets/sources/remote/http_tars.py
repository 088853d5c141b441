"""Tars on a web server as an image source."""

from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit

from hsae.datasets.sources.registry import without_password
from hsae.datasets.sources.remote.http_file import HttpFile, WebServer
from hsae.datasets.sources.remote.remote_tars import RemoteTars, written_out
from hsae.errors import UserError


class HttpTars(RemoteTars):
    """Tars on a web server: `https://host/data/train-{000..146}.tar?label=breed`; see `TarImages`.

    The server must give ranges of bytes. A password is looked up in `~/.netrc`.
    """

    def __init__(self, location: str) -> None:
        """Make the source of a URL; nothing is asked yet.

        Raises:
            UserError: it is no URL of tars, holds a password, or has a setting that there is none of.
        """
        scheme = location.partition("://")[0].lower()
        try:
            parts = urlsplit(location)
            port = f":{parts.port}" if parts.port else ""
        except ValueError as error:  # a password with a slash in it looks like a port
            raise UserError(f"{scheme}://...: is no URL; write {scheme}://HOST/PATH.tar, or HOST:PORT") from error
        shown = without_password(location.partition("?")[0])
        if parts.username is not None or parts.password is not None:
            raise UserError(
                f"{shown}: leave the password out of the URL, which is stored with the data set, and write it into"
                f" ~/.netrc of every machine that reads the images: machine {parts.hostname} login USER password ..."
            )
        if not parts.hostname:
            raise UserError(f"{shown}: names no server; write {scheme}://HOST/PATH.tar")
        if "*" in parts.path or "[" in parts.path:
            raise UserError(
                f"{shown}: a web server lists no files, so * and [ find none; write the numbers of the tars:"
                " train-{000..009}.tar"
            )
        super().__init__(shown, parts.query)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        plain = parts.path.partition("{")[0]
        self._folder = plain[: plain.rfind("/") + 1] or "/"
        self._pattern = unquote(parts.path[len(self._folder) :])
        self._server = WebServer(f"{parts.scheme.lower()}://{host}{port}")

    def list_names(self) -> Sequence[str]:
        """See `RemoteTars`."""
        return written_out(self.uri, self._pattern)

    def file_named(self, name: str) -> HttpFile:
        """See `RemoteTars`."""
        return HttpFile(self._server, self._folder + quote(name))
