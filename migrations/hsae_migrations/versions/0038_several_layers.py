"""Sets of interventions that edit latents of several layers in one pass."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_BEFORE = "the analysis whose latents are edited"
_ANALYSIS = f"{_BEFORE}; of several that of the deepest layer"
_WITH = (
    "analyses of further layers whose latents are edited in the same pass, by layer; null: none. No foreign key: hsae"
    " deletes no analysis"
)
_FURTHER = "by layer the latents of further layers that are edited in the same pass; null: none"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "intervention_set",
        sa.Column("with_analyses", postgresql.ARRAY(sa.BigInteger()), nullable=True, comment=_WITH),
    )
    op.add_column("intervention", sa.Column("further_latents", postgresql.JSONB(), nullable=True, comment=_FURTHER))
    op.alter_column("intervention_set", "analysis_id", comment=_ANALYSIS, existing_comment=_BEFORE)


def downgrade() -> None:
    """Undo.

    Sets of several layers go: earlier versions would take them for edits of one. Their jobs go, too, because a later
    version would take a job that succeeded for its set. Earlier versions refuse the fields that came with 0038, so that
    the other jobs' requests lose them.
    """
    op.execute("DELETE FROM intervention_set WHERE with_analyses IS NOT NULL")
    op.execute("DELETE FROM job WHERE kind = 'intervene' AND jsonb_array_length(request -> 'others') > 0")
    op.execute("UPDATE job SET request = (request - 'others') #- '{intervene,layers}' WHERE kind = 'intervene'")
    op.drop_column("intervention", "further_latents")
    op.drop_column("intervention_set", "with_analyses")
    op.alter_column("intervention_set", "analysis_id", comment=_BEFORE, existing_comment=_ANALYSIS)
