"""Parents and children among the latents, one page after the other, beside the absorption at the parent's node."""

from collections.abc import Sequence
from dataclasses import dataclass

from hsae.catalog.findings.browse.question import Question
from hsae.catalog.queries.conditions import Row

# Names come by subqueries: a join of so many tables takes longer to plan than to run.
_COLUMNS = """x.analysis_id, t.layer, e.kind AS sae_kind, x.basis, x.seed, x.source, x.parent,
               p.label_synset_id AS parent_label_id,
               (SELECT y.name FROM synset y WHERE y.id = p.label_synset_id) AS parent_label,
               (SELECT y.name FROM synset y WHERE y.id = x.parent_synset_id) AS parent_node, x.child,
               c.label_synset_id AS child_label_id,
               (SELECT y.name FROM synset y WHERE y.id = c.label_synset_id) AS child_label,
               (SELECT y.name FROM synset y WHERE y.id = x.child_synset_id) AS child_node, x.n_parent, x.n_child,
               x.n_both, x.implication, x.expected_implication, x.adjusted_implication, x.implication_p, x.miss_rate,
               x.dominance, x.is_confirmed, b.absorbed_share, b.random_absorbed_share, b.n_present"""
_BASIS_OF_LATENTS = "CASE WHEN x.basis LIKE 'shuffled%' THEN 'sae' ELSE x.basis END"
_JOINED = f"""
        JOIN analysis s ON s.id = x.analysis_id
        JOIN sae e ON e.id = s.sae_id
        JOIN activation_set t ON t.id = e.activation_set_id
        JOIN latent p ON p.analysis_id = x.analysis_id AND p.latent = x.parent AND p.basis = {_BASIS_OF_LATENTS}
        JOIN latent c ON c.analysis_id = x.analysis_id AND c.latent = x.child AND c.basis = {_BASIS_OF_LATENTS}
        LEFT JOIN node_absorption b ON b.analysis_id = x.analysis_id AND b.basis = x.basis AND b.seed = x.seed
             AND b.synset_id = x.parent_synset_id AND b.latent = x.parent"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairList:
    """Which pairs, from where on; what is None allows all.

    Attributes:
        analyses: those of these analyses.
        basis: `sae` or a control.
        source: `taxonomy` or `activation`.
        under: ids of synsets; the parent's label is at or below one of them.
        parent: the parent's number.
        child: the child's number.
        confirmed: only pairs that the scored images confirm.
        after: the implication, n_child, analysis, source, parent, child and seed of the last row of the page before.
        limit: rows of a page.
    """

    analyses: Sequence[int]
    basis: str = "sae"
    source: str | None = None
    under: Sequence[int] | None = None
    parent: int | None = None
    child: int | None = None
    confirmed: bool = False
    after: tuple[float, int, int, str, int, int, int] | None = None
    limit: int = 50


def pair_list(wanted: PairList) -> Question:
    """One page of pairs, the strongest implication first, then the more frequent child."""
    values: Row = {"analyses": list(wanted.analyses), "basis": wanted.basis, "limit": wanted.limit}
    where = "x.analysis_id = ANY(:analyses) AND x.basis = :basis AND x.implication IS NOT NULL"
    for name, value in (("source", wanted.source), ("parent", wanted.parent), ("child", wanted.child)):
        if value is not None:
            where += f" AND x.{name} = :{name}"
            values[name] = value
    if wanted.confirmed:
        where += " AND x.is_confirmed"
    if wanted.under is not None:
        where += f"""
              AND EXISTS (
                  SELECT FROM latent p JOIN hypernym_closure c ON c.descendant_id = p.label_synset_id
                  WHERE p.analysis_id = x.analysis_id AND p.latent = x.parent AND c.ancestor_id = ANY(:under)
                        AND p.basis = {_BASIS_OF_LATENTS})"""
        values["under"] = list(wanted.under)
    if wanted.after is not None:
        where += """
              AND x.implication <= :after_implication AND (
                  x.implication < :after_implication OR x.n_child < :after_n_child OR (
                      x.n_child = :after_n_child AND (x.analysis_id, x.source, x.parent, x.child, x.seed)
                      > (:after_analysis, :after_source, :after_parent, :after_child, :after_seed)))"""
        names = ("implication", "n_child", "analysis", "source", "parent", "child", "seed")
        values |= {f"after_{name}": value for name, value in zip(names, wanted.after, strict=True)}
    query = f"""
        SELECT {_COLUMNS}
        FROM (
            SELECT x.* FROM latent_edge x
            WHERE {where}
            ORDER BY x.implication DESC NULLS LAST, x.n_child DESC, x.analysis_id, x.source, x.parent, x.child, x.seed
            LIMIT :limit) x{_JOINED}
        ORDER BY x.implication DESC NULLS LAST, x.n_child DESC, x.analysis_id, x.source, x.parent, x.child, x.seed
    """  # noqa: S608 -- conditions name our columns, values are bound
    return Question(query, values)


def family_of_latent(analysis: int, basis: str, latent: int, *, limit: int) -> Question:
    """The parents and the children of a latent (`relation`), the strongest implication first."""

    def side(relation: str, column: str) -> str:
        return f"""
            (SELECT '{relation}' AS relation, x.* FROM latent_edge x
             WHERE x.analysis_id = :analysis AND x.basis = :basis AND x.{column} = :latent
             ORDER BY x.implication DESC NULLS LAST, x.n_child DESC, x.source, x.parent, x.child LIMIT :limit)"""  # noqa: S608

    query = f"""
        SELECT x.relation, {_COLUMNS}
        FROM ({side("parent", "child")}
            UNION ALL{side("child", "parent")}) x{_JOINED}
        ORDER BY x.relation DESC, x.implication DESC NULLS LAST, x.n_child DESC, x.source, x.parent, x.child
    """  # noqa: S608 -- names of columns, ours
    return Question(query, {"analysis": analysis, "basis": basis, "latent": latent, "limit": limit})
