"""Which kind of processor computes: results have the same bits on the same kind alone."""

import platform
from pathlib import Path

import torch

from hsae.devices.bfloat16 import processor_has_bfloat16
from hsae.devices.cpuinfo import CPUINFO, cpu_field


def hardware_of(device: torch.device, cpuinfo: Path = CPUINFO) -> str:
    """The kind of processor behind a device, such as `NVIDIA H200` or `AuthenticAMD AVX512 bfloat16`.

    Of a CPU it is what the libraries choose their routines by: its maker and its instructions, not the model.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    has_bfloat16 = processor_has_bfloat16(cpuinfo)
    maker = cpu_field("vendor_id", cpuinfo=cpuinfo) or platform.machine()
    parts = [maker, torch.backends.cpu.get_cpu_capability(), "bfloat16" if has_bfloat16 else ""]
    return " ".join(part for part in parts if part)
