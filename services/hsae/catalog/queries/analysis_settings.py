"""The settings of analyses: everything, except the layer, in which two of them can differ."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.split_config import SCORE_DATASET, scored_half, split_label

# Which activation set compares the images is not a setting of its own: of one request it differs from layer to layer.
_NOT_A_SETTING = {"embeddings"}


def analysis_settings(session: Session, analysis_ids: Collection[int]) -> dict[int, Row]:
    """By analysis its `layer`, and the settings of its `sae`, its `activations` and its `scoring`, each by name.

    Of images in two halves `half` says which one is scored, for people; of others it is None.

    The data set of the activations is the one that trained the SAE; `score_dataset` is that of the scored images where
    it is another one, else None.
    """
    query = """
        SELECT i.analysis_id AS id, i.layer, i.sae_kind AS kind, i.expansion, i.sae_seed AS seed, i.sae_config AS sae,
               i.scoring, i.split, i.model, left(i.revision, 12) AS revision, i.tokens, i.dtype, i.n_views,
               CASE WHEN i.split ? 'score_dataset' THEN t.name ELSE i.dataset END AS dataset,
               j.request -> 'extraction' AS extraction
        FROM analysis_input i JOIN activation_set s ON s.id = i.activation_set_id JOIN job j ON j.id = s.job_id
        JOIN dataset t ON t.id = s.dataset_id
        WHERE i.analysis_id = ANY(:ids) ORDER BY i.analysis_id
    """
    found = {}
    for row in session.execute(text(query), {"ids": list(analysis_ids)}).mappings():
        scoring = {name: value for name, value in row["scoring"].items() if name not in _NOT_A_SETTING}
        scoring["split"] = split_label(row["split"])
        activations = {name: row[name] for name in ("model", "revision", "dataset", "tokens", "dtype", "n_views")}
        extraction = dict(row["extraction"] or {})
        found[row["id"]] = {
            "layer": row["layer"],
            "sae": {name: row[name] for name in ("kind", "expansion")} | dict(row["sae"]) | {"seed": row["seed"]},
            "activations": activations | _named("extraction", extraction, {"seed"}),
            "scoring": _named("scoring", scoring, set(scoring) & {"seed", "format"}),
            "score_dataset": (row["split"] or {}).get(SCORE_DATASET),
            "half": scored_half(row["split"]),
        }
    return found


def _named(part: str, settings: Row, ambiguous: set[str]) -> Row:
    """The settings; those that a reader could take for the SAE's get the name of their part."""
    return {f"{part}.{name}" if name in ambiguous else name: value for name, value in settings.items()}
