"""SAEs: those that were trained or measured here, and those of other programs that are registered."""

import difflib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hsae.catalog import ImportedSae
from hsae.catalog.queries.conditions import Row
from hsae.errors import UserError

_RECOVERED = (
    "loss_recovered_mean", "loss_recovered_zero", "cross_entropy", "cross_entropy_through_sae",
    "cross_entropy_mean_ablated", "cross_entropy_zero_ablated",
)  # fmt: skip
"""What reconstructions cost a readout behind the layer; of the tokens that the SAE was trained on."""
_SAES = """
    SELECT e.id, e.key, e.kind, e.expansion, e.n_latents, e.seed, e.n_steps, e.config, e.fvu, e.cosine, e.l0,
           e.holdout_dead_share, e.l0_quantiles, e.train_l0_quantiles, e.density_histogram, e.train_density_histogram,
           e.cknna, e.cknna_shuffled, e.train_cknna, e.decoder_coherence, e.decoder_coherence_max,
           e.decoder_coherence_random, e.class_accuracy, e.class_accuracy_reconstructed, e.class_accuracy_chance,
           e.train_fvu, e.train_cosine, e.train_l0, e.train_dead_share, e.dead_share, e.metrics,
           e.weights_sha256, e.created_at, e.job_id, t.layer, t.tokens, t.hook, t.id AS activation_set, m.name AS model,
           coalesce(t.d_model, m.d_model) AS d_model, d.name AS dataset, e.config -> 'imported' ->> 'name' AS imported,
           (SELECT max(a.id) FROM analysis a WHERE a.sae_id = e.id) AS analysis_id
    FROM sae e JOIN activation_set t ON t.id = e.activation_set_id
    JOIN model m ON m.id = t.model_id JOIN dataset d ON d.id = t.dataset_id
"""


def find_imported(session: Session, name: str) -> ImportedSae:
    """The registered SAE of another program with a name.

    Raises:
        UserError: there is none.
    """
    found = session.scalars(select(ImportedSae).where(ImportedSae.name == name)).one_or_none()
    if found is not None:
        return found
    known = session.scalars(select(ImportedSae.name).order_by(ImportedSae.id)).all()
    close = difflib.get_close_matches(name, known, n=1)
    raise UserError(
        f"there is no imported SAE {name}{f' (did you mean {close[0]}?)' if close else ''}: import one with"
        f" `hsae-admin sae import PATH`, or give its path as ./{name}"
    )


def list_imported(session: Session) -> list[Row]:
    """Every registered SAE of another program: name, origin, and how many SAEs it was measured as."""
    rows = session.scalars(select(ImportedSae).order_by(ImportedSae.id)).all()
    query = text("SELECT config -> 'imported' ->> 'key' AS key, count(*) AS n FROM sae GROUP BY 1")
    uses = {row.key: row.n for row in session.execute(query)}
    return [
        {
            "name": row.name,
            "kind": row.config["kind"],
            **{field: row.config["imported"].get(field) for field in _ORIGIN},
            "source": row.source,
            "key": row.key,
            "n_measured": uses.get(row.key, 0),
            "created_at": row.created_at,
        }
        for row in rows
    ]


_ORIGIN = ("format", "d_model", "n_latents", "layer", "hook_point", "model", "tokens", "notes")


def list_saes(session: Session) -> list[Row]:
    """Every SAE of an activation set, by number."""
    return [dict(row) for row in session.execute(text(f"{_SAES} ORDER BY e.id")).mappings()]


def show_saes(session: Session, numbers: Sequence[int]) -> list[Row]:
    """SAEs by number, in this order, with the headline numbers of their latest analysis and the loss recovered.

    Raises:
        UserError: there is none with one of the numbers.
    """
    query = text(f"{_SAES} WHERE e.id = ANY(:ids)")
    found = {row["id"]: dict(row) for row in session.execute(query, {"ids": list(numbers)}).mappings()}
    for number in numbers:
        if number not in found:
            raise UserError(f"there is no SAE {number}: `hsae-admin sae list` lists them")
    return [
        found[number] | _scores(session, found[number]["analysis_id"]) | _recovered(session, number)
        for number in numbers
    ]


def _scores(session: Session, analysis_id: int | None) -> dict[str, Any]:
    """Coherence above chance and adjusted F1 of inner nodes, of the SAE's own latents."""
    if analysis_id is None:
        return {"coherence_excess": None}
    query = text("SELECT coherence_excess FROM layer_score WHERE analysis_id = :id AND basis = 'sae'")
    found = session.execute(query, {"id": analysis_id}).mappings().one_or_none()
    return {"coherence_excess": None if found is None else found["coherence_excess"]}


def _recovered(session: Session, number: int) -> Row:
    """The loss recovered by the latest interventions on an SAE alone: by the probe, else by another readout."""
    query = text(f"""
        SELECT r.readout AS loss_recovered_by, {", ".join(f"r.{name}" for name in _RECOVERED)}
        FROM intervention_readout r JOIN intervention_set s ON s.id = r.intervention_set_id
        JOIN analysis a ON a.id = s.analysis_id
        WHERE a.sae_id = :id AND s.with_analyses IS NULL AND s.config ->> 'tokens' = 'own'
          AND r.cross_entropy IS NOT NULL
        ORDER BY r.readout <> 'probe', s.id DESC, r.readout LIMIT 1
    """)  # noqa: S608 -- names of columns, ours
    found = session.execute(query, {"id": number}).mappings().one_or_none()
    return dict.fromkeys(("loss_recovered_by", *_RECOVERED)) if found is None else dict(found)
