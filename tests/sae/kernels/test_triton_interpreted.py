"""Runs interpreted_products.py: the Triton kernels without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: its wheels are for Linux alone")

_INTERPRETED = Path(__file__).with_name("interpreted_products.py")


@pytest.mark.slow
def test_kernels_under_the_interpreter_equal_torch(request):
    profile = request.config.getoption("--hypothesis-profile", default=None)
    options = ["-q", "-p", "no:cacheprovider", *(["--hypothesis-profile", profile] if profile else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(_INTERPRETED), *options],
        cwd=request.config.rootpath,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
