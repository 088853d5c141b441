"""Which process of pytest-xdist runs which tests, and in which order.

The tests of a file stay in one process, and so do those of a folder that share a study or servers: it is made once, not
once in every process. What takes longest starts first: what is left at the end is short, and no process waits long for
another.
"""

from xdist.scheduler import LoadScopeScheduling

# Each folder shares a study or servers. Not tests/faults, whose tests take minutes: there each is a part, with all of
# its parameters, and every process has servers of its own.
TOGETHER = ("tests/demo", "tests/explorer", "tests/report/page", "tests/api", "tests/store")
# Folders and files whose tests take longest, the longest first.
LONGEST = (
    "tests/faults/test_publishing",
    "tests/faults/test_worker_stopped",
    "tests/demo",
    "tests/faults",
    "tests/explorer",
    "tests/report/page",
    "tests/api",
    "tests/security/test_secrets",
    "tests/cli/submit/test_bad_input",
    "tests/cli/submit/test_submit",
    "tests/sae/variants",
    "tests/sae/training",
    "tests/embedded",
    "tests/monitoring",
    "tests/store",
    "tests/cli",
    "tests/operations",
    "tests/pipeline/upkeep",
    "tests/hierarchy",
    "tests/pipeline",
)


def part_of(nodeid: str) -> str:
    """What one process runs as a whole: the folder of a test in TOGETHER, a test of tests/faults, else its file."""
    path = nodeid.partition("::")[0]
    if path.startswith("tests/faults/"):
        return nodeid.partition("[")[0]
    return next((folder for folder in TOGETHER if path.startswith(f"{folder}/")), path)


def rank(nodeid: str) -> int:
    """The place of a test's part in the order."""
    return next((place for place, start in enumerate(LONGEST) if nodeid.startswith(start)), len(LONGEST))


class PartScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist carries no types
    """Gives a free process the next part, in the order of collection (with --no-loadscope-reorder)."""

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)
