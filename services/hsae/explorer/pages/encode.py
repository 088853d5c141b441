"""Upload an image to see which latents fire on it. Nothing of it is kept."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.latents import beside_labels, labels_of_latents
from hsae.explorer.pages.empty import nothing_to_show
from hsae.explorer.parameters import BadAddressError, ScopeQuery
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES, ModelAbsentError, UnreadableImageError, wanted_of
from hsae.explorer.scope import Scope, scope_of
from hsae.explorer.shown.copies import python_encode
from hsae.explorer.shown.rendering import message_page, page, sources_of

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
    async with request.form(max_files=1, max_fields=8) as form:
        upload = form.get("image")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        content = await upload.read(MAX_UPLOAD_BYTES + 1) if isinstance(upload, UploadFile) else b""
    if not content:
        raise BadAddressError("No image was sent: choose a file.")
    if len(content) > MAX_UPLOAD_BYTES:
        return message_page(
            request, "The image is too large", f"At most {MAX_UPLOAD_BYTES >> 20} MiB are taken.", status=413
        )
    return await run_in_threadpool(_encoded, request, ScopeQuery.of(fields), content)


def _encoded(request: Request, query: ScopeQuery, content: bytes) -> Response:
    sources = sources_of(request)
    with sources.reading() as session:
        scope = scope_of(session, query)
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
        wanted = wanted_of(session, scope.chosen.id)
    try:
        encoded = sources.encoder.encode(content, wanted)
    except UnreadableImageError as error:
        return message_page(request, "This is no image that can be used", f"{error}.", status=422)
    except ModelAbsentError as error:
        return message_page(
            request, "The model is not on this machine", str(error),
            "Its files must be where the job found them when it was submitted, or in the hub's cache.", status=503,
        )  # fmt: skip
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
