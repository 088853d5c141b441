"""`make bench-extract`: `throughput.py`, then `workers.py`, with the figures of both in the last line.

Each runs in a process of its own, so that neither has the memory or the threads of the other.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (
    ("-m", "benchmarks.extraction.throughput", "--images", "2000", "--files", "100000"),
    ("-m", "benchmarks.extraction.workers"),
)


def report_of(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a program of this Python; what it prints goes on to the terminal, but for its last line, the report."""
    command = [sys.executable, *arguments]
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(last, end="", flush=True)
            last = line
    if process.returncode:
        print(last, end="", flush=True)
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}; nothing is reported")
    report: dict[str, Any] = json.loads(last)
    return report


def merged(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report: the rows, tables and lists of all; machine and versions, with the load before, of the first."""
    first = reports[0]
    return {
        "rows": [row for report in reports for row in report["rows"]],
        "machine": first["machine"],
        "versions": first["versions"],
        "table": {name: value for report in reports for name, value in report["table"].items()},
        "not_measured": [line for report in reports for line in report["not_measured"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(json.dumps(merged([report_of(program) for program in PROGRAMS])))


if __name__ == "__main__":
    main()
