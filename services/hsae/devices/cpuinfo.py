"""What the kernel says of the processor. Nothing here loads torch."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpu_field(*names: str, cpuinfo: Path = CPUINFO) -> str | None:
    """The first field with one of these names; None where the kernel does not say it, as outside Linux."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() in names), None)
