"""Scans a folder as `dataset add` does and prints seconds and the peak of its memory in JSON; loads nothing else.

It runs as in a plain installation: pandas and scikit-learn, which NLTK and pyarrow load where they are, are hidden.
"""

import json
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType


class _Hidden(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname in ("pandas", "sklearn"):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def main() -> None:
    sys.meta_path.insert(0, _Hidden())
    # Here: what they import is hidden by now.
    from hsae.datasets import scan
    from hsae.taxonomy import load_taxonomy

    taxonomy = load_taxonomy()
    start_mb = _peak_mb()
    start, cpu = time.perf_counter(), time.process_time()
    dataset = scan(Path(sys.argv[1]), taxonomy)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    found = {"n_files": dataset.n_images, "seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps(found | {"start_mb": start_mb, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
