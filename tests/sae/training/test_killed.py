"""SIGKILL of a training of every kind: what goes on from the checkpoint that is left ends with the same bits."""

import os
import signal
import subprocess
import sys

import pytest
from tests.sae.small_trainings import CPU, N_STEPS, SHORT, assert_same_tensors
from tests.sae.training.killed_training import TOLD_AT, WAITS_AT, read_checkpoint, training_rows

from hsae.sae.training.trainer import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    """(the program, the folder of the checkpoints)."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.sae.training.killed_training", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as program:
        yield program, folder
        assert program.stdin is not None
        program.stdin.close()


@pytest.mark.parametrize("name", SHORT)
def test_a_killed_training_goes_on_to_the_same_bits(name, starter):
    program, folder = starter
    program.stdin.write(f"{name}\n")
    program.stdin.flush()
    os.kill(int(program.stdout.readline()), signal.SIGKILL)
    assert int(program.stdout.readline()) == -signal.SIGKILL
    checkpoint = read_checkpoint(folder, name)
    assert TOLD_AT <= int(checkpoint.metadata["step"]) <= WAITS_AT < N_STEPS
    rows = training_rows()
    straight, resumed = (train(SHORT[name], rows, device=CPU, checkpoint=given) for given in (None, checkpoint))
    assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())
    assert resumed.metrics == straight.metrics
