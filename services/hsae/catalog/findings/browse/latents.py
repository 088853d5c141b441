"""Latents by their numbers, one page after the other, and one latent with everything around it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hsae.catalog.findings.browse.adjusted import beside_chance, beside_controls
from hsae.catalog.findings.browse.question import Question
from hsae.catalog.findings.interventions.used import of_effects, with_label_effects
from hsae.catalog.findings.text.beside import of_names, with_names
from hsae.catalog.queries.conditions import Row, contains
from hsae.vocabulary.bases import BASES

SORTS = {
    "f1_adjusted": "l.label_f1_adjusted",
    "f1": "l.label_f1",
    "coherence": "l.coherence_excess",
    "density": "l.density",
    "activation": "l.max_activation",
    "stability": "s.stability",
}
"""By which number latents can be sorted, always the greatest first; those without it are left out."""

_STABILITY = """
            LEFT JOIN LATERAL (
                SELECT t.stability, t.chance FROM latent_stability t
                WHERE t.analysis_id = l.analysis_id AND t.latent = l.latent AND l.basis = 'sae'
                ORDER BY t.comparison_id DESC LIMIT 1) s ON true"""

# The same for all latents of the analyses at once: each analysis' latest comparison is looked for once.
_SORTED_STABILITY = """
            JOIN (SELECT a.id AS analysis_id, (
                      SELECT c.id FROM comparison c
                      WHERE EXISTS (SELECT FROM latent_stability t WHERE t.comparison_id = c.id
                                    AND t.analysis_id = a.id)
                      ORDER BY c.id DESC LIMIT 1) AS comparison_id
                  FROM unnest(CAST(:analyses AS bigint[])) a(id)) j ON j.analysis_id = l.analysis_id
            JOIN latent_stability s ON s.comparison_id = j.comparison_id AND s.analysis_id = l.analysis_id
                 AND s.latent = l.latent AND l.basis = 'sae'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentList:
    """Which latents, in which order, from where on; a number that is None allows all.

    Attributes:
        analyses: those of these analyses.
        basis: `sae`, or a baseline with columns of its own.
        under: ids of synsets; the label is at or below one of them.
        words: the label's name or words, or a class under it by its label, contain them.
        least: the least values by the names of `SORTS`.
        max_density: the greatest share of images on which it fires.
        max_q: the greatest q-value at the label.
        used: whether only latents that the model uses for their label fit.
        min_effect: the least effect at the label.
        named: the name by text contains this text.
        sort: one of `SORTS`.
        after: the sorted number, analysis and latent of the last row of the page before.
        limit: rows of a page.
    """

    analyses: Sequence[int]
    basis: str = "sae"
    under: Sequence[int] | None = None
    words: str | None = None
    least: dict[str, float]
    max_density: float | None = None
    max_q: float | None = None
    used: bool = False
    min_effect: float | None = None
    named: str | None = None
    sort: str = "f1_adjusted"
    after: tuple[float, int, int] | None = None
    limit: int = 50


def latent_list(wanted: LatentList) -> Question:
    """One page of latents with their labels, each beside what the controls reach at its label."""
    key = SORTS[wanted.sort]
    values: Row = {"analyses": list(wanted.analyses), "basis": wanted.basis, "limit": wanted.limit}
    where = f"l.analysis_id = ANY(:analyses) AND l.basis = :basis AND {key} IS NOT NULL"
    for name, value in wanted.least.items():
        where += f" AND {SORTS[name]} >= :least_{name}"
        values[f"least_{name}"] = value
    for column, most in (("density", wanted.max_density), ("label_q", wanted.max_q)):
        if most is not None:
            where += f" AND l.{column} <= :most_{column}"
            values[f"most_{column}"] = most
    if wanted.under is not None:
        where += """
              AND l.label_synset_id = ANY(ARRAY(
                  SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = ANY(:under)))"""
        values["under"] = list(wanted.under)
    if wanted.words is not None:
        where += """
              AND l.label_synset_id = ANY(ARRAY(
                  SELECT y.id FROM synset y WHERE y.name ILIKE :words
                      OR EXISTS (SELECT FROM unnest(y.lemmas) w WHERE replace(w, ' ', '_') ILIKE :words)
                  UNION SELECT k.synset_id FROM dataset_class k WHERE replace(k.label, ' ', '_') ILIKE :words))"""
        values["words"] = contains(wanted.words.strip().replace(" ", "_"))
    where += of_effects("l", values, only_used=wanted.used, min_effect=wanted.min_effect)
    where += of_names("l", values, wanted.named)
    if wanted.after is not None:
        where += f"""
              AND {key} <= :key AND ({key} < :key OR (l.analysis_id, l.latent) > (:after_analysis, :after_latent))"""
        values |= dict(zip(("key", "after_analysis", "after_latent"), wanted.after, strict=True))
    is_by_stability = wanted.sort == "stability" or "stability" in wanted.least
    page = f"""
            SELECT l.analysis_id, l.latent, {key} AS key
            FROM latent l{_SORTED_STABILITY if is_by_stability else ""}
            WHERE {where}
            ORDER BY {key} DESC, l.analysis_id, l.latent LIMIT :limit"""  # noqa: S608 -- conditions are ours, values bound
    rows = f"""
        SELECT l.analysis_id, i.layer, i.sae_kind, i.expansion, l.basis, l.latent, l.label_synset_id AS synset_id,
               y.name AS synset, l.label_f1_adjusted AS f1_adjusted, l.label_f1 AS f1, l.label_q AS q,
               l.coherence_excess, l.coherence_p, l.density, l.n_fire, l.max_activation, s.stability, s.chance,
               p.key AS sorted_by, l.top_images
        FROM ({page}) p
        JOIN latent l ON l.analysis_id = p.analysis_id AND l.basis = :basis AND l.latent = p.latent
        JOIN analysis_input i ON i.analysis_id = l.analysis_id
        LEFT JOIN synset y ON y.id = l.label_synset_id{_STABILITY}"""  # noqa: S608 -- as above
    order = "v.sorted_by DESC, v.analysis_id, v.latent"
    return Question(_beside_all(rows, order=order), values)


