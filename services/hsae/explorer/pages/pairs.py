"""Parents and children among the latents: implication beside chance, how often the parent misses, absorption."""

from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.pairs import PairList, pair_list
from hsae.explorer.pages.empty import nothing_to_show
from hsae.explorer.parameters import PairsQuery, cursor_of, cursor_text
from hsae.explorer.scope import nodes_under, scope_of
from hsae.explorer.shown.copies import python_analysis
from hsae.explorer.shown.rendering import page, sources_of
from hsae.vocabulary.bases import BASES

PAGE_ROWS = 50
_CURSOR = (float, int, int, str, int, int, int)


def pairs_page(request: Request) -> Response:
    """A page of the pairs that fit."""
    query = PairsQuery.of(request.query_params)
    after = cursor_of(query.after, _CURSOR)
    with sources_of(request).reading() as session:
        scope = scope_of(session, query, may_be_several=True)
        if not scope.analyses:
            return nothing_to_show(request, session, scope)
        wanted = PairList(
            analyses=scope.wanted,
            basis=query.basis,
            source=query.source,
            under=None if query.under is None else nodes_under(session, query.under),
            parent=query.parent,
            child=query.child,
            confirmed=query.confirmed,
            after=after,  # type: ignore[arg-type]  # of these kinds by cursor_of
            limit=PAGE_ROWS,
        )
        question = pair_list(wanted)
        rows = question.ask(session)
        sql = question.as_sql(session)
    scope.name_saes(rows)
    following = None
    if len(rows) == PAGE_ROWS:
        last = rows[-1]
        places = ("n_child", "analysis_id", "source", "parent", "child", "seed")
        following = cursor_text(float(last["implication"]), *(last[name] for name in places))
    state = {
        "study": scope.study,
        "layer": "all" if scope.layer is None else scope.layer,
        "sae": scope.sae,
        "basis": None if query.basis == "sae" else query.basis,
        "source": query.source,
        "under": query.under,
        "parent": query.parent,
        "child": query.child,
        "confirmed": query.confirmed,
    }
    filters = ("source", "under", "parent", "child")
    python = python_analysis(
        scope, "pairs", **{name: state[name] for name in (*filters, "basis")}, confirmed=query.confirmed or None
    )
    return page(
        request, "pairs.html", scope=scope, query=query, state=state, rows=rows, bases=BASES, following=following,
        is_first=query.after is None, sql=sql, python=python,
    )  # fmt: skip
