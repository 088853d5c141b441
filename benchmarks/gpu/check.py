"""`make gpu-check`: all CUDA tests and benchmarks on the GPU of this machine, in less than eight minutes.

Every part has a limit of time, and the limits add up to less than eight minutes. The figures go to
`benchmarks/results/gpu_check-<card>.json`. Without a GPU it says what it would run, and that nothing was measured.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import machine, versions

RESULTS = Path(__file__).resolve().parents[1] / "results"
MOST_SECONDS = 460
"""Of all parts: less than eight minutes, with the starts of their processes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the check.

    Attributes:
        name: what it is called in the results.
        arguments: of this Python.
        seconds: after which it is ended, and counts as failed.
        has_rows: whether its last line is a benchmark's JSON.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: int
    has_rows: bool = True


PARTS = (
    Part("tests", ("-m", "pytest", "-q", "-rs", "-m", "gpu", "-n", "0", "tests/devices", "tests/hierarchy/kernels",
                   "tests/sae/kernels", "tests/cli/service/test_gpu_findings.py"), 125, has_rows=False),
    Part("backbone, DINOv2-base", ("-m", "benchmarks.gpu.backbone_rate", "--size", "base"), 40),
    Part("backbone, DINOv2-giant", ("-m", "benchmarks.gpu.backbone_rate", "--size", "giant", "--batches", "5"), 70),
    Part("extraction", ("-m", "benchmarks.extraction.extraction", "--device", "cuda", "--repeats", "2"), 35),
    Part("SAE steps", ("-m", "benchmarks.gpu.sae_steps"), 60),
    Part("streamed trainings", ("-m", "benchmarks.sae.streaming", "--device", "cuda"), 40),
    Part("node scores", ("-m", "benchmarks.hierarchy.node_scores", "--device", "cuda"), 35),
    # One size: how the time grows is not asked of a GPU.
    Part("controls", ("-m", "benchmarks.hierarchy.controls", "--size", "full", "--shares", "1", "--device", "cuda"),
         55),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a part: its figures, its seconds, and why it failed (None: it did not)."""

    name: str
    seconds: float
    failure: str | None
    rows: list[dict[str, Any]]


def run(part: Part, root: Path) -> Outcome:
    """Run a part; its output goes on to the terminal."""
    print(f"== {part.name} (at most {part.seconds} s): python {' '.join(part.arguments)}", flush=True)
    start = time.monotonic()
    try:
        code, output = _ended(part, root)
    except subprocess.TimeoutExpired:
        return Outcome(part.name, time.monotonic() - start, f"ended after its {part.seconds} s", [])
    seconds = time.monotonic() - start
    lines = output.strip().splitlines()
    print("\n".join(lines[:-1] if part.has_rows else lines), flush=True)
    if code:
        return Outcome(part.name, seconds, f"ended with {code}", [])
    if not part.has_rows:
        return Outcome(part.name, seconds, None, [])
    try:
        rows = json.loads(lines[-1])["rows"]
    except (IndexError, KeyError, TypeError, ValueError):
        return Outcome(part.name, seconds, "its last line has no figures", [])
    return Outcome(part.name, seconds, None, [row | {"name": f"{part.name}: {row['name']}"} for row in rows])


def _ended(part: Part, root: Path) -> tuple[int, str]:
    """The exit code and what was printed. What the part has started, such as servers, ends with it."""
    command = [sys.executable, *part.arguments]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=part.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output


def report_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """Everything in one object, as benchmarks print it."""
    times = [
        {"name": f"{outcome.name}: seconds", "value": outcome.seconds, "unit": "s", "goal": None, "met": None}
        for outcome in outcomes
    ]
    return {
        "rows": [row for outcome in outcomes for row in outcome.rows] + times,
        "failed": {outcome.name: outcome.failure for outcome in outcomes if outcome.failure is not None},
        "machine": machine(),
        "versions": versions(),
    }


def result_file(card: str, folder: Path = RESULTS) -> Path:
    """Where the figures of a card go."""
    return folder / f"gpu_check-{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}.json"


def say_what_would_run() -> None:
    """On a machine without a GPU."""
    print("No GPU was used: torch sees no CUDA device. On a machine with one, this runs:")
    for part in PARTS:
        print(f"  {part.name}: python {' '.join(part.arguments)}  (at most {part.seconds} s)")
    print(f"It takes at most {sum(part.seconds for part in PARTS)} s, and writes {result_file('CARD')}.")
    print("Nothing was measured, and nothing here says that CUDA works.")
    print(json.dumps(report_of([])))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if not torch.cuda.is_available():
        say_what_would_run()
        return 0
    card = torch.cuda.get_device_name()
    print(f"GPU: {card}", flush=True)
    outcomes = [run(part, RESULTS.parents[1]) for part in PARTS]
    report = report_of(outcomes)
    file = result_file(card)
    file.write_text(json.dumps(report, indent=1) + "\n")
    for name, failure in report["failed"].items():
        print(f"FAILED {name}: {failure}")
    print(f"{file} written.")
    print(json.dumps(report))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
