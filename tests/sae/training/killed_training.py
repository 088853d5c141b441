"""Trains in processes that are there to be killed. A line of input is the name of a training; a line of output says
what its process is, once a checkpoint of it is in the folder, and another one how the process ended.

The process that forks never trains: torch allows no backward pass after a fork of one that did.
"""

import os
import signal
import sys
from pathlib import Path

import safetensors.torch
import torch
from tests.sae.conftest import planted_dictionary, rows_of
from tests.sae.small_trainings import CPU, SHORT

from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.trainer import CheckpointSaving, StepReport, train

TOLD_AT, WAITS_AT = 17, 30
"""It goes on after the step at which it tells its number, and at the other one it waits for its end."""


def training_rows() -> TrainingRows:
    """The fixture `rows`."""
    return rows_of(planted_dictionary(150, 8, 12, 2)[0])


def read_checkpoint(folder: Path, name: str) -> Checkpoint:
    """The last one that a training has written."""
    with safetensors.safe_open(folder / name, framework="pt") as opened:
        metadata = opened.metadata()
        return Checkpoint({key: opened.get_tensor(key) for key in opened.keys()}, metadata)  # noqa: SIM118


def _train(name: str, folder: Path) -> None:
    last = 0

    def on_step(report: StepReport) -> None:
        nonlocal last
        last = report.step
        if last == WAITS_AT:
            signal.pause()

    def save(checkpoint: Checkpoint) -> None:
        new = folder / f"{name}.new"
        safetensors.torch.save_file(dict(checkpoint.tensors), new, dict(checkpoint.metadata))
        new.replace(folder / name)
        if last == TOLD_AT:
            _say(os.getpid())

    train(SHORT[name], training_rows(), device=CPU, on_step=on_step, saving=CheckpointSaving(lambda: True, save))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _main(folder: Path) -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            _train(line.strip(), folder)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        _say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
