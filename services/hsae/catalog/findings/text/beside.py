"""Names by text beside latents: what a CLIP-like model calls them, and how sure that is."""

from hsae.catalog.queries.conditions import Row, contains

NAME_COLUMNS = (
    "text_name", "name_score", "name_margin", "name_runner_up", "name_height", "name_height_chance",
)  # fmt: skip
"""What tables show of a name, of the columns of `with_names`."""


def with_names(query: str, *, order: str) -> str:
    """A query whose rows also have the names of their latents by text; NULL where none was given.

    The added columns are `text_name`, `name_score` (cosine less the mean of the words), `name_margin` over
    `name_runner_up`, `name_height` (0: the name is the label; else the height of the lowest node above both),
    `name_height_chance` (the share of names that agree at this height with the words shuffled over their nodes),
    `name_method`, `name_model` and `name_synset_id`, the node that it means. Of several sets that name a latent the
    latest counts. Each row costs an index search.

    Args:
        query: selects `analysis_id`, `basis` and `latent`; its own order and limit come first.
        order: the order of its rows, by columns of the alias `v`.
    """
    return f"""
        SELECT v.*, t.*
        FROM ({query}) v
        LEFT JOIN LATERAL (
            SELECT x.word AS text_name, x.score AS name_score, x.margin AS name_margin,
                   x.runner_up AS name_runner_up, x.agreement_height AS name_height,
                   g.n_agree_shuffled / nullif(g.n_latents, 0) AS name_height_chance, s.method AS name_method,
                   s.text_model AS name_model, x.synset_id AS name_synset_id
            FROM name_set s JOIN latent_name x ON x.name_set_id = s.id
            LEFT JOIN name_agreement g ON g.name_set_id = s.id AND g.height = x.agreement_height
            WHERE s.analysis_id = v.analysis_id AND x.latent = v.latent AND v.basis = 'sae'
            ORDER BY s.id DESC LIMIT 1) t ON true
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours


def of_names(row: str, values: Row, named: str | None) -> str:
    """The condition that a latent's name, as `with_names` shows it, contains a text.

    Args:
        row: the alias of rows with `analysis_id`, `basis` and `latent`.
        values: values to bind are added here.
        named: the text; None: any name, also none.
    """
    if named is None:
        return ""
    values["named"] = contains(named.strip())
    return f"""
              AND {row}.basis = 'sae' AND ({row}.analysis_id, {row}.latent) IN (
                  SELECT s.analysis_id, x.latent FROM name_set s JOIN latent_name x ON x.name_set_id = s.id
                  WHERE x.word ILIKE :named AND NOT EXISTS (
                      SELECT FROM name_set o JOIN latent_name w ON w.name_set_id = o.id
                      WHERE o.analysis_id = s.analysis_id AND o.id > s.id AND w.latent = x.latent))"""  # noqa: S608 -- ours
