"""Into which parts the images of an analysis were divided; none for those that are there already."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COLUMNS = {
    "split": (
        JSONB(),
        "shares train, select, score and their seed; by: images or whole groups; is_halved: one half trains "
        "and selects, for want of images. Null: in-sample, every image did everything",
    ),
    "n_train": (sa.BigInteger(), "images that trained the SAE; null in-sample"),
    "n_select": (sa.BigInteger(), "images on which latents were chosen; null in-sample"),
    "n_score": (sa.BigInteger(), "images that every score is of; null in-sample: all of them"),
}
_N_IMAGES = "images of all parts that could be read"
_N_IMAGES_BEFORE = "images scored"
_OF_VIEW_BEFORE = "scored images"
_ANALYSIS_INPUT = """
        SELECT a.id AS analysis_id, a.key AS analysis_key, a.job_id, a.config AS scoring, a.n_images, a.created_at,
               e.id AS sae_id, e.key AS sae_key, e.kind AS sae_kind, e.expansion, e.n_latents, e.seed AS sae_seed,
               e.config AS sae_config,
               s.id AS activation_set_id, s.key AS activation_key, s.layer, s.tokens, s.dtype, s.n_views,
               m.id AS model_id, m.name AS model, m.revision, m.d_model,
               d.id AS dataset_id, d.name AS dataset{further}
        FROM analysis a
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
"""


def upgrade() -> None:
    """Apply."""
    for name, (kind, comment) in _COLUMNS.items():
        op.add_column("analysis", sa.Column(name, kind, nullable=True, comment=comment))
    _comment("analysis", "n_images", _N_IMAGES)
    further = "".join(f", a.{name}" for name in _COLUMNS)
    op.execute(f"CREATE OR REPLACE VIEW analysis_input AS {_ANALYSIS_INPUT.format(further=further)}")
    for name, (_, comment) in _COLUMNS.items():
        _comment("analysis_input", name, comment)
    _comment("analysis_input", "n_images", _N_IMAGES)


def downgrade() -> None:
    """Undo. Views that read the view are there, so its columns stay, as null."""
    kinds = {name: "jsonb" if name == "split" else "bigint" for name in _COLUMNS}
    further = "".join(f", NULL::{kind} AS {name}" for name, kind in kinds.items())
    op.execute(f"CREATE OR REPLACE VIEW analysis_input AS {_ANALYSIS_INPUT.format(further=further)}")
    for name in reversed(_COLUMNS):
        op.drop_column("analysis", name)
    _comment("analysis", "n_images", _N_IMAGES_BEFORE)
    _comment("analysis_input", "n_images", _OF_VIEW_BEFORE)


def _comment(relation: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS '{comment.replace(chr(39), chr(39) * 2)}'")
