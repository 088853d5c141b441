"""What a service that runs for weeks needs of a job: queue, priority, back-off, outages, reasons of events."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Names of objects carry their checksums from this version on: column, comment before, comment now.
_COMMENTS = (
    ("activation_set", "manifest_sha256", "checksum of activations/<key>/manifest.json; null until published",
     "checksum of activations/<key>/manifest-<checksum>.json; null until published"),
    ("sae", "weights_sha256", "checksum of saes/<key>/sae.safetensors",
     "checksum of saes/<key>/sae-<checksum>.safetensors"),
    ("analysis", "activations_sha256",
     "checksum of analyses/<key>/latents.safetensors: every latent's activation on every image",
     "checksum of analyses/<key>/latents-<checksum>.safetensors: every latent's activation on every image"),
    ("analysis", "class_sums_sha256",
     "checksum of analyses/<key>/class_sums.safetensors, from which every pair's scores follow",
     "checksum of analyses/<key>/class_sums-<checksum>.safetensors, from which every pair's scores follow"),
)  # fmt: skip
_REASONS = (
    "submitted", "claimed", "released", "succeeded", "failed", "retried", "outage", "lease_expired", "handed_back",
    "cancelled", "requeued", "remark",
)  # fmt: skip
# Events of earlier versions tell their reason by the state they led to; a requeue after a crash by its absence.
_REASON_OF_STATE = {"running": "claimed", "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled"}


def upgrade() -> None:
    """Apply."""
    op.add_column("job", sa.Column("queue", sa.Text(), comment="gpu or cpu: which workers may take it"))
    op.execute("UPDATE job SET queue = CASE kind WHEN 'analyze' THEN 'cpu' ELSE 'gpu' END")
    op.alter_column(
        "job",
        "queue",
        nullable=False,
        existing_type=sa.Text(),
        existing_comment="gpu or cpu: which workers may take it",
    )
    op.create_check_constraint(op.f("ck_job_queue"), "job", "queue IN ('gpu', 'cpu')")
    op.add_column(
        "job",
        sa.Column(
            "priority",
            sa.SmallInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="0 to 9; higher runs first",
        ),
    )
    op.create_check_constraint(op.f("ck_job_priority"), "job", "priority BETWEEN 0 AND 9")
    op.add_column(
        "job",
        sa.Column(
            "not_before",
            sa.DateTime(timezone=True),
            comment="earliest start of the next attempt, while the job backs off",
        ),
    )
    op.add_column(
        "job",
        sa.Column(
            "outages",
            sa.SmallInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="attempts that ended because a service was unreachable; they do not count as attempts",
        ),
    )
    op.add_column(
        "job",
        sa.Column(
            "gpu_memory_bytes", sa.BigInteger(), comment="peak GPU memory of the latest attempt; null without a GPU"
        ),
    )
    op.alter_column(
        "job",
        "progress_unit",
        existing_type=sa.Text(),
        comment="images (extract), vectors (train) or pairs of latent and node (analyze)",
        existing_comment="images, steps or latents",
    )
    op.add_column(
        "job_event",
        sa.Column("reason", sa.Text(), server_default="remark", comment="kind of event: " + ", ".join(_REASONS)),
    )
    for state, reason in _REASON_OF_STATE.items():
        op.execute(f"UPDATE job_event SET reason = '{reason}' WHERE state = '{state}'")  # noqa: S608 -- both ours
    op.execute("UPDATE job_event SET reason = 'submitted' WHERE who = 'submit'")
    op.execute(
        "UPDATE job_event SET reason = 'released' WHERE state = 'queued' AND message LIKE 'every job it waited%'"
    )
    op.execute(
        "UPDATE job_event SET reason = 'lease_expired' WHERE state = 'queued' AND message LIKE '%stopped answering'"
    )
    op.execute("UPDATE job_event SET reason = 'retried' WHERE state = 'queued' AND reason = 'remark'")
    op.alter_column(
        "job_event",
        "reason",
        nullable=False,
        server_default=None,
        existing_type=sa.Text(),
        existing_comment="kind of event: " + ", ".join(_REASONS),
    )
    op.create_check_constraint(
        op.f("ck_job_event_reason"), "job_event", "reason IN (" + ", ".join(f"'{r}'" for r in _REASONS) + ")"
    )
    op.create_index("ix_job_event_reason", "job_event", ["reason"])
    op.drop_index("ix_job_state", "job")
    op.create_index("ix_job_state_queue_kind", "job", ["state", "queue", "kind"])

    for table, column, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=sa.Text(), comment=now, existing_comment=before)


def downgrade() -> None:
    """Take back."""
    for table, column, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=sa.Text(), comment=before, existing_comment=now)
    op.drop_index("ix_job_state_queue_kind", "job")
    op.create_index("ix_job_state", "job", ["state"])
    op.drop_index("ix_job_event_reason", "job_event")
    op.drop_column("job_event", "reason")
    op.alter_column(
        "job",
        "progress_unit",
        existing_type=sa.Text(),
        comment="images, steps or latents",
        existing_comment="images (extract), vectors (train) or pairs of latent and node (analyze)",
    )
    for column in ("gpu_memory_bytes", "outages", "not_before", "priority", "queue"):
        op.drop_column("job", column)
