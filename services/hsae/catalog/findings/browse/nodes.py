"""Nodes of the taxonomy with their best latents: of one analysis, or of many."""

from collections.abc import Sequence

from hsae.catalog.findings.browse.adjusted import beside_controls
from hsae.catalog.findings.browse.question import Question
from hsae.catalog.findings.controls import ADJUSTED_SUM
from hsae.catalog.queries.conditions import Row, contains
from hsae.vocabulary.bases import BASELINES

_BEST = """
        SELECT r.analysis_id, i.layer, i.sae_kind, i.expansion, r.synset_id, y.name AS synset, n.height, n.n_classes,
               r.n_images, coalesce(i.n_score, i.n_images) AS n_scored, r.latent, r.f1_adjusted, r.f1, r.precision,
               r.recall, r.auroc, r.q_node
        FROM node_score r
        JOIN analysis_input i ON i.analysis_id = r.analysis_id
        JOIN synset y ON y.id = r.synset_id
        JOIN dataset_node n ON n.dataset_id = i.dataset_id AND n.synset_id = r.synset_id
        WHERE r.is_node_best AND r.basis = :basis AND r.seed = 0"""


def best_at_nodes(analysis: int, nodes: Sequence[int], *, basis: str) -> Question:
    """The best latent of every node in one analysis, beside its controls."""
    return _best_in_analysis("= ANY(:nodes)", {"analysis": analysis, "nodes": list(nodes), "basis": basis})


def best_in_tree(analysis: int, root: int, *, basis: str) -> Question:
    """The best latent of every node at or under `root` in one analysis, beside its controls."""
    below = "IN (SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = :root)"
    return _best_in_analysis(below, {"analysis": analysis, "root": root, "basis": basis})


def _best_in_analysis(is_wanted: str, values: Row) -> Question:
    """As `beside_controls`, with all controls of all nodes in one pass: for hundreds of nodes of one analysis.

    Args:
        is_wanted: the end of an SQL condition on a synset. (An array of a subquery's rows would hide from the planner
            how many they are.)
        values: `analysis`, `basis`, and what `is_wanted` needs.
    """
    query = f"""
        WITH control AS (
            SELECT s.basis, count(*) AS n, row_number() OVER (ORDER BY s.basis) AS place FROM layer_score s
            WHERE s.analysis_id = :analysis AND s.basis = ANY(:controls) GROUP BY s.basis
        ), reached AS (
            SELECT r.synset_id, d.place, {ADJUSTED_SUM} / max(d.n) AS reached
            FROM node_score r JOIN control d ON d.basis = r.basis
            WHERE r.analysis_id = :analysis AND r.is_node_best AND r.basis = ANY(:controls) AND r.synset_id {is_wanted}
            GROUP BY r.synset_id, d.place
        ), baseline AS (
            SELECT DISTINCT ON (q.synset_id) q.synset_id, d.basis, q.reached
            FROM reached q JOIN control d ON d.place = q.place
            WHERE d.basis <> 'shuffled_taxonomy' AND q.reached IS NOT NULL
            ORDER BY q.synset_id, q.reached DESC, q.place
        ), tree AS (
            SELECT q.synset_id, q.reached FROM reached q JOIN control d ON d.place = q.place
            WHERE d.basis = 'shuffled_taxonomy'
        )
        SELECT i.analysis_id, i.layer, i.sae_kind, y.name AS synset, n.height, n.n_classes,
               coalesce(i.n_score, i.n_images) AS n_scored, r.synset_id, r.n_images, r.latent, r.f1_adjusted, r.f1,
               r.precision, r.recall, r.auroc, r.q_node, b.reached AS baseline_adjusted, b.basis AS baseline,
               t.reached AS tree_adjusted
        FROM node_score r
        JOIN analysis_input i ON i.analysis_id = r.analysis_id
        JOIN synset y ON y.id = r.synset_id
        JOIN dataset_node n ON n.dataset_id = i.dataset_id AND n.synset_id = r.synset_id
        LEFT JOIN baseline b ON b.synset_id = r.synset_id
        LEFT JOIN tree t ON t.synset_id = r.synset_id
        WHERE r.analysis_id = :analysis AND r.is_node_best AND r.basis = :basis AND r.seed = 0
              AND r.synset_id {is_wanted}
        ORDER BY y.name
    """  # noqa: S608 -- names of columns, ours
    return Question(query, values | {"controls": [*BASELINES, "shuffled_taxonomy"]})


def node_across_layers(node: int, analyses: Sequence[int], *, basis: str) -> Question:
    """The best latent of one node in every analysis, by SAE and layer, beside its controls."""
    query = f"{_BEST} AND r.synset_id = :node AND r.analysis_id = ANY(:analyses)"
    values = {"node": node, "analyses": list(analyses), "basis": basis}
    return Question(beside_controls(query, order="v.sae_kind, v.expansion, v.layer, v.analysis_id"), values)


