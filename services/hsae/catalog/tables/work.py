"""Tables of work: studies (what was asked for), jobs (what is to be made), their order and their history."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json
from hsae.catalog.vocabulary import EVENT_REASONS, JOB_STATES, MAX_PRIORITY, QUEUES


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Study(Base):
    """One request of a user."""

    __tablename__ = "study"
    __table_args__ = ({"comment": "What users asked for: one row per request; submitted again it is the same study."},)

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    name: Mapped[str] = mapped_column(comment="short description of the request")
    request: Mapped[Json] = mapped_column(comment="the request in full, as last submitted")
    request_key: Mapped[str | None] = mapped_column(
        unique=True,
        comment="sha256 over the comparison's key and the data set's id: what makes two requests the same study; "
        "null in studies of earlier versions that were asked for again or have no comparison",
    )
    created_at: Mapped[CreatedAt]
    submitted_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        server_default=func.now(),
        comment="when it was last submitted; the latest study is that of the latest time",
    )


class Job(Base):
    """The making of one artifact; this row, not the broker's message, is the truth about it."""

    __tablename__ = "job"
    __table_args__ = (
        # Which kinds there are is said by the migrations, and by the stages of the pipeline.
        CheckConstraint(_one_of("state", JOB_STATES), name="state"),
        CheckConstraint(_one_of("queue", QUEUES), name="queue"),
        CheckConstraint(f"priority BETWEEN 0 AND {MAX_PRIORITY}", name="priority"),
        Index("ix_job_state_queue_kind", "state", "queue", "kind"),
        {"comment": "Jobs, one per artifact key; leases with fencing tokens say who may write."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key; the only content of a broker message")
    key: Mapped[str] = mapped_column(unique=True, comment="content address of what the job makes")
    kind: Mapped[str] = mapped_column(comment="kind of job, which names a stage of the pipeline, such as extract")
    title: Mapped[str] = mapped_column(comment="one line for people")
    request: Mapped[Json] = mapped_column(comment="everything the stage needs to know")
    state: Mapped[str] = mapped_column(
        comment="waiting (for another job), queued, running, succeeded, failed or cancelled"
    )
    queue: Mapped[str] = mapped_column(comment="gpu or cpu: which workers may take it")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"), comment="0 to 9; higher runs first")
    attempt: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment="how often the job was started since it was queued anew",
    )
    max_attempts: Mapped[int] = mapped_column(SmallInteger, comment="attempts after which it fails for good")
    outages: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment="attempts that ended because a service was unreachable; they do not count as attempts",
    )
    not_before: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="earliest start of the next attempt, while the job backs off"
    )
    fence: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="fencing token: grows by one with every claim"
    )
    owner: Mapped[str | None] = mapped_column(comment="worker that holds the lease: host, process, token")
    lease_expires_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the lease ends unless the heartbeat renews it (database clock)"
    )
    notified_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when a broker message was last sent for it"
    )
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), comment="start of the latest attempt")
    finished_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when it succeeded, failed or was cancelled"
    )
    progress_done: Mapped[int | None] = mapped_column(comment="units done so far")
    progress_total: Mapped[int | None] = mapped_column(comment="units in all")
    progress_unit: Mapped[str | None] = mapped_column(
        comment="what is counted: a unit of the kind of job, such as images (extract)"
    )
    progress_rate: Mapped[float | None] = mapped_column(comment="units per second of this attempt")
    progress_note: Mapped[str | None] = mapped_column(
        comment="what the latest attempt said last of its state, such as the loss of a training"
    )
    gpu_memory_bytes: Mapped[int | None] = mapped_column(
        comment="peak GPU memory of the latest attempt; null without a GPU"
    )
    checkpoint: Mapped[Json | None] = mapped_column(comment="object and checksum of the latest checkpoint")
    result: Mapped[Json | None] = mapped_column(comment="short summary of what was made")
    error: Mapped[str | None] = mapped_column(comment="last error in one line")


class JobDependency(Base):
    """An order between two jobs."""

    __tablename__ = "job_dependency"
    __table_args__ = (
        Index("ix_job_dependency_depends_on_id", "depends_on_id"),
        {"comment": "Which job waits for which."},
    )

    job_id: Mapped[int] = mapped_column(
        ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, comment="the job that waits"
    )
    depends_on_id: Mapped[int] = mapped_column(
        ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, comment="the job it waits for"
    )


class StudyJob(Base):
    """A job that a study needs; studies share jobs."""

    __tablename__ = "study_job"
    __table_args__ = (
        Index("ix_study_job_job_id", "job_id"),
        {"comment": "Jobs of each study; two studies that need the same artifact share its job."},
    )

    study_id: Mapped[int] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), primary_key=True, comment="the study"
    )
    job_id: Mapped[int] = mapped_column(
        ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, comment="a job it needs"
    )
    reused: Mapped[bool] = mapped_column(comment="true when the job existed before the study was submitted")


class JobEvent(Base):
    """An entry of a job's history."""

    __tablename__ = "job_event"
    __table_args__ = (
        CheckConstraint(_one_of("reason", EVENT_REASONS), name="reason"),
        Index("ix_job_event_job_id", "job_id"),
        Index("ix_job_event_reason", "reason"),
        {"comment": "History of each job: every change of state and whatever a user should know."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key, in order of time")
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), comment="the job")
    at: Mapped[CreatedAt]
    state: Mapped[str | None] = mapped_column(comment="the state the job entered; null for a remark")
    reason: Mapped[str] = mapped_column(comment="kind of event: " + ", ".join(EVENT_REASONS))
    who: Mapped[str] = mapped_column(comment="worker or command that caused it")
    message: Mapped[str] = mapped_column(comment="why, in one line")
    detail: Mapped[Json | None] = mapped_column(comment="names and counts, such as skipped images")
