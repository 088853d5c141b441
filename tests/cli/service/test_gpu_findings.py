"""What `doctor` says of a GPU, from facts that are made up; and the facts themselves where there is a GPU."""

from dataclasses import replace

import pytest
import torch

from hsae.cli.service.gpu_findings import card_tflops, gpu_findings
from hsae.pipeline.execution.gpu_facts import GpuFacts, gpu_facts

GIB = 1 << 30
FACTS = GpuFacts(
    name="NVIDIA H100 80GB HBM3",
    n_gpus=2,
    capability=(9, 0),
    architectures=("sm_80", "sm_90"),
    driver="580.65.06",
    cuda_build="13.0",
    free_bytes=79 * GIB,
    total_bytes=80 * GIB,
    triton_fault=None,
    compile_fault=None,
    bfloat16_tflops=700.0,
)


def said(**changes) -> dict[str, tuple[bool, str]]:
    return {part: (ok, detail) for part, ok, detail in gpu_findings(replace(FACTS, **changes))}


def test_a_sound_gpu():
    found = said()
    assert all(ok for ok, _ in found.values())
    assert found["GPU"][1] == (
        "NVIDIA H100 80GB HBM3 (1 of 2), compute capability 9.0, driver 580.65.06, torch for CUDA 13.0"
    )
    assert found["GPU memory"][1] == "79.0 of 80.0 GiB free"
    assert found["GPU speed"][1] == "700 of 989 TFLOP/s in bfloat16 products (71% of its data sheet)"


@pytest.mark.parametrize(
    ("changes", "part", "words"),
    [
        ({"driver": "570.86.15"}, "GPU", "needs driver 580 or newer"),
        ({"capability": (7, 0), "name": "Tesla V100-SXM2-16GB"}, "GPU", "7.5 (Turing) or newer"),
        ({"free_bytes": GIB}, "GPU memory", "nvidia-smi"),
        ({"triton_fault": "RuntimeError: Failed to find C compiler"}, "Triton", "install a C compiler"),
        ({"bfloat16_tflops": 90.0}, "GPU speed", "throttled"),
    ],
)
def test_what_is_wrong_and_how_to_fix_it(changes, part, words):
    found = said(**changes)
    assert [name for name, (ok, _) in found.items() if not ok] == [part]
    assert words in found[part][1]
    assert "\n" not in found[part][1]


def test_what_is_no_fault_of_the_service():
    assert said(driver=None)["GPU"] == (True, said()["GPU"][1].replace("driver 580.65.06", "an unknown driver"))
    ok, detail = said(compile_fault="InductorError: no g++")["torch.compile"]
    assert ok
    assert "InductorError: no g++" in detail
    ok, detail = said(name="Some other card", bfloat16_tflops=3.0)["GPU speed"]
    assert ok
    assert "its data sheet is not known" in detail
    assert said(cuda_build="12.6", driver="560.35", capability=(7, 0))["GPU"][0]


def test_the_longer_name_of_a_card_counts():
    assert card_tflops("NVIDIA H100 PCIe") == 756.0
    assert card_tflops("NVIDIA L40S") == 362.0
    assert card_tflops("NVIDIA L4") == 121.0
    assert card_tflops("NVIDIA A100-SXM4-80GB") == 312.0
    assert card_tflops("NVIDIA A10G") == 125.0
    assert card_tflops("GeForce GTX 1080") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_facts_of_this_gpu():
    facts = gpu_facts()
    assert facts.name == torch.cuda.get_device_name()
    assert facts.triton_fault is None
    assert facts.bfloat16_tflops > 1.0
