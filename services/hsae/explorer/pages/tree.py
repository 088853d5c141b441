"""The taxonomy of a study's data set, every node with its best latent beside what the controls reach."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hsae.catalog.findings.browse.latents import images_of_latents
from hsae.catalog.findings.browse.nodes import best_at_nodes, best_in_tree, search_nodes
from hsae.explorer.pages.empty import dataset_of, nothing_to_show
from hsae.explorer.parameters import DEPTH, TreeQuery
from hsae.explorer.reading.taxonomies import DatasetTree
from hsae.explorer.scope import Scope, UnknownError, scope_of
from hsae.explorer.shown.addresses import node_address
from hsae.explorer.shown.copies import python_analysis
from hsae.explorer.shown.rendering import page, sources_of

_MAX_FOUND = 100
_MAX_LINES = 300
_N_IMAGES = 4
_NULLS = ("baseline_adjusted", "tree_adjusted", "q_node")
_NOTHING: list[None] = [None] * (1 + len(_NULLS))


def tree_page(request: Request) -> Response:
    """A part of the tree as lines that open and close, as a picture, or what a search found."""
    query = TreeQuery.of(request.query_params)
    sources = sources_of(request)
    with sources.reading() as session:
        scope = scope_of(session, query)
        if scope.chosen is None:
            return nothing_to_show(request, session, scope)
        dataset = dataset_of(session, scope.chosen.id)
        if query.q is not None:
            return _found(request, session, query, scope, dataset)
        tree = sources.taxonomies.of(session, dataset["dataset_id"])
        root = tree.nodes.get(tree.root if query.root is None else query.root)
        if root is None:
            raise UnknownError(f"The taxonomy of {dataset['dataset']} has no node of that number.")
        is_picture = query.view == "picture"
        zoomed = _zoomed(tree, root, query) if is_picture else None
        lines = [] if is_picture else _lines(tree, root["synset_id"], query)
        if is_picture:
            question = best_in_tree(scope.chosen.id, root["synset_id"], basis=query.basis)
        else:
            shown = [line["synset_id"] for line in lines]
            question = best_at_nodes(scope.chosen.id, shown, basis=query.basis)
        best = {row["synset_id"]: row for row in question.ask(session)}
        sql = question.as_sql(session)
    state = _state(query, scope)
    context: dict[str, Any] = {
        "scope": scope, "query": query, "state": state, "root": root, "lines": lines, "best": best, "sql": sql,
        "python": python_analysis(scope, "nodes", under=root["synset"], basis=_not_sae(query)),
        "is_cut": len(lines) == _MAX_LINES, "zoomed": zoomed,
        "picture": _picture(tree, best, root["synset_id"]) if is_picture else None,
    }  # fmt: skip
    return page(request, "tree.html", draws=is_picture, **context)


def _state(query: TreeQuery, scope: Scope) -> dict[str, Any]:
    """What every link of the page keeps."""
    assert scope.chosen is not None  # noqa: S101 -- narrows the type
    return {
        "study": scope.study, "layer": scope.chosen.layer, "sae": scope.chosen.sae,
        "basis": _not_sae(query), "root": query.root,
        "depth": None if query.depth == DEPTH else query.depth, "open": list(query.open),
        "view": None if query.view == "table" else query.view,
        "zoom": query.zoom if query.view == "picture" else None,
    }  # fmt: skip


def _not_sae(query: TreeQuery) -> str | None:
    return None if query.basis == "sae" else query.basis


def _found(request: Request, session: Session, query: TreeQuery, scope: Scope, dataset: Mapping[str, Any]) -> Response:
    """What a search found; a single name that is exactly the text is opened at once."""
    assert query.q is not None  # noqa: S101 -- narrows the type
    question = search_nodes(query.q, dataset["dataset_id"], limit=_MAX_FOUND)
    found = question.ask(session)
    keeps = {name: value for name, value in _state(query, scope).items() if name in ("study", "layer", "sae", "basis")}
    if found and found[0]["synset"] == query.q.strip():
        return RedirectResponse(node_address(found[0]["synset_id"], **keeps), status_code=303)
    best: dict[int, dict[str, Any]] = {}
    images: dict[int, Any] = {}
    if scope.chosen is not None:
        nodes = [row["synset_id"] for row in found]
        best = {row["synset_id"]: row for row in best_at_nodes(scope.chosen.id, nodes, basis=query.basis).ask(session)}
        latents = {row["latent"] for row in best.values()}
        shown = images_of_latents(scope.chosen.id, query.basis, sorted(latents)).ask(session)
        images = {row["latent"]: row["top_images"] for row in shown}
    context: dict[str, Any] = {
        "scope": scope, "query": query, "state": keeps, "found": found, "best": best, "images": images,
        "n_images": _N_IMAGES, "most": _MAX_FOUND, "dataset": dataset, "sql": question.as_sql(session),
        "python": python_analysis(scope, "search", query.q.strip()),
    }  # fmt: skip
    return page(request, "search.html", **context)


def _lines(tree: DatasetTree, root: int, query: TreeQuery) -> list[dict[str, Any]]:
    """The lines that are open: those down to the depth, and the hyponyms of what the URL opens.

    A node with several hypernyms has a line under each; its hyponyms follow the first.
    """
    opened, expanded = set(query.open), set()
    lines: list[dict[str, Any]] = []
    pending: list[tuple[int, int]] = [(root, 0)]
    while pending and len(lines) < _MAX_LINES:
        node, level = pending.pop()
        below = tree.below[node]
        is_again = node in expanded
        # What is in `open` is the opposite of what the depth says.
        is_open = bool(below) and not is_again and (level < query.depth) != (node in opened)
        toggled = [one for one in query.open if one != node]
        lines.append(
            {
                **tree.nodes[node], "level": level, "is_open": is_open, "is_again": is_again, "n_below": len(below),
                "toggled": toggled if node in opened else [*toggled, node],
            }
        )  # fmt: skip
        if is_open:
            expanded.add(node)
            pending.extend((one, level + 1) for one in reversed(below))
    return lines


def _zoomed(tree: DatasetTree, root: Mapping[str, Any], query: TreeQuery) -> Mapping[str, Any]:
    """The node at the top of the picture: the one of the URL, which lies under the root, else the root itself."""
    if query.zoom is None:
        return root
    found = next((row for row in tree.under(root["synset_id"]) if row["synset_id"] == query.zoom), None)
    if found is None:
        raise UnknownError(f"The tree under {root['synset']} has no node of that number to show.")
    return found


def _picture(tree: DatasetTree, best: Mapping[int, Mapping[str, Any]], root: int) -> dict[str, list[Any]]:
    """The nodes as an icicle draws them: each below its first hypernym, its colour the adjusted F1."""
    nodes = tree.under(root)
    there = {row["synset_id"] for row in nodes}
    columns: dict[str, list[Any]] = {
        "ids": [row["synset_id"] for row in nodes],
        "names": [row["synset"] for row in nodes],
        "parents": ["", *(next(one for one in row["hypernym_ids"] if one in there) for row in nodes[1:])],
        "classes": [row["n_classes"] for row in nodes],
        "f1": [],
        "hover": [],
    }
    for node in columns["ids"]:
        found = best.get(node)
        columns["f1"].append(None if found is None else _rounded(found["f1_adjusted"]))
        columns["hover"].append(_NOTHING if found is None else [found["latent"], *(_rounded(found[n]) for n in _NULLS)])
    return columns


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
