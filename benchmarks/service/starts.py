"""CPU seconds that a command of hsae-admin takes, most of which are imports.

Starts a private stack without a worker, registers some of the bundled images, and runs each command in a new process:
user and system time, the least of several runs, so that other work on the machine counts little.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Row, at_most, machine, print_header, print_report, versions

from hsae.demo import backbone_folder, images_folder

ADMIN = (sys.executable, "-c", "from hsae.cli.main import main; main()")
N_CLASSES = 12


@dataclass(frozen=True, slots=True)
class Start:
    """A command, its exit status, and the CPU seconds that it may take (None: no goal)."""

    words: tuple[str, ...]
    status: int = 0
    goal: float | None = None
    completes: str | None = None


def starts(folder: Path) -> dict[str, Start]:
    """What is measured. `folder` holds the images."""
    return {
        "help": Start(("--help",), goal=0.4),
        "help of submit": Start(("submit", "--help"), goal=0.4),
        "completion of commands": Start((), goal=0.4, completes="hsae-admin results "),
        "completion of a job's number": Start((), completes="hsae-admin jobs show "),
        "jobs list": Start(("jobs", "list"), goal=0.4),
        "results layers": Start(("results", "layers"), goal=1.2),
        "results nodes": Start(("results", "nodes"), goal=1.2),
        "results study, refused": Start(("results", "study", "99"), 1, goal=1.2),
        "dataset list": Start(("dataset", "list"), goal=1.2),
        "dataset add, no such path": Start(("dataset", "add", "absent", str(folder / "absent")), 1, goal=1.5),
        "dataset add, a small folder": Start(("dataset", "add", "small", str(folder))),
        "taxonomy show": Start(("taxonomy", "show", "dog.n.01"), goal=2.0),
        "submit, no layer": Start(("submit",), 1, goal=1.5),
        "submit, no such model": Start(
            ("submit", "--layer", "0", "--dataset", "small", "--model", str(folder / "absent")), 1, goal=1.5
        ),
        "submit, shown only": Start(
            ("submit", "--layer", "0", "--dataset", "small", "--model", str(backbone_folder()), "--dry-run")
        ),
        "jobs cancel, no such job": Start(("jobs", "cancel", "99"), 1, goal=1.5),
        "doctor (no worker)": Start(("doctor",), 1, goal=4.0),
    }


def cpu_seconds(start: Start, environment: dict[str, str], cwd: Path) -> float:
    """User and system time of one run, its children included."""
    if start.completes is not None:
        words = start.completes
        environment = environment | {
            "_HSAE_ADMIN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
        }  # fmt: skip
    process = subprocess.Popen(
        [*ADMIN, *start.words], env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = process.stdout.read() if process.stdout is not None else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != start.status:
        raise SystemExit(f"{' '.join(start.words)} ended with {process.returncode}, not {start.status}: {output}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command (default: %(default)s)")
    arguments = parser.parse_args()
    where, what = machine(), versions()
    print_header(f"CPU seconds of a start, the least of {arguments.repeats}", where, what)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images = root / "images"
        for folder in sorted(images_folder().iterdir())[:N_CLASSES]:
            shutil.copytree(folder, images / folder.name)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HSAE_")}
        environment = clean | {"HSAE_HOME": str(root / "home"), "HF_HUB_OFFLINE": "1"}
        up = ("up", "--no-worker")
        try:
            subprocess.run([*ADMIN, *up], env=environment, cwd=root, check=True, stdout=subprocess.DEVNULL)
            rows = []
            for title, start in starts(images).items():
                value = min(cpu_seconds(start, environment, root) for _ in range(arguments.repeats))
                rows.append(
                    Row(title, value, "CPU s") if start.goal is None else at_most(title, value, "CPU s", start.goal)
                )
        finally:
            subprocess.run([*ADMIN, "down"], env=environment, cwd=root, check=False, stdout=subprocess.DEVNULL)
    print_report(rows, where, what, ["a command's wall time, which the servers and the disk share in"])


if __name__ == "__main__":
    main()
