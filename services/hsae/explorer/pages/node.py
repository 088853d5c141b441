"""One node of the taxonomy across layers, with its hyponyms, its classes and its best latents now."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.nodes import (
    best_at_nodes,
    classes_under,
    latents_of_node,
    neighbours,
    node_across_layers,
    node_in_dataset,
)
from hsae.explorer.pages.empty import dataset_of, nothing_to_show
from hsae.explorer.parameters import MAX_ID, ScopeQuery
from hsae.explorer.scope import UnknownError, scope_of
from hsae.explorer.shown.copies import python_study
from hsae.explorer.shown.rendering import page, sources_of

_N_LATENTS = 20
_N_CLASSES = 100
_N_IMAGES = 4


def node_page(request: Request) -> Response:
    """The node in every analysis of the study, and what stands around it in the chosen one."""
    query = ScopeQuery.of(request.query_params)
    node = request.path_params["node"]
    if node > MAX_ID:
        raise UnknownError("There is no node of that number.")
    sources = sources_of(request)
    with sources.reading() as session:
        scope = scope_of(session, query)
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
        dataset = dataset_of(session, scope.chosen.id)
        found = node_in_dataset(node, dataset["dataset_id"]).ask(session)
        if not found:
            raise UnknownError(f"The taxonomy of {dataset['dataset']} has no node of that number.")
        everywhere = [one.id for one in scope.analyses]
        across = node_across_layers(node, everywhere, basis=query.basis)
        latents = latents_of_node(node, scope.chosen.id, basis=query.basis, limit=_N_LATENTS)
        around = neighbours(node, dataset["dataset_id"]).ask(session)
        best_around = best_at_nodes(scope.chosen.id, [row["synset_id"] for row in around], basis=query.basis)
        context: dict[str, Any] = {
            "node": found[0], "across": across.ask(session), "latents": latents.ask(session),
            "around": around, "best": {row["synset_id"]: row for row in best_around.ask(session)},
            "classes": classes_under(node, dataset["dataset_id"], limit=_N_CLASSES).ask(session),
            "sql": across.as_sql(session), "latents_sql": latents.as_sql(session),
        }  # fmt: skip
    names = {one.id: one.sae for one in scope.analyses}
    for row in context["across"]:
        row["sae"] = names[row["analysis_id"]]
    state = {
        "study": scope.study, "layer": scope.chosen.layer, "sae": scope.chosen.sae,
        "basis": None if query.basis == "sae" else query.basis,
    }  # fmt: skip
    python = python_study(scope, "node", found[0]["synset"], basis=state["basis"])
    return page(
        request, "node.html", scope=scope, query=query, state=state, dataset=dataset, n_images=_N_IMAGES,
        n_classes_shown=_N_CLASSES, python=python, **context,
    )  # fmt: skip
