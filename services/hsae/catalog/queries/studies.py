"""Queries about studies: which exist, what one consists of, and which is the latest."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.errors import UserError

Kept = Literal["scores", "names", "interventions", "maps"]
"""What is kept of an analysis: its scores, which all have, or what only some studies ask for."""
_TABLES: dict[Kept, str] = {"names": "name_set", "interventions": "intervention_set", "maps": "map_set"}

# Of a study that was submitted without a data set's name, or whose data set has another one now, its jobs know it.
_STUDIES = """
    SELECT s.id, s.name, s.created_at, s.submitted_at, s.request,
           coalesce((SELECT d.name FROM dataset d WHERE d.name = s.request ->> 'dataset'), made.dataset,
                    s.request ->> 'dataset') AS dataset,
           made.layers, jobs.states
    FROM study s
    CROSS JOIN LATERAL (
        SELECT max(d.name) AS dataset, array_agg(DISTINCT t.layer ORDER BY t.layer) AS layers
        FROM study_job l
        JOIN job j ON j.id = l.job_id AND j.kind = 'analyze'
        JOIN activation_set t ON t.key = j.request ->> 'activation_key'
        LEFT JOIN dataset d ON d.id::text = j.request -> 'dataset' ->> 'id'
        WHERE l.study_id = s.id
    ) made
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(c.state, c.n), '{}') AS states
        FROM (SELECT j.state, count(*) AS n FROM study_job l JOIN job j ON j.id = l.job_id
              WHERE l.study_id = s.id GROUP BY j.state) c
    ) jobs
