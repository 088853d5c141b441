"""What the database knows about jobs, as metric families."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection, text

from hsae.catalog.vocabulary import EVENT_REASONS, JOB_STATES, QUEUES
from hsae.monitoring.event_counts import BUCKETS, EventCounts, Totals
from hsae.pipeline.kinds.registry import stages

_JOBS = text("SELECT kind, state, queue, count(*) FROM job GROUP BY kind, state, queue")
_RUNNING = text(
    "SELECT id, kind, progress_unit, progress_rate, gpu_memory_bytes, owner FROM job WHERE state = 'running'"
)
# A job is queued more than once in its life, so its age in the queue is in its history. The first thousand jobs of a
# long queue tell its age as well as all of them.
_OLDEST = text(
    """
WITH queued AS MATERIALIZED (
    SELECT id, queue, created_at, not_before, row_number() OVER (PARTITION BY queue ORDER BY id) AS number
    FROM job WHERE state = 'queued'
)
SELECT q.queue,
       extract(epoch FROM clock_timestamp() - min(greatest(coalesce(e.at, q.created_at), q.not_before)))::float8
FROM queued q
LEFT JOIN LATERAL (SELECT max(at) AS at FROM job_event WHERE job_id = q.id AND state = 'queued') e ON true
WHERE q.number <= 1000
GROUP BY q.queue
"""
)


def catalog_metrics(connection: Connection, counts: EventCounts) -> Iterator[Metric]:
    """Every metric that is read from Postgres, in one transaction of `connection` (repeatable read)."""
    yield _jobs(connection)
    yield from _running(connection)
    yield _oldest(connection)
    totals = counts.read(connection)
    yield _events(totals)
    yield _units(totals)
    yield _durations(totals)


def _units_of_kinds() -> list[tuple[str, str]]:
    return [(stage.kind, stage.unit) for stage in stages()]


def _jobs(connection: Connection) -> Metric:
    family = GaugeMetricFamily("hsae_jobs", "Jobs by kind, state and queue.", labels=("kind", "state", "queue"))
    found = {(kind, state, queue): n for kind, state, queue, n in connection.execute(_JOBS)}
    zeros = {(stage.kind, state, stage.queue): 0 for stage in stages() for state in JOB_STATES}
    for labels, n in sorted((zeros | found).items()):
        family.add_metric(labels, n)
    return family


def _running(connection: Connection) -> Iterator[Metric]:
    throughput = GaugeMetricFamily(
        "hsae_stage_throughput",
        f"Units per second of all running jobs: {', '.join(f'{stage.unit} ({stage.kind})' for stage in stages())}.",
        labels=("kind", "unit"),
    )
    memory = GaugeMetricFamily(
        "hsae_gpu_memory_bytes", "Peak GPU memory of each running job that uses a GPU.", labels=("job", "host")
    )
    rates = dict.fromkeys(_units_of_kinds(), 0.0)
    for job_id, kind, unit, rate, n_bytes, owner in connection.execute(_RUNNING):
        if unit is not None and rate is not None:
            rates[kind, unit] = rates.get((kind, unit), 0.0) + rate
        if n_bytes is not None:
            memory.add_metric((str(job_id), (owner or "").partition(":")[0]), n_bytes)
    for labels, rate in sorted(rates.items()):
        throughput.add_metric(labels, rate)
    yield throughput
    yield memory


def _oldest(connection: Connection) -> Metric:
    family = GaugeMetricFamily(
        "hsae_oldest_queued_seconds",
        "For how long the oldest job of a queue has been ready to run; 0 where none is.",
        labels=("queue",),
    )
    found = {queue: max(seconds, 0.0) for queue, seconds in connection.execute(_OLDEST)}
    for queue, seconds in sorted((dict.fromkeys(QUEUES, 0.0) | found).items()):
        family.add_metric((queue,), seconds)
    return family


def _events(totals: Totals) -> Metric:
    family = CounterMetricFamily(
        "hsae_job_events", "Events in the history of jobs, by reason and kind of job.", labels=("reason", "kind")
    )
    # Zeros too: an increase is only seen by who has seen the value before.
    for reason in EVENT_REASONS:
        for stage in stages():
            family.add_metric((reason, stage.kind), totals.events[reason, stage.kind])
    return family


def _units(totals: Totals) -> Metric:
    family = CounterMetricFamily(
        "hsae_units_done", "Units of all jobs that succeeded, by kind of job.", labels=("kind", "unit")
    )
    for labels in sorted({*_units_of_kinds(), *totals.units}):
        family.add_metric(labels, totals.units[labels])
    return family


def _durations(totals: Totals) -> Metric:
    family = HistogramMetricFamily(
        "hsae_job_seconds", "Seconds from the start to the end of attempts that succeeded.", labels=("kind",)
    )
    bounds = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
    for kind in (stage.kind for stage in stages()):
        n, cumulative = 0, []
        for bucket, bound in enumerate(bounds):
            n += totals.durations[kind, bucket]
            cumulative.append((bound, float(n)))
        family.add_metric((kind,), cumulative, totals.seconds.get(kind, 0.0))
    return family
