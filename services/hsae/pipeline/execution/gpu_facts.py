"""What `doctor` wants to know of a GPU: what it is, whether kernels can be made for it, and how fast it multiplies."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hsae.devices.memory import release_memory

_SIDE = 8_192
_REPEATS = 10
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What was found of one GPU.

    Attributes:
        name: the card's name.
        n_gpus: how many torch sees.
        capability: compute capability, such as (9, 0).
        architectures: for which torch's own kernels were built, such as "sm_90".
        driver: version of the driver; None where nothing tells it.
        cuda_build: the CUDA version that torch was built for.
        free_bytes: of its memory.
        total_bytes: of its memory.
        triton_fault: why a Triton kernel cannot run; None: it ran and was right.
        compile_fault: why torch.compile cannot; None: it ran and was right.
        bfloat16_tflops: 10^12 operations a second of a square matrix product of 8,192, the best of ten.
    """

    name: str
    n_gpus: int
    capability: tuple[int, int]
    architectures: tuple[str, ...]
    driver: str | None
    cuda_build: str
    free_bytes: int
    total_bytes: int
    triton_fault: str | None
    compile_fault: str | None
    bfloat16_tflops: float


def gpu_facts() -> GpuFacts:
    """Look at the CUDA device, compile two small kernels for it, and measure it; takes some seconds.

    Raises:
        RuntimeError: the device does not work.
    """
    device = torch.device("cuda")
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return GpuFacts(
        name=properties.name,
        n_gpus=torch.cuda.device_count(),
        capability=(properties.major, properties.minor),
        architectures=tuple(torch.cuda.get_arch_list()),
        driver=_driver(),
        cuda_build=torch.version.cuda or "none",
        free_bytes=free,
        total_bytes=total,
        triton_fault=_fault(lambda: _try_triton(device)),
        compile_fault=_fault(lambda: _try_compile(device)),
        bfloat16_tflops=_matmul_tflops(device),
    )


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split()
        if found:
            return found[0]
    except (OSError, subprocess.SubprocessError):
        pass
    try:  # where only the driver's libraries are mounted
        words = _DRIVER.read_text().splitlines()[0].split()
        return next((word for word in words if word.count(".") >= 1 and word.replace(".", "").isdecimal()), None)
    except (OSError, IndexError):
        return None


def _fault(attempt: Callable[[], None]) -> str | None:
    try:
        attempt()
    except Exception as error:  # noqa: BLE001 -- whatever stops a compiler is the finding
        first = next(iter(str(error).strip().splitlines()), "no message")
        return f"{type(error).__name__}: {first}"[:200]
    return None


def _try_triton(device: torch.device) -> None:
    """Run the kernel of the sparse product on three entries.

    Raises:
        ImportError: Triton is not installed.
        ArithmeticError: the sums are wrong.
    """
    # Triton comes with it, which not every machine has.
    from hsae.sae.kernels.triton_products import gather_sums

    table = torch.arange(8.0, device=device).view(4, 2)
    sources, offsets = torch.tensor([0, 3, 2], device=device), torch.tensor([0, 2], device=device)
    values = torch.tensor([1.0, 2.0, 3.0], device=device)
    sums = gather_sums(sources, offsets, values, table, uneven=False).tolist()
    if sums != [[12.0, 15.0], [12.0, 15.0]]:
        raise ArithmeticError(f"the sums are {sums}, not twice [12, 15]")


def _try_compile(device: torch.device) -> None:
    """Compile a small function.

    Raises:
        ArithmeticError: its result is wrong.
    """

    def small(x: torch.Tensor) -> torch.Tensor:
        return (x * 2 + 1).relu()

    found = torch.compile(small)(torch.arange(-2.0, 2.0, device=device)).tolist()
    if found != [0.0, 0.0, 1.0, 3.0]:
        raise ArithmeticError(f"the result is {found}, not [0, 0, 1, 3]")


def _matmul_tflops(device: torch.device) -> float:
    """The rate of a bfloat16 product, in 10^12 multiplications and additions a second."""
    left = torch.randn(_SIDE, _SIDE, dtype=torch.bfloat16, device=device)
    seconds = []
    for _ in range(_REPEATS + 1):  # the first one makes cuBLAS choose
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        left @ left
        torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    del left
    release_memory(device)
    return 2 * _SIDE**3 / min(seconds[1:]) / 1e12
