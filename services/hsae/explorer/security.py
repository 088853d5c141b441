"""What every answer carries, and what is refused before a page is asked: large bodies, and posts of other sites."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Pages have no inline script and no inline style. Pictures may be data: an upload is shown without being stored.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Plotly sets style attributes; on pages with its pictures they are allowed, and still no style element and no script.
DRAWING_POLICY = POLICY + "; style-src-attr 'unsafe-inline'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Other sites never learn an address. "no-referrer" would make browsers hide the origin of our own forms as well.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class TooLargeError(Exception):
    """The body of a request is larger than anything that a page takes."""


class Guard:
    """Adds the headers to every answer, bounds bodies, and refuses posts that do not come from our own pages."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app, self._max_body_bytes = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["method"] not in {"GET", "HEAD"} and not is_from_here(Headers(scope=scope)):
            refusal = PlainTextResponse("Uploads are taken from this explorer's own page only.\n", status_code=403)
            await refusal(scope, receive, with_headers)
            return
        try:
            await self._app(scope, self._bounded(receive), with_headers)
        except TooLargeError:
            mib = self._max_body_bytes >> 20
            refusal = PlainTextResponse(f"The upload has more than {mib} MiB: choose a smaller file.\n", 413)
            await refusal(scope, receive, with_headers)

    def _bounded(self, receive: Receive) -> Receive:
        n_bytes = 0

        async def bounded() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_body_bytes:
                raise TooLargeError
            return message

        return bounded


def is_from_here(headers: Headers) -> bool:
    """Whether the browser says that a post comes from a page of this very server."""
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] == "same-origin"
    origin, host = headers.get("origin", ""), headers.get("host", "")
    return bool(host) and origin in {f"http://{host}", f"https://{host}"}
