"""A service with a finished study, and jobs in every state that a person may look at."""

from pathlib import Path
from typing import Any

import torch
from sqlalchemy import text
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.sae.exchange.peer_files import write
from tests.small import link_classes, register, register_small, small_request

from hsae.catalog import transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.connections import Connections
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.submission.imported_saes import read_checked, register_sae
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.place import SaePlace

LONG_NAME = "soft-coated_wheaten_terrier_of_the_north.n.01"
"""What one class of the data set is called."""

_EXTRACTION = {"shard_images": 40, "batch_size": 20}
FINISHED = small_request(
    saes=(TINY_SAE, SaeConfig(kind="relu", expansion=2, n_steps=30)), extraction=ExtractionConfig(**_EXTRACTION)
)
STUDY_FILE = f"""
name: everything again
model: {FINISHED.model}
dataset: small
layers: [1, 3]
saes:
  - {{kind: topk, k: 4, expansion: 2, n_steps: 30}}
  - {{kind: relu, expansion: 2, n_steps: 30}}
extraction: {_EXTRACTION}
scoring: {FINISHED.scoring.model_dump(mode="json")}
split: none
"""


def enter_states(service) -> dict[str, Any]:
    """Run a small study, and enter others whose jobs fail, run, back off, wait and are cancelled.

    Returns the numbers of studies (`study_finished`, ...) and jobs (`extract`, `failed`, `running`, ...) by name,
    `study_file`, which asks for the finished study, the name and id of the class with the long name, and its `parent`.
    """
    register_small(service, n_classes=8)
    peer = write_peer(service.folder / "peer" / "layers.3")
    with_name = read_checked(SaePlace(str(peer)), name="peer", layer=None)
    connections = Connections()
    connections.use(service.settings)
    register_sae(connections, with_name, str(peer))
    for number, name in enumerate(("spare", "unused"), start=2):  # to be renamed, and removed
        register(service, name, link_classes(service.folder / name, number))
    finished = submit(FINISHED, service.settings, service.sessions)
    assert set(run_jobs(service, finished)) == {"succeeded"}
    of_kind = {job.kind: job.id for job in finished.jobs}
    plans = {name: _another(service, layer) for layer, name in enumerate(("failed", "running", "pausing", "cancel"))}
    again = _another(service, 5)  # to be tried again
    removed = submit(FINISHED.model_copy(update={"layers": (1,)}), service.settings, service.sessions)
    _set(service, _new_job(removed, "compare"), "state = 'cancelled', error = 'cancelled by me@here'")
    first = {name: _new_job(plan, "extract") for name, plan in plans.items()}
    _set(service, first["failed"], "state = 'failed', attempt = 3, error = 'NaN in layer 0', finished_at = now()")
    for job in plans["failed"].jobs:  # nobody makes what monosemanticity compares images by
        if job.kind == "extract" and job.id != first["failed"]:
            _set(service, job.id, "state = 'succeeded', finished_at = now()")
    for kind in ("probe", "train", "analyze"):
        stopped = _new_job(plans["failed"], kind)
        _set(service, stopped, f"state = 'cancelled', error = 'needs job {first['failed']}, which failed'")
    _set(service, _new_job(plans["failed"], "compare"), "state = 'cancelled', error = 'cancelled by me@here'")
    _set(
        service,
        first["running"],
        "state = 'running', attempt = 2, owner = 'worker@host', started_at = now(), progress_done = 10,"
        " progress_total = 40, progress_unit = 'images', progress_rate = 5, gpu_memory_bytes = 2000000000,"
        " lease_expires_at = now() + interval '1 day'",
    )
    _set(
        service,
        first["pausing"],
        "not_before = now() + interval '90 minutes', outages = 2, attempt = 1, priority = 5, error = 'S3 is away'",
    )
    to_retry = _new_job(again, "extract")
    _set(service, to_retry, "state = 'failed', error = 'the disk was full', finished_at = now()")
    with transaction(service.sessions) as session:
        node = session.execute(text("SELECT synset_id FROM dataset_class ORDER BY synset_id LIMIT 1")).scalar_one()
        above = text("SELECT name FROM synset JOIN hypernym ON hypernym_id = id WHERE synset_id = :id LIMIT 1")
        parent = session.execute(above, {"id": node}).scalar_one()
        session.execute(text("UPDATE synset SET name = :name WHERE id = :id"), {"name": LONG_NAME, "id": node})
    study_file = Path(service.folder) / "study.yaml"
    study_file.write_text(STUDY_FILE)
    return {
        **of_kind,
        **first,
        "waiting": _new_job(plans["running"], "train"),
        "stopped": _new_job(plans["failed"], "train"),
        "retry": to_retry,
        "study_finished": finished.study_id,
        "study_failed": plans["failed"].study_id,
        "study_cancel": plans["cancel"].study_id,
        "study_removed": removed.study_id,
        "n_finished": len(finished.jobs),
        "study_file": study_file,
        "peer": peer,
        "long_name": LONG_NAME,
        "long_id": node,
        "parent": parent,
        "images": Path(service.folder) / "images",
        "output": Path(service.folder) / "export",
    }


def write_peer(folder: Path) -> Path:
    """A TopK SAE in the files of sparsify."""
    directions = torch.nn.functional.normalize(torch.randn(60, 192, generator=torch.Generator().manual_seed(1)))
    config = {"activation": "topk", "expansion_factor": 1, "num_latents": 60, "k": 4, "d_in": 192}
    tensors = {
        "encoder.weight": directions, "encoder.bias": torch.zeros(60), "W_dec": directions.clone(),
        "b_dec": torch.zeros(192),
    }  # fmt: skip
    return write(folder, config, tensors)


def _another(service, layer: int) -> Plan:
    """A study of which nothing is made yet."""
    extraction = ExtractionConfig(**_EXTRACTION, tokens="mean")
    request = small_request(layers=(layer,), saes=(TINY_SAE,), extraction=extraction)
    return submit(request, service.settings, service.sessions)


def _new_job(plan: Plan, kind: str) -> int:
    jobs = [job for job in plan.jobs if job.kind == kind and job.status == "new"]
    (found,) = [job.id for job in jobs if kind != "extract" or job.title.startswith("extract mean")]
    return found


def _set(service, job: int, values: str) -> None:
    with transaction(service.sessions) as session:
        session.execute(text(f"UPDATE job SET {values} WHERE id = :id"), {"id": job})
