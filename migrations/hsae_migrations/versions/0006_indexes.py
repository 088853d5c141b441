"""The best latent of every node marked where it is stored, and indexes for the questions of docs/sql.md."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ABOUT = """
        JOIN analysis a ON a.id = {row}.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
"""
_LATENT_LABEL = """
        SELECT m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind,
               l.analysis_id, l.basis, l.latent,
               y.wnid, y.name AS synset, n.height, n.depth, n.n_classes,
               l.label_f1 AS f1, l.label_precision AS precision, l.label_recall AS recall, l.label_auroc AS auroc,
               h.name AS lch, l.lch_height, l.coverage, l.n_fire{further}
        FROM latent l {about}
        JOIN synset y ON y.id = l.label_synset_id
        LEFT JOIN synset h ON h.id = l.lch_synset_id
        JOIN dataset_node n ON n.dataset_id = a.dataset_id AND n.synset_id = l.label_synset_id
"""
_LATENT_LABEL_FURTHER = (
    ", l.label_synset_id AS synset_id, l.lch_synset_id, l.lch_depth, l.class_entropy, l.monosemanticity"
)
_NODE_BEST_LATENT = """
        SELECT {distinct}
               m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind,
               r.analysis_id, r.basis, r.seed, y.wnid, y.name AS synset, r.synset_id,
               n.height, n.depth, n.n_classes,
               r.latent, r.f1, r.precision, r.recall, r.auroc, r.q, r.n_images, r.n_fire{further}
        FROM node_score r {about}
        JOIN synset y ON y.id = r.synset_id
        JOIN dataset_node n ON n.dataset_id = a.dataset_id AND n.synset_id = r.synset_id
        {end}
"""
_NODE_BEST_FURTHER = ", r.average_precision, r.best_f1, r.best_threshold"
_BEST_FIRST = "r.analysis_id, r.basis, r.seed, r.synset_id, r.f1 DESC NULLS LAST, r.latent"
_GROUP = "r.analysis_id, r.basis, r.seed, r.synset_id"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "node_score",
        sa.Column(
            "is_node_best",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="whether this latent has the best F1 of its analysis, basis and seed at the node "
            "(ties: the lower index)",
        ),
    )
    op.execute(
        f"""
        UPDATE node_score r SET is_node_best = true
        FROM (SELECT DISTINCT ON ({_GROUP}) {_GROUP}, r.latent FROM node_score r ORDER BY {_BEST_FIRST}) b
        WHERE (r.analysis_id, r.basis, r.seed, r.synset_id, r.latent)
            = (b.analysis_id, b.basis, b.seed, b.synset_id, b.latent)
        """  # noqa: S608 -- both ours
    )
    op.create_index(
        "ix_node_score_node_best",
        "node_score",
        ["synset_id", "basis"],
        postgresql_where=sa.text("is_node_best"),
    )
    op.create_index("ix_latent_basis_label_f1", "latent", ["basis", "label_f1"])
    op.execute(f"CREATE OR REPLACE VIEW latent_label AS {_latent_label(_LATENT_LABEL_FURTHER)}")
    view = _NODE_BEST_LATENT.format(
        distinct="", about=_ABOUT.format(row="r"), further=_NODE_BEST_FURTHER, end="WHERE r.is_node_best"
    )
    op.execute(f"CREATE OR REPLACE VIEW node_best_latent AS {view}")


def downgrade() -> None:
    """Undo. Views cannot lose columns, so they are made anew, and with them the reader's right to read them."""
    comments = {
        name: op.get_bind().execute(sa.text(f"SELECT obj_description('{name}'::regclass)")).scalar_one()
        for name in ("latent_label", "node_best_latent")
    }
    op.execute("DROP VIEW latent_label")
    op.execute("DROP VIEW node_best_latent")
    op.execute(f"CREATE VIEW latent_label AS {_latent_label('')}")
    view = _NODE_BEST_LATENT.format(
        distinct=f"DISTINCT ON ({_GROUP})", about=_ABOUT.format(row="r"), further="", end=f"ORDER BY {_BEST_FIRST}"
    )
    op.execute(f"CREATE VIEW node_best_latent AS {view}")
    for name, comment in comments.items():
        op.execute(f"COMMENT ON VIEW {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")
    op.drop_index("ix_latent_basis_label_f1", table_name="latent")
    op.drop_index("ix_node_score_node_best", table_name="node_score")
    op.drop_column("node_score", "is_node_best")


def _latent_label(further: str) -> str:
    return _LATENT_LABEL.format(about=_ABOUT.format(row="l"), further=further)
