"""Looks up the names of a filter in the catalog; the error for an unknown name lists similar ones."""

import difflib
from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.studies import require_study
from hsae.errors import UserError

_N_NAMED = 12


def synset_ids(session: Session, names: Sequence[str]) -> list[int]:
    """Ids of the synsets with these names or wnids that exist; taxonomies may share a name."""
    found = session.execute(
        text("SELECT id FROM synset WHERE name = ANY(:names) OR wnid = ANY(:names) ORDER BY id"),
        {"names": list(names)},
    )
    return list(found.scalars())


def find_nodes(session: Session, names: Sequence[str]) -> list[int]:
    """Ids of the nodes with these names, all of which must exist: dog.n.01, n02084071, or a node of a custom tree.

    Raises:
        UserError: no data set's taxonomy has a name.
    """
    ids: list[int] = []
    for name in names:
        found = synset_ids(session, [name])
        if not found:
            raise UserError(f"no data set has a node {name}{_nodes_like(session, name)}")
        ids += found
    return ids


def require_nodes(session: Session, dataset_id: int, names: Sequence[str]) -> None:
    """Refuse nodes of which a data set has no class.

    Raises:
        UserError: no taxonomy has a name, or the data set has no class at or under a node; one line with every mistake.
    """
    problems = []
    for name in names:
        try:
            ids = find_nodes(session, [name])
        except UserError as error:
            problems.append(str(error))
            continue
        query = "SELECT EXISTS (SELECT FROM dataset_node WHERE dataset_id = :dataset AND synset_id = ANY(:ids))"
        if not session.execute(text(query), {"dataset": dataset_id, "ids": ids}).scalar_one():
            query = "SELECT name FROM dataset WHERE id = :dataset"
            dataset = session.execute(text(query), {"dataset": dataset_id}).scalar_one()
            problems.append(
                f"{dataset} has no class at or under {name}: `hsae-admin taxonomy show {name}` shows those around it"
            )
    if problems:
        raise UserError("; ".join(problems))


def require_known(session: Session, wanted: AnalysisFilter) -> None:
    """Refuse a filter that no analysis could ever fit.

    Raises:
        UserError: an analysis, layer, backbone, data set or kind of SAE has no scores.
    """
    named = (wanted.layer, wanted.model, wanted.dataset, wanted.sae_kind)
    if not wanted.analysis_ids and all(name is None for name in named):
        return
    rows = session.execute(text("SELECT analysis_id, layer, model, dataset, sae_kind FROM analysis_input")).all()
    if not rows:
        raise UserError("nothing is analysed yet: `hsae-admin submit` makes an analysis")
    analyses = sorted({row.analysis_id for row in rows})
    for number in wanted.analysis_ids or ():
        if number not in analyses:
            raise UserError(
                f"there is no analysis {number}, only {_some(analyses)}: see `hsae-admin results layers --study all`"
            )
    layers = sorted({row.layer for row in rows})
    if wanted.layer is not None and wanted.layer not in layers:
        raise UserError(
            f"no analysis is of layer {wanted.layer}, only of {_some(layers)}: `hsae-admin submit` makes others"
        )
    kinds = sorted({row.sae_kind for row in rows})
    if wanted.sae_kind is not None and wanted.sae_kind not in kinds:
        raise UserError(
            f"no analysis is of a {wanted.sae_kind} SAE, only of {_some(kinds)}: `hsae-admin submit` makes others"
        )
    for what, name, known in (
        ("model", wanted.model, {row.model for row in rows}),
        ("data set", wanted.dataset, {row.dataset for row in rows}),
    ):
        if name is not None and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5) or sorted(known)
            raise UserError(f"no analysis is of the {what} {name}; did you mean {_some(near)}?")


def study_analyses(session: Session, study_id: int) -> list[int]:
    """Ids of the analyses of a study that exist already.

    Raises:
        UserError: there is no such study.
    """
    require_study(session, study_id)
    rows = session.execute(
        text(
            "SELECT a.id FROM analysis a JOIN study_job s ON s.job_id = a.job_id WHERE s.study_id = :id ORDER BY a.id"
        ),
        {"id": study_id},
    )
    return list(rows.scalars())


def _nodes_like(session: Session, name: str) -> str:
    """The end of the message: the senses of a word, otherwise similar names."""
    word = name.strip().lower().replace(" ", "_")
    known = session.execute(text("SELECT name, lemmas FROM synset ORDER BY name")).all()
    senses = [row.name for row in known if word in {lemma.lower().replace(" ", "_") for lemma in row.lemmas}]
    near = senses or difflib.get_close_matches(word, [row.name for row in known], n=4, cutoff=0.7)
    return f"; did you mean {_some(near)}?" if near else ": `hsae-admin taxonomy show NODE` finds names"


def _some(values: Collection[object]) -> str:
    """The first few, and how many more there are."""
    named = ", ".join(str(value) for value in list(values)[:_N_NAMED])
    return named if len(values) <= _N_NAMED else f"{named} and {len(values) - _N_NAMED} more"
