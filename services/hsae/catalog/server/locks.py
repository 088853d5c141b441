"""Names of Postgres advisory locks. A transaction that takes one waits for the transaction that holds it."""

SUBMIT_LOCK = "hsae.submit"
"""Held by what enters jobs or decides that none is wanted: submit, retry, garbage collection."""
DATASET_LOCK = "hsae.dataset"
"""Held by what stores and enters data sets, or deletes their objects."""