"""


def no_study(which: int | str) -> str:
    """What every program says of a number or name that no study has; what the user can do follows."""
    return f"there is no study {which!r}"


def study_name(session: Session, study_id: int) -> str | None:
    """The name of a study; None if there is none of that number."""
    name: str | None = session.execute(text("SELECT name FROM study WHERE id = :id"), {"id": study_id}).scalar()
    return name


def require_study(session: Session, study_id: int) -> None:
    """Refuse a number that no study has; every command that takes a study uses this message.

    Raises:
        UserError: there is no such study.
    """
    if study_name(session, study_id) is None:
        raise UserError(f"{no_study(study_id)}: see `hsae-admin studies list`")


def latest_study(session: Session) -> Row | None:
    """Number and name of the study that was submitted last."""
    row = session.execute(text("SELECT id, name FROM study ORDER BY submitted_at DESC, id DESC LIMIT 1")).mappings()
    return next((dict(found) for found in row), None)


def latest_compared_study(session: Session) -> Row | None:
    """Number and name of the latest study whose comparison exists; if there is none, of the latest study."""
    query = """
        SELECT s.id, s.name FROM study s
        WHERE EXISTS (SELECT FROM study_job l JOIN comparison c ON c.job_id = l.job_id WHERE l.study_id = s.id)
        ORDER BY s.submitted_at DESC, s.id DESC LIMIT 1
    """
    return next((dict(row) for row in session.execute(text(query)).mappings()), None) or latest_study(session)


def latest_scored_study(
    session: Session, wanted: AnalysisFilter, *, nodes: Sequence[int] | None = None, kept: Kept = "scores"
) -> Row | None:
    """Number and name of the latest study with an analysis that fits; None if no study has one.

    Args:
        session: a database session.
        wanted: which analyses fit.
        nodes: ids of synsets; the analysis' data set must have one of them. None allows all.
        kept: what there must be of the analysis.
    """
    values: Row = {}
    where = of_analyses(wanted, values)
    if nodes is not None:
        where += (
            " AND EXISTS (SELECT FROM dataset_node n WHERE n.dataset_id = v.dataset_id AND n.synset_id = ANY(:nodes))"
        )
        values["nodes"] = list(nodes)
    if kept in _TABLES:
        where += f" AND EXISTS (SELECT FROM {_TABLES[kept]} x WHERE x.analysis_id = v.analysis_id)"
    query = f"""
        SELECT s.id, s.name FROM study s
        WHERE EXISTS (
            SELECT FROM study_job l JOIN analysis_input v ON v.job_id = l.job_id WHERE l.study_id = s.id{where})
        ORDER BY s.submitted_at DESC, s.id DESC LIMIT 1
    """  # noqa: S608 -- conditions name our columns, values are bound
    return next((dict(row) for row in session.execute(text(query), values).mappings()), None)


def list_studies(session: Session) -> list[Row]:
    """Every study, the latest last: id, name, model, dataset, layers, n_saes, jobs by state, and when."""
    rows = session.execute(text(f"{_STUDIES} ORDER BY s.submitted_at, s.id")).mappings()
    return [_study(dict(row)) for row in rows]


def show_study(session: Session, study_id: int) -> Row:
    """One study with its request, its jobs, its analyses with their artifacts, and its comparison.

    Raises:
        UserError: there is no such study.
    """
    require_study(session, study_id)
    found = session.execute(text(f"{_STUDIES} WHERE s.id = :id"), {"id": study_id}).mappings().one()
    study = _study(dict(found)) | {"request": found["request"]}
    jobs = """
        SELECT j.id, j.kind, j.state, j.title, j.error, l.reused
        FROM study_job l JOIN job j ON j.id = l.job_id WHERE l.study_id = :id ORDER BY j.id
    """
    analyses = """
        SELECT j.id AS job, j.state, a.id AS analysis, j.key AS analysis_key, tr.id AS train_job,
               tr.state AS train_state, e.id AS sae, coalesce(e.key, j.request ->> 'sae_key') AS sae_key,
               coalesce(e.config, tr.request -> 'sae') AS sae_config, t.id AS activation_set, t.key AS activation_key,
               coalesce((j.request -> 'split' ->> 'fold')::integer, 0) AS fold, t.layer, t.job_id AS extract_job,
               t.manifest_sha256 IS NOT NULL AS is_extracted, t.dropped_at, e.fvu
        FROM study_job l
        JOIN job j ON j.id = l.job_id AND j.kind = 'analyze'
        LEFT JOIN analysis a ON a.job_id = j.id
        LEFT JOIN sae e ON e.id = a.sae_id OR e.key = j.request ->> 'sae_key'
        LEFT JOIN job tr ON tr.id = e.job_id OR tr.key = j.request ->> 'sae_key'
        LEFT JOIN activation_set t ON t.id = e.activation_set_id OR t.key = j.request ->> 'activation_key'
        WHERE l.study_id = :id ORDER BY t.layer, j.id
    """
    comparison = """
        SELECT j.id AS job, j.state, c.id AS comparison, j.key AS comparison_key
        FROM study_job l JOIN job j ON j.id = l.job_id AND j.kind = 'compare' LEFT JOIN comparison c ON c.job_id = j.id
        WHERE l.study_id = :id
    """
    parts = {}
    for name, query in (("job_list", jobs), ("analyses", analyses), ("comparisons", comparison)):
        rows = session.execute(text(query), {"id": study_id}).mappings()
        parts[name] = [dict(row) for row in rows]
    compared = parts.pop("comparisons")
    return study | parts | {"comparison": compared[0] if compared else None}


def _study(row: Row) -> Row:
    request = row["request"]
    layers = request.get("layers")
    return {
        "id": row["id"],
        "name": row["name"],
        "model": request.get("model"),
        "random_init": request.get("random_init"),
        "dataset": row["dataset"],
        "score_dataset": request.get("score_dataset"),
        "layers": layers if isinstance(layers, list) else row["layers"],
        "n_saes": None if "saes" not in request else len({str(sae) for sae in request["saes"]}),
        "jobs": row["states"],
        "created_at": row["created_at"],
        "submitted_at": row["submitted_at"],
    }
