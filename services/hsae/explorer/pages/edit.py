"""Upload an image, edit latents of it, and see how a readout of the last layer moves. Nothing of it is kept."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.latents import labels_of_latents
from hsae.explorer.pages.empty import nothing_to_show
from hsae.explorer.parameters import BadAddressError, EditQuery
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES, UnreadableImageError
from hsae.explorer.reading.wanted import ModelAbsentError
from hsae.explorer.scope import Scope, scope_of
from hsae.explorer.shown.copies import python_edit
from hsae.explorer.shown.rendering import page, sources_of
from hsae.explorer.shown.uploads import read_upload, refused

_N_NODES = 30
KINDS = {"scale": "times", "clamp": "set to", "add": "plus"}


def edit_form(request: Request) -> Response:
    """The form."""
    query = EditQuery.of(request.query_params)
    with sources_of(request).reading() as session:
        scope = scope_of(session, query)
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
    return _page(request, scope, query)


async def edit_upload(request: Request) -> Response:
    """How the readout moves on the uploaded image."""
    upload = await read_upload(request, max_fields=10)
    if isinstance(upload, Response):
        return upload
    query = EditQuery.of(upload.fields)
    if not query.latents:
        raise BadAddressError("No latent is edited: give numbers of latents, such as 17, 203.")
    return await run_in_threadpool(_edited, request, query, upload.content)


def _edited(request: Request, query: EditQuery, content: bytes) -> Response:
    sources = sources_of(request)
    with sources.reading() as session:
        scope = scope_of(session, query)
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
    changes = dict.fromkeys(query.latents, query.value or 0.0)
    try:
        edited = sources.editor.edit(content, scope.chosen.id, changes, query.kind)
    except (UnreadableImageError, ModelAbsentError) as error:
        return refused(request, error)
    with sources.reading() as session:
        question = labels_of_latents(scope.chosen.id, list(changes))
        latents = [row | {"activation": edited.activations[row["latent"]]} for row in question.ask(session)]
        sql = question.as_sql(session)
    return _page(request, scope, query, edited=edited, latents=latents, sql=sql)


def _page(request: Request, scope: Scope, query: EditQuery, **found: Any) -> Response:
    nothing: dict[str, Any] = {"edited": None, "latents": [], "sql": None}
    return page(
        request, "edit.html", scope=scope, query=query, kinds=KINDS.items(), most=_N_NODES,
        max_mib=MAX_UPLOAD_BYTES >> 20, python=python_edit(scope, query.latents, query.kind, query.value or 0.0),
        **(nothing | found),
    )  # fmt: skip
