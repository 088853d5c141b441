"""Activations at other places than the residual stream, and of models whose blocks differ in width."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_HOOK = (
    "which activations of the layer: residual (the stream after the block), attention, mlp, embedding, or the path of a"
    " module"
)
_D_MODEL = "numbers in a row; null in sets of earlier versions, whose rows are as wide as the model's d_model"
_COMMENTS = {
    ("activation_set", "layer"): (
        "0-based block whose output (residual stream) it is",
        "0-based block whose output (residual stream) it is, unless hook says otherwise",
    ),
    ("activation_set", "tokens"): ("cls, patches or mean", "cls, registers, patches or mean"),
    ("analysis_input", "d_model"): ("width of the residual stream", "numbers in a row of the activations"),
    ("model", "model_type"): (
        "architecture as transformers names it, such as dinov2",
        "architecture as transformers names it, such as dinov2; of other libraries timm or open_clip and the class",
    ),
    ("model", "d_model"): (
        "width of the residual stream",
        "width of the residual stream; where blocks differ, after the last one",
    ),
    ("model", "n_patches"): (
        "patch tokens per image after preprocessing",
        "patch tokens per image after preprocessing; where blocks differ, after the last one",
    ),
    ("model", "name"): (
        "hub id (facebook/dinov2-base) or local folder",
        "hub id (facebook/dinov2-base) or local folder, behind timm: or open_clip: of those libraries",
    ),
}
_ANALYSIS_INPUT = """
        SELECT a.id AS analysis_id, a.key AS analysis_key, a.job_id, a.config AS scoring, a.n_images, a.created_at,
               e.id AS sae_id, e.key AS sae_key, e.kind AS sae_kind, e.expansion, e.n_latents, e.seed AS sae_seed,
               e.config AS sae_config,
               s.id AS activation_set_id, s.key AS activation_key, s.layer, s.tokens, s.dtype, s.n_views,
               m.id AS model_id, m.name AS model, m.revision, {d_model},
               d.id AS dataset_id, d.name AS dataset, a.split, a.n_train, a.n_select, a.n_score
        FROM analysis a
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
"""


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "activation_set", sa.Column("hook", sa.Text(), nullable=False, server_default="residual", comment=_HOOK)
    )
    op.add_column("activation_set", sa.Column("d_model", sa.BigInteger(), nullable=True, comment=_D_MODEL))
    view = _ANALYSIS_INPUT.format(d_model="coalesce(s.d_model, m.d_model) AS d_model")
    op.execute(f"CREATE OR REPLACE VIEW analysis_input AS {view}")
    for (relation, column), (_, comment) in _COMMENTS.items():
        _comment(relation, column, comment)


def downgrade() -> None:
    """Revert."""
    view = _ANALYSIS_INPUT.format(d_model="m.d_model")
    op.execute(f"CREATE OR REPLACE VIEW analysis_input AS {view}")
    # Earlier versions know the residual stream alone: what is of other places would look as if it were of that.
    op.drop_column("activation_set", "d_model")
    op.drop_column("activation_set", "hook")
    for (relation, column), (comment, _) in _COMMENTS.items():
        _comment(relation, column, comment)


def _comment(relation: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS '{comment.replace(chr(39), chr(39) * 2)}'")
