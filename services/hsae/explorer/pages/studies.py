"""The studies with their headline, and one study by its layers."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.browse.studies import HEADLINE, METRICS, layers_of_study, studies_with_headline
from hsae.catalog.findings.study_intervals import comparison_trends, find_comparison
from hsae.catalog.queries.studies import list_studies, show_study
from hsae.errors import UserError
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES
from hsae.explorer.scope import study_scope
from hsae.explorer.shown.copies import python_studies, python_study
from hsae.explorer.shown.numbers import basis_name
from hsae.explorer.shown.rendering import page, sources_of
from hsae.pipeline.exports.analysis_names import in_sample_analyses
from hsae.pipeline.kinds.setting_labels import seedless_label
from hsae.report.charts.headline import MEASURES, headline_figure
from hsae.report.interval_table import verdict
from hsae.sae.config import SaeConfig

VERDICTS = {
    "yes": "rises with depth",
    "it falls": "falls with depth",
    "not shown": "no rise with depth is shown",
    "unknown": "unknown",
}


def studies_page(request: Request) -> Response:
    """All studies, the latest first."""
    with sources_of(request).reading() as session:
        question = studies_with_headline()
        rows = question.ask(session)
        known = {study["id"]: study for study in list_studies(session)}
        sql = question.as_sql(session)
        in_sample = in_sample_analyses(session, {row["analysis_id"] for row in rows} - {None})
    studies = []
    for number, of_study in groupby(rows, key=lambda row: row["study"]):
        trends = [
            row | {"verdict": VERDICTS[verdict(row)], "in_sample": row["analysis_id"] in in_sample}
            for row in of_study
            if row["analysis_id"] is not None
        ]
        studies.append(known[number] | {"trends": trends, "state": _state(known[number]["jobs"])})
    return page(
        request, "studies.html", studies=studies, sql=sql, python=python_studies(), max_mib=MAX_UPLOAD_BYTES >> 20
    )


def study_page(request: Request) -> Response:
    """The layers of one study, each beside its nulls, and whether structure rises with depth."""
    number = request.path_params["study"]
    with sources_of(request).reading() as session:
        scope = study_scope(session, number)
        study = show_study(session, number)
        question = layers_of_study(scope.wanted)
        rows = question.ask(session)
        trends, missing = _trends(session, number)
        sql = question.as_sql(session)
    names = {one.id: one.sae for one in scope.analyses}
    for row in rows:
        row["sae"] = names[row["analysis_id"]]
    groups = [(sae, list(of_sae)) for sae, of_sae in groupby(rows, key=lambda row: row["sae"])]
    context: dict[str, Any] = {
        "study": study | {"state": _state(study["jobs"])}, "scope": scope, "groups": groups, "trends": trends,
        "missing": missing, "sql": sql, "python": python_study(scope, "layers"),
        "figures": _figures(rows),
        "failed": [job for job in study["job_list"] if job["state"] in ("failed", "cancelled")],
    }  # fmt: skip
    return page(request, "study.html", draws=bool(context["figures"]), **context)


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The headline numbers over the layers, as the report draws them; none where there is one layer."""
    if len({row["layer"] for row in rows}) < 2:
        return []
    measures = {measure.metric: measure for measure in MEASURES.values()}
    figures = []
    for name, metric in METRICS.items():
        points = [
            {
                "analysis_id": row["analysis_id"], "layer": row["layer"], "sae": row["sae"], "value": row[name],
                "low": row[f"{name}_low"], "high": row[f"{name}_high"], "baseline": row[f"{name}_baseline_value"],
                "baseline_name": basis_name(row[f"{name}_baseline"]), "tree": row[f"{name}_tree"],
                "tree_q975": row[f"{name}_tree_q975"],
            }
            for row in rows
        ]  # fmt: skip
        measure = measures[metric]
        figures.append({"title": measure.title, "about": measure.about, "drawn": headline_figure(points, measure)})
    return figures


def _trends(session: Session, study: int) -> tuple[list[dict[str, Any]], str | None]:
    """The slopes of what the page shows, or why there are none."""
    try:
        comparison = find_comparison(session, study)
    except UserError as error:
        return [], str(error)
    rows = [row for row in comparison_trends(session, comparison["id"]) if row["metric"] in METRICS.values()]
    for row in rows:
        row["verdict"] = VERDICTS[verdict(row)]
        row["is_headline"] = row["metric"] == HEADLINE
        row["sae"] = seedless_label(SaeConfig.parse(row["sae"]))
    return sorted(rows, key=lambda row: not row["is_headline"]), None


def _state(jobs: dict[str, int]) -> str:
    """What became of a study's jobs, in a few words."""
    if not jobs:
        return "no jobs"
    if set(jobs) == {"succeeded"}:
        return "done"
    return ", ".join(f"{n} {state}" for state, n in sorted(jobs.items()))
