"""Whether a processor has instructions for bfloat16, without which its products are slow. Nothing here loads torch."""

from functools import cache
from pathlib import Path

from hsae.devices.cpuinfo import CPUINFO, cpu_field

# Of x86 (Zen 4, Cooper Lake, Sapphire Rapids and later) and of Arm.
_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@cache
def processor_has_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the kernel lists such instructions; False where it does not say, as outside Linux."""
    return not _FLAGS.isdisjoint((cpu_field("flags", "Features", cpuinfo=cpuinfo) or "").split())
