"""Which study, layer and SAE a page is about: what its URL says, else the latest study and its deepest layer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.analysis_settings import analysis_settings
from hsae.catalog.queries.known_names import find_nodes, study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.studies import latest_scored_study, latest_study, no_study, study_name
from hsae.errors import UserError
from hsae.explorer.parameters import MAX_ID, BadAddressError, ScopeQuery
from hsae.pipeline.exports.analysis_names import is_in_sample, names_of


class UnknownError(UserError):
    """There is nothing of that number or name: a page of 404."""


@dataclass(frozen=True, slots=True)
class AnalysisChoice:
    """An analysis of a study, by its layer, and its SAE by its kind and by its name among those of the study.

    In-sample: the images that trained the SAE chose its latents and are scored.
    """

    id: int
    layer: int
    sae: str
    kind: str
    in_sample: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What a page is about.

    Attributes:
        study: its number; None while there is none.
        study_name: its name.
        analyses: all analyses of the study, by layer and SAE.
        chosen: the analysis of the page; None where it is about several, or where there is none.
        studies: numbers and names of the studies with analyses, the latest first.
        layer: the layer that the page is about; None for all.
        sae: the SAE that the page is about; None for all.
    """

    study: int | None = None
    study_name: str = ""
    analyses: tuple[AnalysisChoice, ...] = ()
    chosen: AnalysisChoice | None = None
    studies: tuple[tuple[int, str], ...] = ()
    layer: int | None = None
    sae: str | None = None

    @property
    def layers(self) -> list[int]:
        """The layers that the study has."""
        return sorted({one.layer for one in self.analyses})

    @property
    def saes(self) -> list[str]:
        """The SAEs of the study by their names."""
        return list(dict.fromkeys(one.sae for one in self.analyses))

    @property
    def wanted(self) -> list[int]:
        """The analyses whose rows the page shows."""
        if self.chosen is not None:
            return [self.chosen.id]
        return [one.id for one in self.analyses if self.layer in (None, one.layer) and self.sae in (None, one.sae)]

    def name_saes(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add to rows with an `analysis_id` of the study the name of its SAE, as `sae`."""
        names = {one.id: one.sae for one in self.analyses}
        for row in rows:
            row["sae"] = names[row["analysis_id"]]

    @property
    def in_sample(self) -> str:
        """What is in-sample: `all` of what the page shows, `some` of it, or nothing."""
        wanted = set(self.wanted)
        marks = {one.in_sample for one in self.analyses if one.id in wanted}
        return "" if True not in marks else ("all" if marks == {True} else "some")


def scope_of(session: Session, query: ScopeQuery, *, may_be_several: bool = False) -> Scope:
    """The study, and the analysis in it, that a URL names.

    Args:
        session: of the catalog.
        query: the URL's parameters.
        may_be_several: whether the page may be about several analyses: `layer=all` stands for all layers, no SAE for
            all SAEs. Otherwise the first SAE of the layer is chosen.

    Raises:
        UnknownError: there is no such study, or the study has no such layer or SAE.
    """
    study = query.study
    if study is None:
        found = latest_scored_study(session, AnalysisFilter()) or latest_study(session)
        if found is None:
            return Scope()
        study = int(found["id"])
    whole = study_scope(session, study)
    if not whole.analyses:
        return whole
    if query.sae is not None and query.sae not in whole.saes:
        raise UnknownError(f"Study {study} has no SAE of that name.")
    if query.layer == "all" and may_be_several:
        return replace(whole, sae=query.sae)
    return _choose(whole, query, may_be_several=may_be_several)


def nodes_under(session: Session, name: str) -> list[int]:
    """The nodes that the parameter `under` names.

    Raises:
        BadAddressError: there is no such node.
    """
    try:
        return find_nodes(session, [name.strip()])
    except UserError as error:
        raise BadAddressError(f"under: {error}") from error


def study_scope(session: Session, study: int) -> Scope:
    """A study with all of its analyses, none chosen.

    Raises:
        UnknownError: there is no such study.
    """
    name = study_name(session, study) if study <= MAX_ID else None
    if name is None:
        raise UnknownError(f"{no_study(study).capitalize()}.")
    analyses = study_analyses(session, study)
    settings = analysis_settings(session, analyses)
    names = names_of(settings)
    found = sorted(
        (_choice(one, settings[one], names[one]) for one in analyses),
        key=lambda one: (one.layer, one.sae, one.id),
    )
    return Scope(study, name, tuple(found), studies=studies_with_analyses(session))


def analysis_scope(session: Session, analysis: int) -> Scope:
    """The latest study with an analysis, and the analysis.

    Raises:
        UnknownError: there is no such analysis.
    """
    query = """
        SELECT a.id, (SELECT s.id FROM study s JOIN study_job l ON l.study_id = s.id WHERE l.job_id = a.job_id
                      ORDER BY s.submitted_at DESC, s.id DESC LIMIT 1) AS study
        FROM analysis a WHERE a.id = :id
    """
    found = session.execute(text(query), {"id": analysis}).one_or_none()
    if found is None:
        raise UnknownError(f"There is no analysis {analysis}.")
    if found.study is None:  # its study was removed; the analysis stays
        settings = analysis_settings(session, [analysis])
        alone = _choice(analysis, settings[analysis], names_of(settings)[analysis])
        return _with(Scope(analyses=(alone,), studies=studies_with_analyses(session)), alone)
    whole = study_scope(session, found.study)
    (chosen,) = [one for one in whole.analyses if one.id == analysis]
    return _with(whole, chosen)


def studies_with_analyses(session: Session, dataset: int | None = None) -> tuple[tuple[int, str], ...]:
    """Numbers and names of the studies that have analyses (of a data set), the latest first."""
    query = """
        SELECT s.id, s.name FROM study s
        WHERE EXISTS (SELECT FROM study_job l JOIN analysis a ON a.job_id = l.job_id
                      WHERE l.study_id = s.id AND a.dataset_id = coalesce(CAST(:dataset AS bigint), a.dataset_id))
        ORDER BY s.submitted_at DESC, s.id DESC LIMIT 200
    """
    return tuple((row.id, row.name) for row in session.execute(text(query), {"dataset": dataset}))


def _choose(whole: Scope, query: ScopeQuery, *, may_be_several: bool) -> Scope:
    layer = whole.layers[-1] if query.layer in (None, "all") else query.layer
    if layer not in whole.layers:
        raise UnknownError(f"Study {whole.study} has no analysis of layer {layer}.")
    fitting = [one for one in whole.analyses if one.layer == layer and query.sae in (None, one.sae)]
    if not fitting:
        raise UnknownError(f"Study {whole.study} has no analysis of layer {layer} with that SAE.")
    if may_be_several and len(fitting) > 1:
        return replace(whole, layer=layer, sae=query.sae)
    return _with(whole, fitting[0])


def _with(whole: Scope, chosen: AnalysisChoice) -> Scope:
    return replace(whole, chosen=chosen, layer=chosen.layer, sae=chosen.sae)


def _choice(number: int, settings: Mapping[str, Any], name: str) -> AnalysisChoice:
    return AnalysisChoice(number, settings["layer"], name, settings["sae"]["kind"], is_in_sample(settings))
