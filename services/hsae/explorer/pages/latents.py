"""Latents by their numbers: filtered, sorted, and page after page."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.latents import LatentList, columns_of_bases, latent_list
from hsae.explorer.pages.empty import dataset_of, nothing_to_show
from hsae.explorer.parameters import LatentsQuery, cursor_of, cursor_text
from hsae.explorer.scope import Scope, nodes_under, scope_of
from hsae.explorer.shown.copies import python_latents
from hsae.explorer.shown.rendering import page, sources_of

PAGE_ROWS = 50
_N_IMAGES = 5
SORT_NAMES = {
    "f1_adjusted": "adjusted F1",
    "f1": "F1",
    "coherence": "coherence",
    "density": "density",
    "activation": "strongest activation",
    "stability": "seed stability",
}


def latents_page(request: Request) -> Response:
    """A page of the latents that fit."""
    query = LatentsQuery.of(request.query_params)
    after = cursor_of(query.after, (float, int, int))
    with sources_of(request).reading() as session:
        scope = scope_of(session, query, may_be_several=True)
        if not scope.analyses:
            return nothing_to_show(request, session, scope)
        dataset = dataset_of(session, scope.wanted[0])
        wanted = LatentList(
            analyses=scope.wanted,
            basis=query.basis,
            under=None if query.under is None else nodes_under(session, query.under),
            words=query.q,
            least=_least(query),
            max_density=query.max_density,
            max_q=query.max_q,
            used=query.used,
            min_effect=query.min_effect,
            named=query.named,
            sort=query.sort,
            after=after,  # type: ignore[arg-type]  # of these kinds by cursor_of
            limit=PAGE_ROWS,
        )
        question = latent_list(wanted)
        rows = question.ask(session)
        bases = [row["basis"] for row in columns_of_bases(scope.wanted).ask(session)]
        sql = question.as_sql(session)
    scope.name_saes(rows)
    state = _state(query, scope)
    following = None
    if len(rows) == PAGE_ROWS:
        last = rows[-1]
        following = cursor_text(float(last["sorted_by"]), last["analysis_id"], last["latent"])
    further = {"q": "words", "named": "name", "min_density": "density", "max_density": "density"}
    python = python_latents(
        scope,
        others=sorted({words for name, words in further.items() if state[name] is not None}),
        under=query.under,
        min_f1_adjusted=query.min_f1_adjusted,
        max_q=query.max_q,
        min_coherence=query.min_coherence,
        min_stability=query.min_stability,
        used=query.used or None,
        min_effect=query.min_effect,
        basis=state["basis"],
    )
    return page(
        request, "latents.html", scope=scope, query=query, state=state, rows=rows, bases=bases, sorts=SORT_NAMES,
        dataset=dataset, following=following, is_first=query.after is None, n_images=_N_IMAGES, sql=sql, python=python,
    )  # fmt: skip


def _least(query: LatentsQuery) -> dict[str, float]:
    given = {
        "f1_adjusted": query.min_f1_adjusted,
        "coherence": query.min_coherence,
        "density": query.min_density,
        "stability": query.min_stability,
    }
    return {name: value for name, value in given.items() if value is not None}


def _state(query: LatentsQuery, scope: Scope) -> dict[str, Any]:
    """The parameters of the page, without the place in the list."""
    return {
        "study": scope.study,
        "layer": "all" if scope.layer is None else scope.layer,
        "sae": scope.sae,
        "basis": None if query.basis == "sae" else query.basis,
        "under": query.under,
        "q": query.q,
        "named": query.named,
        "min_f1_adjusted": query.min_f1_adjusted,
        "max_q": query.max_q,
        "min_coherence": query.min_coherence,
        "min_stability": query.min_stability,
        "used": "true" if query.used else None,
        "min_effect": query.min_effect,
        "min_density": query.min_density,
        "max_density": query.max_density,
        "sort": None if query.sort == "f1_adjusted" else query.sort,
    }
