"""Seconds and memory of registering many files, in a process of its own for each size."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.hierarchy.leaves import wordnet_leaves
from benchmarks.measure import Row, at_most

N_TRAIN_IMAGES = 1_281_167
MAX_SECONDS, MAX_MB = 20.0, 300.0
_N_CLASSES = 1_000
_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Registration:
    """One scan of a folder: wall time, the processors' seconds, and the peak of the process' memory.

    `start_mb` is the peak before it, when WordNet is loaded.
    """

    n_files: int
    seconds: float
    cpu_seconds: float
    start_mb: float
    peak_mb: float


def registrations(n_files: int) -> tuple[Registration, Registration]:
    """Half of the files, and all of them; the files are made anew for each and were just written, so in memory."""
    found = []
    for n in (n_files // 2, n_files):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "images"
            _write_files(folder, n)
            command = [sys.executable, "-m", "benchmarks.extraction.scan_process", str(folder)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(Registration(**json.loads(said)))
            if found[-1].n_files != n:
                raise SystemExit(f"{found[-1].n_files} of {n} files were registered")
        print(f"  registering {n:,} files: {found[-1].seconds:.1f} s, peak {found[-1].peak_mb:.0f} MB")
    half, whole = found
    return half, whole


def registration_rows(half: Registration, whole: Registration, goal_files: int) -> list[Row]:
    """For `goal_files` there are goals, and ImageNet's training set by the slope between the two sizes.

    With few files the slope is noise.
    """
    n = whole.n_files
    seconds, memory = f"registering {n:,} files of {_FILE_BYTES} bytes", f"peak memory, registering {n:,} files"
    taken = [
        Row(f"{seconds}, processors' seconds", whole.cpu_seconds, "s"),
        Row("memory before registering, with WordNet loaded", whole.start_mb, "MB"),
    ]
    if n != goal_files:
        return [Row(seconds, whole.seconds, "s"), Row(memory, whole.peak_mb, "MB"), *taken]
    per_file = (whole.seconds - half.seconds) / (n - half.n_files)
    mb_per_file = (whole.peak_mb - half.peak_mb) / (n - half.n_files)
    more = N_TRAIN_IMAGES - n
    return [
        at_most(seconds, whole.seconds, "s", MAX_SECONDS),
        at_most(memory, whole.peak_mb, "MB", MAX_MB),
        *taken,
        Row(f"registering {N_TRAIN_IMAGES:,} files, by arithmetic", whole.seconds + more * per_file, "s"),
        Row(f"peak memory, {N_TRAIN_IMAGES:,} files, by arithmetic", whole.peak_mb + more * mb_per_file, "MB"),
    ]


def _write_files(folder: Path, n_files: int) -> None:
    """Different files, named like images, in a folder per class."""
    leaves = wordnet_leaves(_N_CLASSES)
    class_ids = [leaves.synsets[node].id for node in leaves.classes]
    body = np.random.default_rng(0).bytes(_FILE_BYTES)
    for number in range(n_files):
        home = folder / class_ids[number % len(class_ids)]
        if number < len(class_ids):
            home.mkdir(parents=True)
        (home / f"{number:07}.jpg").write_bytes(number.to_bytes(8, "little") + body[8:])
