"""The application: which address is which page, and what becomes of errors."""

from collections.abc import Sequence
from importlib import resources

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hsae.errors import ServiceError, UserError
from hsae.explorer.pages.edit import edit_form, edit_upload
from hsae.explorer.pages.encode import encode_form, encode_upload
from hsae.explorer.pages.image import image_page, thumbnail
from hsae.explorer.pages.latent import latent_page
from hsae.explorer.pages.latent_map import map_image
from hsae.explorer.pages.latents import latents_page
from hsae.explorer.pages.node import node_page
from hsae.explorer.pages.pairs import pairs_page
from hsae.explorer.pages.studies import studies_page, study_page
from hsae.explorer.pages.tree import tree_page
from hsae.explorer.parameters import BadAddressError
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES
from hsae.explorer.reading.sources import Sources
from hsae.explorer.scope import UnknownError
from hsae.explorer.security import Guard
from hsae.explorer.shown import plotly_script
from hsae.explorer.shown.rendering import message_page, sources_of

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_FORM_BYTES = 1 << 20  # what a form adds to the file in it
_WEEK = "public, max-age=604800"


class _Number(Convertor[int]):
    """A number in a path; of more digits than any id has it is no address."""

    regex = "[0-9]{1,19}"

    def convert(self, value: str) -> int:
        """Read it."""
        return int(value)

    def to_string(self, value: int) -> str:
        """Write it."""
        return str(value)


register_url_convertor("number", _Number())


def make_app(sources: Sources, hosts: Sequence[str] = LOOPBACK) -> Starlette:
    """The application on some sources; requests that name another host than `hosts` are refused."""
    static = resources.files("hsae.explorer") / "static"
    app = Starlette(
        routes=[
            Route("/", studies_page),
            Route("/study/{study:number}", study_page),
            Route("/tree", tree_page),
            Route("/node/{node:number}", node_page),
            Route("/latents", latents_page),
            Route("/latent/{analysis:number}/{basis}/{latent:number}", latent_page),
            Route("/image/{dataset:number}/{image:number}", image_page),
            Route("/thumbnail/{dataset:number}/{image:number}", thumbnail),
            Route("/map/{analysis:number}/{latent:number}/{image:number}", map_image),
            Route("/pairs", pairs_page),
            Route("/encode", encode_form, methods=["GET"]),
            Route("/encode", encode_upload, methods=["POST"]),
            Route("/edit", edit_form, methods=["GET"]),
            Route("/edit", edit_upload, methods=["POST"]),
            Route("/healthz", _healthz),
            Route("/plotly.min.js", _plotly),
            Mount("/static", StaticFiles(directory=str(static))),
        ],
        middleware=[
            Middleware(Guard, max_body_bytes=MAX_UPLOAD_BYTES + _FORM_BYTES),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4),
        ],
        exception_handlers={
            UnknownError: _unknown,
            BadAddressError: _bad_address,
            ServiceError: _service_away,
            UserError: _refused,
            HTTPException: _http_error,
        },
    )
    app.state.sources = sources
    return app


def _healthz(request: Request) -> Response:
    """Whether the catalog answers."""
    with sources_of(request).reading() as session:
        session.connection().exec_driver_sql("SELECT 1")
    return PlainTextResponse("ok\n")


def _plotly(_: Request) -> Response:
    return FileResponse(plotly_script.FILE, media_type="text/javascript", headers={"Cache-Control": _WEEK})


def _unknown(request: Request, error: Exception) -> Response:
    return message_page(request, "Not found", str(error), status=404)


def _bad_address(request: Request, error: Exception) -> Response:
    return message_page(request, "This address cannot be", str(error), status=400)


def _service_away(request: Request, error: Exception) -> Response:
    return message_page(request, "A server cannot be used", str(error), status=503)


def _refused(request: Request, error: Exception) -> Response:
    return message_page(request, "This cannot be shown", str(error), status=422)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- narrows the type
    if error.status_code == 404:
        return message_page(request, "Not found", "There is no such page.", status=404)
    return message_page(request, "This was not done", str(error.detail), status=error.status_code)
