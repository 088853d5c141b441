"""Causal labels beside latents: what a readout loses at a latent's label when the latent alone is taken away."""

from hsae.catalog.queries.conditions import Row
from hsae.vocabulary.readouts import SHOWN_READOUTS

_SHOWN = ", ".join(f"'{name}'" for name in SHOWN_READOUTS)
READOUTS = f"ARRAY[{_SHOWN}]"
"""Which readout is shown of several: those with probabilities first."""
_OF_LATENT = f"""
            FROM intervention_set s JOIN latent_effect x ON x.intervention_set_id = s.id
            WHERE s.analysis_id = {{row}}.analysis_id AND x.latent = {{row}}.latent AND {{row}}.basis = 'sae'
            ORDER BY array_position({READOUTS}, x.readout), s.id DESC LIMIT 1"""

_MEASURED = """
    SELECT s.analysis_id, x.latent FROM intervention_set s JOIN latent_effect x ON x.intervention_set_id = s.id"""
"""Few latents have an effect. The server keeps them in a hash, and searches for the latest one of these alone."""


def with_label_effects(query: str, *, order: str) -> str:
    """A query whose rows also have the effects of their latents; NULL where none was measured.

    The added columns are `label_effect` with its interval (`effect_low`, `effect_high`), `effect_unit`, `effect_p`,
    `effect_q`, what random latents of equal firing rate do (`effect_chance`, `effect_chance_high`), `is_used` and
    `effect_readout`. Of several sets the latest counts. Each row costs an index search.

    Args:
        query: selects `analysis_id`, `basis` and `latent`; its own order and limit come first.
        order: the order of its rows, by columns of the alias `v`.
    """
    return f"""
        SELECT v.*, u.*
        FROM ({query}) v
        LEFT JOIN LATERAL (
            SELECT x.effect AS label_effect, x.effect_low, x.effect_high, x.unit AS effect_unit, x.p AS effect_p,
                   x.q AS effect_q, x.chance AS effect_chance, x.chance_high AS effect_chance_high, x.is_used,
                   x.readout AS effect_readout{_OF_LATENT.format(row="v")}) u ON true
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours


def of_effects(row: str, values: Row, *, only_used: bool, min_effect: float | None) -> str:
    """Conditions on the effect of a latent, as `with_label_effects` shows it.

    Args:
        row: the alias of rows with `analysis_id`, `basis` and `latent`.
        values: values to bind are added here.
        only_used: whether the latent must be used for its label.
        min_effect: the least effect; None: any, also none.
    """
    if not only_used and min_effect is None:
        return ""
    wanted = ["u.is_used"] if only_used else []
    if min_effect is not None:
        wanted.append("u.effect >= :min_effect")
        values["min_effect"] = min_effect
    found = _OF_LATENT.format(row=row)
    latest = f"EXISTS (SELECT FROM (SELECT x.is_used, x.effect{found}) u WHERE {' AND '.join(wanted)})"
    return f" AND CASE WHEN ({row}.analysis_id, {row}.latent) IN ({_MEASURED}) THEN {latest} ELSE false END"
