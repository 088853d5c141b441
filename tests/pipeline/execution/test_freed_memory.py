"""What a job does with freed memory, seen from the kernel."""

import ctypes
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")), reason="the C library is not glibc"
)
_PROGRAM = """
import json, resource
import numpy as np, psutil
from hsae.pipeline.execution.freed_memory import freed_memory_kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def make_arrays():
    for _ in range(20):
        arrays = [np.ones(3_000_000) for _ in range(4)]  # 24 MB each

process = psutil.Process()
with freed_memory_kept():
    make_arrays()
    before = faults()
    make_arrays()
    n_faults, inside = faults() - before, process.memory_info().rss
print(json.dumps({"faults": n_faults, "given_back": inside - process.memory_info().rss}))
"""


def test_a_job_keeps_freed_memory_and_gives_it_back():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["faults"] < 1_000  # one array alone has 5,860 pages
    assert seen["given_back"] > 50 << 20
