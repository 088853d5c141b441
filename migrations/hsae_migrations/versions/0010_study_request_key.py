"""The same request is the same study: its key, and when it was last asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_FORMER_COMMENT = "What users asked for: one row per submit."
_COMMENT = "What users asked for: one row per request; submitted again it is the same study."
_FORMER_REQUEST = "the request in full"
_REQUEST = "the request in full, as last submitted"
# Of studies of one request the latest gets the key, by which the next submit finds it; the others stay as they are.
_ENTER_KEYS = """
    WITH keyed AS (
        SELECT s.id, encode(sha256(convert_to(j.key || ':' || d.id, 'UTF8')), 'hex') AS request_key
        FROM study s
        JOIN study_job l ON l.study_id = s.id
        JOIN job j ON j.id = l.job_id AND j.kind = 'compare'
        JOIN dataset d ON d.name = coalesce(s.request ->> 'dataset', (SELECT name FROM dataset ORDER BY id LIMIT 1))
    ), latest AS (
        SELECT request_key, max(id) AS id FROM keyed GROUP BY request_key
    )
    UPDATE study s SET request_key = latest.request_key FROM latest WHERE latest.id = s.id
"""


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "study",
        sa.Column(
            "request_key",
            sa.Text(),
            comment="sha256 over the comparison's key and the data set's id: what makes two requests the same study; "
            "null in studies of earlier versions that were asked for again or have no comparison",
        ),
    )
    op.add_column(
        "study",
        sa.Column(
            "submitted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was last submitted; the latest study is that of the latest time",
        ),
    )
    op.execute("UPDATE study SET submitted_at = created_at")
    op.execute(_ENTER_KEYS)
    op.create_unique_constraint(op.f("uq_study_request_key"), "study", ["request_key"])
    op.create_table_comment("study", _COMMENT, existing_comment=_FORMER_COMMENT)
    op.alter_column("study", "request", existing_type=sa.JSON(), comment=_REQUEST, existing_comment=_FORMER_REQUEST)


def downgrade() -> None:
    """Take back."""
    op.alter_column("study", "request", existing_type=sa.JSON(), comment=_FORMER_REQUEST, existing_comment=_REQUEST)
    op.create_table_comment("study", _FORMER_COMMENT, existing_comment=_COMMENT)
    op.drop_constraint(op.f("uq_study_request_key"), "study")
    op.drop_column("study", "submitted_at")
    op.drop_column("study", "request_key")
