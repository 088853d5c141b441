"""The Celery application: one short task that runs a job, and the life cycle of a worker."""
