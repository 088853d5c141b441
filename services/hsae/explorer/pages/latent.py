"""One latent: its label and its scores beside their nulls, its strongest images, and what stands around it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.latents import nodes_of_latent, one_latent
from hsae.catalog.findings.browse.pairs import family_of_latent
from hsae.errors import UserError
from hsae.explorer.pages.empty import dataset_of
from hsae.explorer.pages.latent_map import maps_of_latent
from hsae.explorer.parameters import MAX_ID, MAX_INT
from hsae.explorer.reading.sources import Sources
from hsae.explorer.reading.stored_latents import Firing
from hsae.explorer.scope import Scope, UnknownError, analysis_scope
from hsae.explorer.shown.copies import python_analysis, python_family
from hsae.explorer.shown.rendering import page, sources_of
from hsae.relevancy.config import MAX_IMAGES
from hsae.vocabulary.bases import BASES

_N_NODES = 15
_N_RELATIVES = 10
_N_BINS = 40


def latent_page(request: Request) -> Response:
    """The page of a latent, or of a column of a baseline."""
    analysis, basis, latent = (request.path_params[name] for name in ("analysis", "basis", "latent"))
    if analysis > MAX_ID or latent > MAX_INT or basis not in BASES:
        raise UnknownError("There is no such latent.")
    sources = sources_of(request)
    with sources.reading() as session:
        scope = analysis_scope(session, analysis)
        question = one_latent(analysis, basis, latent)
        found = question.ask(session)
        if not found:
            raise UnknownError(f"Analysis {analysis} has no latent {latent} of the basis {basis}.")
        row = found[0]
        dataset = sources.dataset(session, row["dataset_id"])
        nodes = nodes_of_latent(analysis, basis, latent, limit=_N_NODES)
        family = family_of_latent(analysis, basis, latent, limit=_N_RELATIVES)
        context: dict[str, Any] = {
            "nodes": nodes.ask(session), "family": family.ask(session),
            "sql": question.as_sql(session), "nodes_sql": nodes.as_sql(session), "family_sql": family.as_sql(session),
        }  # fmt: skip
        objects = dataset_of(session, analysis)
        shown = [top["image"] for top in row["top_images"]]
        context |= maps_of_latent(session, analysis, basis, latent, shown)
    images, images_missing = sources.top_images(dataset, row["top_images"])
    histogram, histogram_missing = _histogram(sources, objects, basis, latent)
    return page(
        request, "latent.html", scope=scope, row=row, images=images, images_missing=images_missing,
        histogram=histogram, histogram_missing=histogram_missing, **_python(scope, basis, latent, context), **context,
    )  # fmt: skip


def _python(scope: Scope, basis: str, latent: int, context: Mapping[str, Any]) -> dict[str, Any]:
    """What one copies: the images, the numbers, and the parents and children."""
    other = None if basis == "sae" else basis
    maps = True if context["maps"] else None
    return {
        "show_python": python_analysis(scope, "show", latent, n=MAX_IMAGES, maps=maps) if other is None else None,
        "python": python_analysis(scope, "latent", latent, basis=other),
        "family_python": python_family(scope, latent, basis=other),
    }


def _histogram(
    sources: Sources, objects: dict[str, Any], basis: str, latent: int
) -> tuple[dict[str, Any] | None, str | None]:
    """The histogram of a latent's activations, or why there is none."""
    if basis != "sae":
        return None, "Activations are stored for the SAE alone."
    try:
        firing, n_images = sources.latents.of_latent(objects["analysis_key"], objects["activations_sha256"], latent)
    except UserError as error:
        return None, str(error)
    return _bars(firing, n_images), None


def _bars(firing: Firing, n_images: int) -> dict[str, Any] | None:
    if len(firing.where) == 0:
        return None
    greatest = float(firing.activations[0])
    counts, edges = np.histogram(firing.activations, bins=_N_BINS, range=(0.0, greatest))
    most = int(counts.max())
    bars = [
        {"count": int(count), "low": float(low), "high": float(high), "share": int(count) / most}
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    return {"bars": bars, "most": most, "greatest": greatest, "n_fire": len(firing.where), "n_images": n_images}
