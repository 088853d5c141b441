"""The Celery application of the workers: `hsae-admin worker`, or `celery -A hsae_worker.app worker -Q gpu,cpu`."""

import os

from celery import Celery

from hsae.catalog import QUEUES
from hsae.errors import UserError
from hsae.pipeline.queue.notifier import make_app
from hsae.settings import load_settings

# Read when a child loads torch. Threads that spin while they wait make training many times slower as soon as anything
# else runs on the machine (measured: eightfold on two busy cores), and gain little on an idle one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

try:
    settings = load_settings()
    app: Celery = make_app(settings)
except UserError as error:
    raise SystemExit(f"Error: {error}") from None
app.conf.update(
    imports=("hsae_worker.logging_setup", "hsae_worker.tasks", "hsae_worker.lifecycle"),
    task_queues={queue: {} for queue in QUEUES},
    worker_consumer="hsae_worker.consumer:Consumer",
    worker_pool="prefork",
    # One job at a time: a job has the GPU, or all cores, to itself.
    worker_concurrency=1,
    # A busy worker must not hold a message that an idle one could start.
    worker_disable_prefetch=True,
    # A killed child's last result is not waited for: outcomes are in Postgres.
    worker_lost_wait=0.5,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # A broker may be away for hours.
    broker_connection_max_retries=None,
)
