"""Whether a processor has instructions for bfloat16, without which its products are slow. Nothing here loads torch."""

from functools import cache
from pathlib import Path

# Of x86 (Zen 4, Cooper Lake, Sapphire Rapids and later) and of Arm.
_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@cache
def processor_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the kernel lists such instructions; False where it does not say, as outside Linux."""
    if not cpuinfo.is_file():
        return False
    for line in cpuinfo.read_text().splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not _FLAGS.isdisjoint(flags.split())
    return False
