"""Raw columns of `layer_progress` say so in their names, with the corrected ones beside them; seed stability of labels.

Mean LCH height, coverage, the share of nodes found and mean F1 depend on how often columns fire, on how many there are
and on the sizes of the nodes. No table changes but in comments, so that rows of earlier versions stay as they are.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_PAPER = "the paper's; depends on how many classes and images a column has: read lch_excess"
_NODE_SIZE = "not corrected for the size of the node, nor for the number of columns"
# Former name: name, comment before, comment now.
_RENAMED = {
    "lch_height": (
        "lch_height_raw",
        "mean height of the lowest common hypernym, over columns that fire",
        f"mean height of the lowest common hypernym, over columns that fire ({_PAPER})",
    ),
    "lch_height_relative": (
        "lch_height_relative_raw",
        "mean height of the lowest common hypernym over the root's height, 0 to 1",
        f"mean height of the lowest common hypernym over the root's height, 0 to 1 ({_PAPER})",
    ),
    "coverage": (
        "coverage_raw",
        "mean ontological coverage, over columns that fire",
        f"mean ontological coverage, over columns that fire ({_PAPER})",
    ),
    "share_nodes_f1": (
        "share_nodes_f1_raw",
        "share of nodes for which some column has F1 >= 0.5",
        f"share of nodes whose best column has F1 >= 0.5; {_NODE_SIZE}: read share_nodes_rarefied",
    ),
    "best_f1": (
        "best_f1_raw",
        "mean over nodes of the best F1",
        f"mean over nodes of the best F1; {_NODE_SIZE}: read best_f1_adjusted",
    ),
    "best_f1_inner": (
        "best_f1_inner_raw",
        "mean best F1 of inner nodes with three or more classes",
        f"mean best F1 of inner nodes with three or more classes; {_NODE_SIZE}: read best_f1_adjusted_inner",
    ),
}
_EARLIER = "null in analyses of earlier versions"
_LATEST = (
    "SELECT t.{column} FROM latent_stability t WHERE t.analysis_id = l.analysis_id AND t.latent = l.latent "
    "AND l.basis = 'sae' ORDER BY t.comparison_id DESC LIMIT 1"
)
_NO_SEEDS = "null where no study trained several seeds of the SAE"
# View, column: expression, comment. A query that does not ask for a subquery does not compute it.
_ADDED = {
    "layer_progress": {
        "coherence_excess": (
            "avg(c.coherence_excess)",
            f"mean taxonomic coherence of the columns less that of classes at random, in bits: 0 by chance; {_EARLIER}",
        ),
        "coherence_p": (
            "avg(c.coherence_p)",
            "one-sided p-value of the coherence by 999 permutations of the tree; of random directions the mean over "
            f"their draws, which is no p-value; null for shuffled bases, {_EARLIER}",
        ),
        "purity_excess": (
            "avg(c.purity - c.purity_null)",
            f"mean purity of the columns less that of scored images at random: 0 by chance; {_EARLIER}",
        ),
        "lch_excess": (
            "avg(c.lch_excess_mean)",
            "mean number of bits by which the lowest common hypernym of a column is smaller than that of as many "
            f"classes at random: 0 by chance; over n_lch_eligible columns, null without any, {_EARLIER}",
        ),
        "n_lch_eligible": (
            "round(avg(c.n_lch_eligible))::integer",
            f"columns with an LCH excess: those of two classes or more that fire on 16 images or more; {_EARLIER}",
        ),
        "n_nodes": (
            "avg(c.n_nodes)",
            "nodes that shares and means are over: with some images but not all, one for each set of images (in "
            "analyses of earlier versions: all such nodes)",
        ),
    },
    "latent_label": {
        "seed_stability": (
            f"({_LATEST.format(column='stability')})",
            "cosine of the decoder direction and its match's in another seed of the SAE, mean over the other seeds of "
            f"the latest study; {_NO_SEEDS}",
        ),
        "stability_chance": (
            f"({_LATEST.format(column='chance')})",
            f"the same of the untrained SAEs, mean over their latents: what chance gives; {_NO_SEEDS}",
        ),
        "is_one_to_one": (
            f"({_LATEST.format(column='is_one_to_one')})",
            "whether seed_stability is of a match one to one; if not, several latents may share the most similar one; "
            f"{_NO_SEEDS}",
        ),
    },
}
_VIEW_COMMENT = (
    "How structure grows along depth: layer scores per model, SAE kind, layer and basis, averaged over seeds."
)
_VIEW_COMMENT_NOW = f"{_VIEW_COMMENT} Columns that end in _raw are not corrected for chance."
_ONE_LATENT = "depends on how many classes and images the latent has: read lch_excess"
_ANY_DENSITY = "in analyses of earlier versions (n_any_child null): of latents of any density"
_ALIKE = "share of the random draws that are at least as alike as the children"
_SIMILAR = "share of the random draws whose similarity is at least that of the children"
_KIND = "kind of the SAE, such as relu or topk"
# Relation, column, comment before, comment now.
_COMMENTS = (
    ("sae", "kind", "relu (L1 penalty), topk, or a baseline: frozen or soft_frozen (topk whose decoder stays, or nearly)",
     _KIND),
    ("latent_family", "random_share_decoder", f"{_ALIKE}; {_ANY_DENSITY}", f"{_SIMILAR}; {_ANY_DENSITY}"),
    ("latent_family", "random_share_images", f"{_ALIKE}; {_EARLIER}", f"{_SIMILAR}; {_EARLIER}"),
    ("latent_stability", "is_one_to_one",
     "whether every latent of a seed is matched once (Hungarian); in dictionaries of more than 4,096 latents the match "
     "is the latent of the greatest cosine",
     "whether every latent of a seed is matched once (Hungarian); in dictionaries too large for that the match is the "
     "latent of the greatest cosine"),
    ("latent_label", "lch_height", "height of the lowest common hypernym; 0 = one leaf class",
     f"height of the lowest common hypernym; 0 = one leaf class; {_ONE_LATENT}"),
    ("latent_label", "coverage", "ontological coverage: share of the classes under the LCH that are associated",
     f"ontological coverage: share of the classes under the LCH that are associated; {_ONE_LATENT}"),
)  # fmt: skip
_FROM = "\n   FROM "
"""Where the list of columns of a view ends, in what Postgres gives; subqueries are further to the right."""


def upgrade() -> None:
    """Apply."""
    for former, (name, _, comment) in _RENAMED.items():
        op.execute(f"ALTER VIEW layer_progress RENAME COLUMN {former} TO {name}")
        _comment("layer_progress", name, comment)
    for view, columns in _ADDED.items():
        further = "".join(f",\n    {expression} AS {name}" for name, (expression, _) in columns.items())
        op.execute(f"CREATE OR REPLACE VIEW {view} AS {_query(view).replace(_FROM, further + _FROM, 1)}")
        for name, (_, comment) in columns.items():
            _comment(view, name, comment)
    op.execute(f"COMMENT ON VIEW layer_progress IS {_literal(_VIEW_COMMENT_NOW)}")
    for relation, column, _, now in _COMMENTS:
        _comment(relation, column, now)


def downgrade() -> None:
    """Undo. A view cannot lose columns, so each is made anew, with its comments."""
    for relation, column, before, _ in _COMMENTS:
        _comment(relation, column, before)
    for view, columns in _ADDED.items():
        _without(view, columns)
    op.execute(f"COMMENT ON VIEW layer_progress IS {_literal(_VIEW_COMMENT)}")
    for former, (name, comment, _) in _RENAMED.items():
        op.execute(f"ALTER VIEW layer_progress RENAME COLUMN {name} TO {former}")
        _comment("layer_progress", former, comment)


def _without(view: str, columns: dict[str, tuple[str, str]]) -> None:
    connection = op.get_bind()
    of_view = connection.scalar(sa.text("SELECT obj_description(CAST(:view AS regclass))"), {"view": view})
    comments = {column["name"]: column["comment"] for column in sa.inspect(connection).get_columns(view)}
    selected, sources = _query(view).split(_FROM, 1)
    first = next(iter(columns))
    kept = re.split(r",\n    (?! )", selected)  # subqueries are further to the right here, too
    place = next(i for i, column in enumerate(kept) if column.endswith(f" AS {first}"))
    op.execute(f"DROP VIEW {view}")
    op.execute(f"CREATE VIEW {view} AS " + ",\n    ".join(kept[:place]) + _FROM + sources)
    op.execute(f"COMMENT ON VIEW {view} IS {_literal(of_view)}")
    for column in sa.inspect(connection).get_columns(view):
        _comment(view, column["name"], comments[column["name"]])


def _query(view: str) -> str:
    """The query of a view as it is."""
    statement = sa.text("SELECT pg_get_viewdef(CAST(:view AS regclass))")
    return str(op.get_bind().scalar(statement, {"view": view}))


def _comment(relation: str, column: str, comment: str | None) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS {_literal(comment)}")


def _literal(words: str | None) -> str:
    return "NULL" if words is None else "'" + words.replace("'", "''") + "'"
