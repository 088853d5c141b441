"""What every descriptor of a stage must hold to, and that reading them loads nothing that computes."""

import json
import subprocess
import sys
from pkgutil import resolve_name

import pytest

from hsae.catalog import QUEUES
from hsae.pipeline.kinds.registry import stage_of, stage_of_folder, stages

_LIGHT = (
    "hsae.pipeline.kinds.registry", "hsae.pipeline.queue.heartbeat", "hsae.pipeline.queue.reconcile",
    "hsae.pipeline.planning.requests", "hsae.pipeline.upkeep.clean_up", "hsae.pipeline.upkeep.damage",
    "hsae.pipeline.control.jobs",
)  # fmt: skip
_HEAVY = ("torch", "transformers", "pyarrow", "scipy")


def test_a_stage_is_behind_those_that_it_needs():
    kinds = [stage.kind for stage in stages()]
    assert {"extract", "train", "analyze", "compare"} <= set(kinds)
    assert len(kinds) == len(set(kinds))
    for place, stage in enumerate(stages()):
        assert set(stage.after) <= set(kinds[:place]), stage.kind


@pytest.mark.parametrize("stage", stages(), ids=lambda stage: stage.kind)
def test_a_descriptor_is_complete(stage):
    assert callable(resolve_name(stage.code))
    assert stage.queue in QUEUES
    assert stage_of(stage.kind) is stage
    if stage.folder is not None:
        assert stage_of_folder(stage.folder) is stage


def test_reading_descriptors_and_holding_leases_load_nothing_that_computes():
    code = (
        f"import sys, json; {'; '.join(f'import {name}' for name in _LIGHT)}\n"
        "hsae.pipeline.kinds.registry.stages()\n"
        f"print(json.dumps([name for name in {_HEAVY} if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(run.stdout) == []
