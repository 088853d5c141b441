"""Pages of a catalog, or a study, in which there is nothing to show yet; and the data set of an analysis."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.queries.studies import show_study
from hsae.explorer.scope import Scope
from hsae.explorer.shown.rendering import message_page


def nothing_to_show(request: Request, session: Session, scope: Scope) -> Response:
    """Why there is nothing, and what to do."""
    if scope.study is None:
        return message_page(
            request,
            "Nothing is analysed yet",
            "`hsae-admin submit --layer 8` makes a study of your images; `hsae-admin demo` shows one in minutes.",
        )
    study = show_study(session, scope.study)
    states = ", ".join(f"{n} {state}" for state, n in sorted(study["jobs"].items())) or "none"
    errors = [f"{job['title']}: {job['error']}" for job in study["job_list"] if job["error"]]
    return message_page(
        request,
        f"Study {scope.study} has no analysis yet",
        f"Jobs: {states}. `hsae-admin jobs watch {scope.study}` shows their progress.",
        *errors[:3],
    )


def dataset_of(session: Session, analysis: int) -> dict[str, Any]:
    """The data set that an analysis scored: its number, its name, and the analysis' own objects."""
    query = """
        SELECT i.dataset_id, i.dataset, i.analysis_key, a.activations_sha256
        FROM analysis_input i JOIN analysis a ON a.id = i.analysis_id WHERE i.analysis_id = :id
    """
    return dict(session.execute(text(query), {"id": analysis}).mappings().one())
