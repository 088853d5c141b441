"""What the benchmarks share: the machine, the versions, timing in turns, and the report with its line of JSON."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import psutil
import torch

from hsae.devices.cpuinfo import cpu_field

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers", "hsae")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number; `met` says whether it reaches `goal`, both None where no goal is set."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    met: bool | None = None


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option `--device`: where hsae computes; contenders stay where they are."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--device", choices=devices, default="cpu", help="of hsae (default: %(default)s)")


def at_most(name: str, value: float, unit: str, goal: float) -> Row:
    """A row whose goal is an upper bound."""
    return Row(name, value, unit, goal, value <= goal)


def at_least(name: str, value: float, unit: str, goal: float) -> Row:
    """A row whose goal is a lower bound."""
    return Row(name, value, unit, goal, value >= goal)


def machine() -> dict[str, str | int | float | None]:
    """What this runs on; `load_before` is the load average of the last minute, so that a busy machine shows."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": _os(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python and the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def seconds_in_turns(contenders: Mapping[str, Callable[[], object]], n_repeats: int) -> dict[str, float]:
    """Median seconds of each contender; they take turns, so that a slow spell of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(n_repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"  {name}: {', '.join(f'{value:.3f}' for value in values)} s")
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_header(title: str, where: Mapping[str, object], what: Mapping[str, str]) -> None:
    """What is measured, on what, with what."""
    print(title)
    for name, values in (("machine", where), ("versions", what)):
        print(f"  {name}: {', '.join(f'{key} {value}' for key, value in values.items())}")


def print_report(
    rows: Sequence[Row],
    where: Mapping[str, object],
    what: Mapping[str, str],
    not_measured: Sequence[str],
    table: Mapping[str, object] | None = None,
) -> None:
    """The numbers, what was not measured, and everything once more as the last line, in JSON, with a table if given."""
    for row in rows:
        goal = "" if row.goal is None else f"  (goal {row.goal:g}: {'met' if row.met else 'MISSED'})"
        print(f"  {row.name}: {row.value:.4g} {row.unit}{goal}")
    for line in not_measured:
        print(f"  not measured: {line}")
    report = {"rows": [asdict(row) for row in rows], "machine": where, "versions": what}
    print(json.dumps(report if table is None else report | {"table": table, "not_measured": list(not_measured)}))


def _cpu() -> str:
    return cpu_field("model name") or platform.processor() or platform.machine()


def _os() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no Linux, or one that does not say
        return f"{platform.system()} {platform.release()}"
