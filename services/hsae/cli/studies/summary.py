"""A study as one row of a table."""

from typing import Any

from hsae.backbones.names import random_init_name, short_model_name
from hsae.catalog import JOB_STATES
from hsae.report.ranges import ranges

COLUMNS = {
    "id": "study", "name": "name", "model": "model", "dataset": "data set", "layers": "layers", "n_saes": "SAEs",
    "jobs": "jobs", "submitted_at": "submitted",
}  # fmt: skip


def for_people(row: dict[str, Any]) -> dict[str, Any]:
    """The texts of a table for a study's model, layers and jobs."""
    model = None if row["model"] is None else short_model_name(row["model"])
    if model is not None and row["random_init"] is not None:
        model = random_init_name(model, row["random_init"])
    return {
        "dataset": row["dataset"]
        if row["score_dataset"] is None
        else f"{row['dataset']}, scored on {row['score_dataset']}",
        "model": model,
        "layers": ranges(row["layers"]) if row["layers"] else None,
        "jobs": ", ".join(f"{row['jobs'][state]} {state}" for state in JOB_STATES if state in row["jobs"]) or None,
    }
