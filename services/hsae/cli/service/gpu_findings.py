"""What `doctor` says of a GPU, in one line for each thing that may be wrong with it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hsae.pipeline.execution.gpu_facts import GpuFacts

OLDEST_CAPABILITY = (7, 5)
"""Turing: what PyTorch's builds for CUDA 13 support."""
OLDEST_DRIVER = 580
"""The first branch of the driver that runs CUDA 13."""
_LEAST_FREE_BYTES = 2 << 30
_SLOW_SHARE = 0.4
# Dense bfloat16 (without it float16) in 10^12 operations a second, from NVIDIA's data sheets. The first name that is in
# the card's counts.
_CARD_TFLOPS = (
    ("B200", 2250.0),
    ("H200", 989.0),
    ("GH200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("A40", 150.0),
    ("A10", 125.0),
    ("A30", 165.0),
    ("RTX 6000 Ada", 364.0),
    ("RTX A6000", 155.0),
    ("RTX 5090", 210.0),
    ("RTX 4090", 165.0),
    ("RTX 3090", 71.0),
    ("T4", 65.0),
)


class GpuFinding(NamedTuple):
    """One line: what it is about, whether it is fine, and what was found or how to fix it."""

    part: str
    ok: bool
    detail: str


def gpu_findings(facts: "GpuFacts") -> Iterator[GpuFinding]:
    """What was found of a GPU."""
    yield _card(facts)
    yield _memory(facts)
    if facts.triton_fault is None:
        yield GpuFinding("Triton", True, "compiled a kernel, whose sums are right")
    else:
        yield GpuFinding(
            "Triton",
            False,
            f"no kernel can run ({facts.triton_fault}), and trainings need them: install a C compiler (gcc), and set"
            " TRITON_CACHE_DIR to a folder that may be written to and from which programs may be run",
        )
    if facts.compile_fault is None:
        yield GpuFinding("torch.compile", True, "compiled a function, whose result is right")
    else:  # nothing of hsae uses it, so that it is no fault of the service
        yield GpuFinding("torch.compile", True, f"does not work here ({facts.compile_fault}); hsae works without it")
    yield _speed(facts)


def card_tflops(name: str) -> float | None:
    """What the card's maker says of its dense bfloat16 products, 10^12 operations a second; None: not known here."""
    return next((rate for part, rate in _CARD_TFLOPS if part in name), None)


def _card(facts: "GpuFacts") -> GpuFinding:
    capability = ".".join(map(str, facts.capability))
    driver = "an unknown driver" if facts.driver is None else f"driver {facts.driver}"
    found = (
        f"{facts.name} (1 of {facts.n_gpus}), compute capability {capability}, {driver}, torch for CUDA"
        f" {facts.cuda_build}"
    )
    if facts.capability < OLDEST_CAPABILITY and facts.cuda_build.startswith("13."):
        return GpuFinding("GPU", False, f"{found}: CUDA 13 needs 7.5 (Turing) or newer; install torch for CUDA 12.6")
    if facts.cuda_build.startswith("13.") and facts.driver is not None and _branch(facts.driver) < OLDEST_DRIVER:
        return GpuFinding("GPU", False, f"{found}: CUDA 13 needs driver {OLDEST_DRIVER} or newer; upgrade it")
    return GpuFinding("GPU", True, found)


def _branch(driver: str) -> int:
    first = driver.partition(".")[0]
    return int(first) if first.isdecimal() else OLDEST_DRIVER


def _memory(facts: "GpuFacts") -> GpuFinding:
    found = f"{facts.free_bytes / 2**30:.1f} of {facts.total_bytes / 2**30:.1f} GiB free"
    if facts.free_bytes < _LEAST_FREE_BYTES:
        return GpuFinding("GPU memory", False, f"{found}: look at `nvidia-smi` for the program that has the rest")
    return GpuFinding("GPU memory", True, found)


def _speed(facts: "GpuFacts") -> GpuFinding:
    rate, of_card = facts.bfloat16_tflops, card_tflops(facts.name)
    if of_card is None:
        return GpuFinding("GPU speed", True, f"{rate:.0f} TFLOP/s in bfloat16 products; its data sheet is not known")
    found = f"{rate:.0f} of {of_card:.0f} TFLOP/s in bfloat16 products ({rate / of_card:.0%} of its data sheet)"
    if rate < _SLOW_SHARE * of_card:
        return GpuFinding(
            "GPU speed", False, f"{found}: is another program on it, or is it throttled? `nvidia-smi -q -d PERFORMANCE`"
        )
    return GpuFinding("GPU speed", True, found)
