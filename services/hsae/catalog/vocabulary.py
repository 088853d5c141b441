"""Words that the catalog's columns take, for those who need no table."""

JOB_STATES = ("waiting", "queued", "running", "succeeded", "failed", "cancelled")
LIVE_STATES = ("waiting", "queued", "running")
UNSUCCESSFUL_STATES = ("failed", "cancelled")
QUEUES = ("gpu", "cpu")
MAX_PRIORITY = 9
EVENT_REASONS = (
    "submitted", "claimed", "released", "succeeded", "failed", "retried", "outage", "lease_expired", "handed_back",
    "cancelled", "requeued", "remark",
)  # fmt: skip
