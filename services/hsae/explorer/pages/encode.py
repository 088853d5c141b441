"""Upload an image to see which latents fire on it. Nothing of it is kept."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.latents import beside_labels, labels_of_latents
from hsae.explorer.pages.empty import nothing_to_show
from hsae.explorer.parameters import ScopeQuery
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES, UnreadableImageError
from hsae.explorer.reading.wanted import ModelAbsentError, wanted_of
from hsae.explorer.scope import Scope, scope_of
from hsae.explorer.shown.copies import python_encode
from hsae.explorer.shown.rendering import page, sources_of
from hsae.explorer.shown.uploads import read_upload, refused

_N_LATENTS = 40


def encode_form(request: Request) -> Response:
    """The form."""
    with sources_of(request).reading() as session:
        scope = scope_of(session, ScopeQuery.of(request.query_params))
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
    return _page(request, scope)


async def encode_upload(request: Request) -> Response:
    """The latents of the uploaded image."""
    upload = await read_upload(request, max_fields=8)
    if isinstance(upload, Response):
        return upload
    return await run_in_threadpool(_encoded, request, ScopeQuery.of(upload.fields), upload.content)


def _encoded(request: Request, query: ScopeQuery, content: bytes) -> Response:
    sources = sources_of(request)
    with sources.reading() as session:
        scope = scope_of(session, query)
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
        wanted = wanted_of(session, scope.chosen.id)
    try:
        encoded = sources.encoder.encode(content, wanted)
    except (UnreadableImageError, ModelAbsentError) as error:
        return refused(request, error)
    shown = encoded.latents[:_N_LATENTS]
    with sources.reading() as session:
        question = labels_of_latents(scope.chosen.id, [latent for latent, _ in shown])
        rows = beside_labels(question.ask(session), shown)
        sql = question.as_sql(session)
    return _page(request, scope, rows=rows, picture=encoded.picture, n_fire=len(encoded.latents), sql=sql)


def _page(request: Request, scope: Scope, **found: Any) -> Response:
    nothing: dict[str, Any] = {"rows": None, "picture": None, "n_fire": 0, "sql": None}
    return page(
        request, "encode.html", scope=scope, most=_N_LATENTS, max_mib=MAX_UPLOAD_BYTES >> 20,
        python=python_encode(scope), **(nothing | found),
    )  # fmt: skip
