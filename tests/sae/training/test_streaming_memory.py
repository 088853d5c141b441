"""A streamed training holds two windows, whatever the set's size: measured in a process of its own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# 400 MB of rows in 40 shards, which one tensor stands for; windows of 40 MB.
_PROGRAM = """
import resource
import torch
from hsae.sae.config import SaeConfig
from hsae.sae.rows.shards import ShardLayout
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.trainer import train

ROWS, D_MODEL = 10_240, 256
content = torch.randn(ROWS, D_MODEL, generator=torch.Generator().manual_seed(0))


class Shards:
    d_model, dtype = D_MODEL, torch.float32

    def __init__(self, n):
        bounds = torch.arange(n + 1) * ROWS
        self.layout = ShardLayout(bounds, bounds[:-1], torch.arange(n * ROWS), 1, 1)

    def read(self, shard):
        index = torch.arange(shard * ROWS, (shard + 1) * ROWS, dtype=torch.int32)
        return TrainingRows(content + shard, index, torch.zeros(ROWS, dtype=torch.int16))

    def check(self):
        pass


def train_on(n_shards, n_steps):
    size = {"expansion": 1, "k": 4, "batch_size": 8192, "n_steps": n_steps, "aux_coefficient": 0}
    config = SaeConfig(kind="topk", rows="stream", window_shards=4, **size)
    train(config, StreamedRows(Shards(n_shards)), device=torch.device("cpu"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


torch.set_num_threads(1)
print(train_on(1, 1), train_on(40, 50))
"""


def test_memory_does_not_grow_with_the_set():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    # Two windows, a shard on its way, and chunks of samples in float64; all rows would be 400 MB.
    assert after - before < 2 * 40 + 120, (before, after)