def latents_of_node(node: int, analysis: int, *, basis: str, limit: int) -> Question:
    """The shortlisted latents of one analysis with the best F1 at a node."""
    query = """
        SELECT r.latent, r.f1_adjusted, r.f1, r.precision, r.recall, r.average_precision, r.n_fire, r.n_both, r.p,
               l.coherence_excess, y.name AS label, l.top_images
        FROM node_score r
        JOIN latent l ON l.analysis_id = r.analysis_id AND l.basis = r.basis AND l.latent = r.latent
        LEFT JOIN synset y ON y.id = l.label_synset_id
        WHERE r.analysis_id = :analysis AND r.basis = :basis AND r.seed = 0 AND r.synset_id = :node
              AND r.f1 IS NOT NULL
        ORDER BY r.f1 DESC, r.latent LIMIT :limit
    """
    return Question(query, {"node": node, "analysis": analysis, "basis": basis, "limit": limit})


def node_in_dataset(node: int, dataset: int) -> Question:
    """A node with its words, its definition and its place in a data set's taxonomy; no row if it is not there."""
    query = """
        SELECT n.synset_id, y.name AS synset, y.wnid, y.lemmas, y.definition, n.height, n.depth, n.n_classes,
               n.n_images, n.is_class, d.id AS dataset_id, d.name AS dataset
        FROM dataset_node n JOIN synset y ON y.id = n.synset_id JOIN dataset d ON d.id = n.dataset_id
        WHERE n.synset_id = :node AND n.dataset_id = :dataset
    """
    return Question(query, {"node": node, "dataset": dataset})


def neighbours(node: int, dataset: int) -> Question:
    """The direct hypernyms (`relation` above) and hyponyms (below) of a node in a data set's taxonomy."""
    query = """
        SELECT e.relation, y.id AS synset_id, y.name AS synset, n.n_classes, n.n_images, n.height
        FROM (SELECT 'above' AS relation, h.hypernym_id AS id FROM hypernym h WHERE h.synset_id = :node
              UNION ALL
              SELECT 'below', h.synset_id FROM hypernym h WHERE h.hypernym_id = :node) e
        JOIN synset y ON y.id = e.id
        JOIN dataset_node n ON n.synset_id = e.id AND n.dataset_id = :dataset
        ORDER BY e.relation, n.n_images DESC, y.name
    """
    return Question(query, {"node": node, "dataset": dataset})


def classes_under(node: int, dataset: int, *, limit: int) -> Question:
    """The classes of a data set at or under a node, by the number of their images."""
    query = """
        SELECT k.label, y.name AS synset, k.synset_id, k.n_images
        FROM dataset_class k
        JOIN hypernym_closure c ON c.descendant_id = k.synset_id AND c.ancestor_id = :node
        JOIN synset y ON y.id = k.synset_id
        WHERE k.dataset_id = :dataset
        ORDER BY k.n_images DESC, k.label LIMIT :limit
    """
    return Question(query, {"node": node, "dataset": dataset, "limit": limit})


def search_nodes(words: str, dataset: int, *, limit: int) -> Question:
    """Nodes of a data set's taxonomy whose name, words, WordNet id or class label contain the text; exact ones first.

    A blank counts like the underscore that stands for it in names.
    """
    query = """
        SELECT n.synset_id, y.name AS synset, array_to_string(y.lemmas, ', ') AS words, y.definition, n.n_classes,
               n.n_images, (SELECT string_agg(k.label, ', ' ORDER BY k.label) FROM dataset_class k
                            WHERE k.dataset_id = n.dataset_id AND k.synset_id = n.synset_id) AS labels
        FROM dataset_node n JOIN synset y ON y.id = n.synset_id
        WHERE n.dataset_id = :dataset AND (
            y.name ILIKE :pattern OR y.wnid = :words
            OR EXISTS (SELECT FROM unnest(y.lemmas) w WHERE replace(w, ' ', '_') ILIKE :pattern)
            OR EXISTS (SELECT FROM dataset_class k WHERE k.dataset_id = n.dataset_id AND k.synset_id = n.synset_id
                       AND replace(k.label, ' ', '_') ILIKE :pattern))
        ORDER BY CASE WHEN y.name = :words OR y.wnid = :words THEN 0
                      WHEN lower(:words) = ANY(SELECT lower(replace(w, ' ', '_')) FROM unnest(y.lemmas) w) THEN 1
                      ELSE 2 END, n.n_images DESC, y.name
        LIMIT :limit
    """
    joined = words.strip().replace(" ", "_")
    return Question(query, {"words": joined, "pattern": contains(joined), "dataset": dataset, "limit": limit})
