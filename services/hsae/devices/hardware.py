"""Which kind of processor computes: results have the same bits on the same kind alone."""

import platform
from functools import cache
from pathlib import Path

import torch

from hsae.devices.bfloat16 import processor_has_bfloat16


def hardware_of(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The kind of processor behind a device, such as `NVIDIA H200` or `AuthenticAMD AVX512 bfloat16`.

    Of a CPU it is what the libraries choose their routines by: its maker and its instructions, not the model.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    has_bfloat16 = processor_has_bfloat16(cpuinfo)
    parts = [_maker(cpuinfo), torch.backends.cpu.get_cpu_capability(), "bfloat16" if has_bfloat16 else ""]
    return " ".join(part for part in parts if part)


@cache
def _maker(cpuinfo: Path) -> str:
    """The CPU's maker where the kernel says it, else its architecture."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() == "vendor_id"), platform.machine())