def one_latent(analysis: int, basis: str, latent: int) -> Question:
    """A latent with its label, its place in the tree and its numbers, each beside its null; no row if there is none."""
    query = f"""
        SELECT l.analysis_id, i.layer, i.sae_kind, i.expansion, i.tokens, i.model, i.dataset_id, i.dataset, l.basis,
               l.latent, l.is_dead, l.n_fire, l.density, l.mean_activation, l.max_activation,
               l.label_synset_id AS synset_id, y.name AS synset, y.definition, l.label_f1_adjusted AS f1_adjusted,
               l.label_f1 AS f1, l.label_precision AS precision, l.label_recall AS recall, l.label_auroc AS auroc,
               l.label_q AS q, l.coherence, l.coherence_excess, l.coherence_z, l.coherence_p, l.purity,
               l.purity_excess, l.lch_synset_id, h.name AS lch, l.lch_height, l.lch_excess, l.coverage,
               l.n_associated, l.class_entropy, l.monosemanticity, s.stability, s.chance, l.top_images,
               coalesce(i.n_score, i.n_images) AS n_scored, i.split IS NULL AS in_sample
        FROM latent l
        JOIN analysis_input i ON i.analysis_id = l.analysis_id
        LEFT JOIN synset y ON y.id = l.label_synset_id
        LEFT JOIN synset h ON h.id = l.lch_synset_id{_STABILITY}
        WHERE l.analysis_id = :analysis AND l.basis = :basis AND l.latent = :latent"""  # noqa: S608 -- ours
    values = {"analysis": analysis, "basis": basis, "latent": latent}
    return Question(_beside_all(beside_chance(query, order="v.latent"), order="v.latent"), values)


def nodes_of_latent(analysis: int, basis: str, latent: int, *, limit: int) -> Question:
    """The shortlisted nodes at which a latent has the best F1, beside what the controls reach there."""
    query = """
        SELECT r.analysis_id, r.synset_id, y.name AS synset, n.height, n.n_classes, r.n_images,
               coalesce(i.n_score, i.n_images) AS n_scored, r.f1_adjusted, r.f1, r.precision, r.recall, r.auroc,
               r.average_precision, r.best_f1, r.p, r.is_node_best
        FROM node_score r
        JOIN analysis_input i ON i.analysis_id = r.analysis_id
        JOIN synset y ON y.id = r.synset_id
        JOIN dataset_node n ON n.dataset_id = i.dataset_id AND n.synset_id = r.synset_id
        WHERE r.analysis_id = :analysis AND r.basis = :basis AND r.seed = 0 AND r.latent = :latent
              AND r.f1 IS NOT NULL
        ORDER BY r.f1 DESC, n.n_classes, y.name LIMIT :limit"""
    values = {"analysis": analysis, "basis": basis, "latent": latent, "limit": limit}
    return Question(beside_controls(query, order="v.f1 DESC, v.n_classes, v.synset"), values)


def labels_of_latents(analysis: int, latents: Sequence[int]) -> Question:
    """The labels of some latents of an analysis' SAE and their names by text, by the latent's number."""
    query = """
        SELECT l.analysis_id, l.basis, l.latent, y.name AS synset, l.label_synset_id AS synset_id,
               l.label_f1_adjusted AS f1_adjusted, l.label_q AS q, l.coherence_excess, l.density, l.max_activation
        FROM latent l LEFT JOIN synset y ON y.id = l.label_synset_id
        WHERE l.analysis_id = :analysis AND l.basis = 'sae' AND l.latent = ANY(:latents)
    """
    return Question(with_names(query, order="v.latent"), {"analysis": analysis, "latents": list(latents)})


def images_of_latents(analysis: int, basis: str, latents: Sequence[int]) -> Question:
    """The strongest scored images of some latents of an analysis; a shuffled basis has none of its own."""
    query = """
        SELECT l.latent, l.top_images FROM latent l
        WHERE l.analysis_id = :analysis AND l.basis = :basis AND l.latent = ANY(:latents)
    """
    return Question(query, {"analysis": analysis, "basis": basis, "latents": list(latents)})


def beside_labels(labels: Iterable[Row], firing: Iterable[tuple[int, float]]) -> list[Row]:
    """The rows of `labels_of_latents` with each latent's `activation` on one image, in the order of `firing`."""
    by_latent = {row["latent"]: row for row in labels}
    return [by_latent[latent] | {"activation": activation} for latent, activation in firing]


def columns_of_bases(analyses: Sequence[int]) -> Question:
    """The bases of some analyses that have rows in `latent`, with their numbers of columns."""
    query = """
        SELECT c.basis, max(c.n_latents) AS n_latents FROM layer_score c
        WHERE c.analysis_id = ANY(:analyses) AND c.seed = 0 AND c.basis NOT LIKE 'shuffled%'
        GROUP BY c.basis ORDER BY array_position(CAST(:bases AS text[]), c.basis)
    """
    return Question(query, {"analyses": list(analyses), "bases": list(BASES)})


def _beside_all(query: str, *, order: str) -> str:
    """A query whose rows have controls, effects at the label and names by text beside them."""
    return with_names(with_label_effects(beside_controls(query, order=order), order=order), order=order)
