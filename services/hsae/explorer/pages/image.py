"""One image with the latents that fire on it, and the small pictures of all pages."""

from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.latents import beside_labels, labels_of_latents
from hsae.errors import UserError
from hsae.explorer.pages.empty import dataset_of
from hsae.explorer.parameters import MAX_ID, ImageQuery, ThumbnailQuery
from hsae.explorer.reading.listings import Listed
from hsae.explorer.reading.sources import Sources, class_labels
from hsae.explorer.scope import Scope, UnknownError, scope_of, studies_with_analyses
from hsae.explorer.shown.copies import python_analysis
from hsae.explorer.shown.placeholders import placeholder
from hsae.explorer.shown.rendering import page, sources_of
from hsae.pipeline.gallery.thumbnails import MEDIA_TYPE
from hsae.pipeline.inputs.dataset_ref import DatasetRef

_N_LATENTS = 60
_DAY = "private, max-age=86400"


def image_page(request: Request) -> Response:
    """The picture, its classes, and which latents of the chosen analysis fire here."""
    query = ImageQuery.of(request.query_params)
    sources = sources_of(request)
    dataset, listed = _listed(sources, request)
    with sources.reading() as session:
        labels = class_labels(session, dataset.id, [listed])
        scope, missing = _scope(session, query, dataset)
        objects = None if scope.chosen is None else dataset_of(session, scope.chosen.id)
    context: dict[str, Any] = {"rows": [], "missing": missing, "n_fire": 0, "sql": None, "python": None}
    if objects is not None:
        context |= _firing(sources, scope, objects, listed.image)
    state = {} if scope.chosen is None else {
        "study": scope.study, "layer": scope.chosen.layer, "sae": scope.chosen.sae,
    }  # fmt: skip
    return page(
        request, "image.html", dataset=dataset, listed=listed, scope=scope, query=query, state=state,
        labels=[labels[wnid] for wnid in listed.classes if wnid in labels], most=_N_LATENTS, **context,
    )  # fmt: skip


def thumbnail(request: Request) -> Response:
    """A small picture of an image; a placeholder that says why where the image cannot be had."""
    side = ThumbnailQuery.of(request.query_params).side
    sources = sources_of(request)
    dataset, listed = _listed(sources, request)
    try:
        content = sources.thumbnails.get(dataset.root, listed.path, side=side)
    except UserError as error:
        return Response(placeholder(str(error), side), media_type="image/svg+xml", headers={"X-Placeholder": "1"})
    return Response(content, media_type=MEDIA_TYPE, headers={"Cache-Control": _DAY})


def _listed(sources: Sources, request: Request) -> tuple[DatasetRef, Listed]:
    dataset, image = request.path_params["dataset"], request.path_params["image"]
    ref = None
    if dataset <= MAX_ID:
        with sources.reading() as session:
            ref = sources.dataset(session, dataset)
    if ref is None:
        raise UnknownError("There is no data set of that number.")
    found = {} if image > MAX_ID else sources.listings.images(ref, [image])
    if image not in found:
        raise UnknownError(f"The data set {ref.name} has no image of that number.")
    return ref, found[image]


def _scope(session: Session, query: ImageQuery, dataset: DatasetRef) -> tuple[Scope, str | None]:
    """The study of the URL, else the latest that scored the data set; and why none is shown, if so.

    An image's number means an image of its own data set alone, so a study of another one has nothing to show here.
    """
    studies = studies_with_analyses(session, dataset.id)
    if query.study is None:
        if not studies:
            return Scope(), f"No study has scored {dataset.name} yet."
        query = query.model_copy(update={"study": studies[0][0]})
    scope = scope_of(session, query)
    if scope.chosen is None:
        return Scope(studies=studies), f"Study {scope.study} has no analysis yet."
    scored = dataset_of(session, scope.chosen.id)
    if scored["dataset_id"] != dataset.id:
        missing = f"Study {scope.study} scored the images of {scored['dataset']}, and this one is of {dataset.name}."
        return Scope(studies=studies), missing
    return replace(scope, studies=studies), None


def _firing(sources: Sources, scope: Scope, objects: dict[str, Any], image: int) -> dict[str, Any]:
    """The latents that fire, the strongest first, with their labels."""
    assert scope.chosen is not None  # noqa: S101 -- narrows the type
    try:
        firing = sources.latents.of_image(objects["analysis_key"], objects["activations_sha256"], image)
    except UserError as error:
        return {"missing": str(error)}
    if firing is None:
        return {"missing": "The extraction could not read this image: `hsae-admin jobs show` says why."}
    shown = firing.where[:_N_LATENTS].tolist()
    question = labels_of_latents(scope.chosen.id, shown)
    with sources.reading() as session:
        rows = beside_labels(question.ask(session), zip(shown, firing.activations.tolist(), strict=False))
        sql = question.as_sql(session)
    python = python_analysis(scope, "image_latents", image)
    return {"rows": rows, "n_fire": len(firing.where), "sql": sql, "python": python}
