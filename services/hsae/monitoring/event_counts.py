"""Counts over the history of jobs, at a cost that does not grow with the history."""

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0, 86400.0)

_NOW = text(
    "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,"
    " coalesce((SELECT max(id) FROM job_event), 0) FROM pg_current_snapshot() s"
)
_COUNTS = text(
    """
SELECT settled, reason, kind, unit, bucket, count(*), coalesce(sum(seconds), 0), coalesce(sum(units), 0)
FROM (
    SELECT e.id <= :settle AS settled, e.reason, j.kind,
           CASE WHEN e.reason = 'succeeded' THEN j.progress_unit END AS unit,
           CASE WHEN e.reason = 'succeeded' THEN j.progress_total END AS units,
           CASE WHEN e.reason = 'succeeded' THEN d.seconds END AS seconds,
           CASE WHEN e.reason = 'succeeded' THEN width_bucket(d.seconds, CAST(:buckets AS float8[])) END AS bucket
    FROM job_event e
    JOIN job j ON j.id = e.job_id
    CROSS JOIN LATERAL (SELECT extract(epoch FROM j.finished_at - j.started_at)::float8 AS seconds) d
    WHERE e.id > :counted
) event
GROUP BY settled, reason, kind, unit, bucket
"""
)


@dataclass(slots=True)
class Totals:
    """Totals so far.

    Attributes:
        events: number of events by (reason, kind).
        units: finished units by (kind, unit).
        durations: number of successful attempts by (kind, bucket); bucket i has BUCKETS[i - 1] <= seconds < BUCKETS[i].
        seconds: sum of the durations by kind.
    """

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    units: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        reason: str,
        kind: str,
        unit: str | None,
        bucket: int | None,
        n_events: int,
        seconds: float,
        n_units: int,
    ) -> None:
        """Add one row of the query."""
        self.events[reason, kind] += n_events
        if unit is not None:
            self.units[kind, unit] += int(n_units)
        if bucket is not None:
            self.durations[kind, bucket] += n_events
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def copy(self) -> "Totals":
        """An independent copy."""
        return Totals(self.events.copy(), self.units.copy(), self.durations.copy(), dict(self.seconds))


class EventCounts:
    """Counts every event once: each reading looks only at events that are not yet settled.

    An id is assigned before its transaction commits, so an event may appear after newer ones. Events are settled once
    all transactions have ended that were running when they were the newest; until then every reading counts them again.
    Totals never fall, even if jobs are removed, as Prometheus requires of a counter.
    """

    def __init__(self) -> None:
        self._settled = Totals()
        self._counted = 0  # every event up to this id is in _settled
        self._next: tuple[int, int] | None = None  # (newest id, first future transaction) at an earlier reading

    def read(self, connection: Connection) -> Totals:
        """The totals as the connection's transaction (repeatable read) sees them."""
        oldest_running, first_future, newest = connection.execute(_NOW).one()
        if newest < self._counted:  # another database: restored or recreated
            self._settled, self._counted, self._next = Totals(), 0, None
        settle = self._counted
        if self._next is not None and oldest_running >= self._next[1]:
            settle = self._next[0]
        values = {"settle": settle, "counted": self._counted, "buckets": list(BUCKETS)}
        rows = connection.execute(_COUNTS, values).all()
        settled = self._settled.copy()
        for is_settled, *row in rows:
            if is_settled:
                settled.add(*row)
        totals = settled.copy()
        for is_settled, *row in rows:
            if not is_settled:
                totals.add(*row)
        if self._next is None or settle > self._counted or self._next[0] == self._counted:
            self._next = (newest, first_future)
        self._settled, self._counted = settled, settle
        return totals
