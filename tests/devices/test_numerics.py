"""Precision and determinism are set in one place, in every process that computes."""

import os
import subprocess
import sys

import pytest
import torch

from hsae.devices import numerics, shown
from hsae.devices.numerics import prepare_device, products, same_bits
from hsae.pipeline.execution import device
from hsae.pipeline.execution.device import pick_device
from hsae.settings import Settings

SHOWN = (
    "import torch; print(torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision,"
    " torch.backends.cudnn.rnn.fp32_precision)"
)


def precisions() -> set[str]:
    return {
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn.fp32_precision,  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize(
    "start",
    [
        "from hsae.pipeline.execution.device import pick_device; from hsae.settings import Settings;"
        " pick_device(Settings())",
        "from hsae.api.arrays.device import chosen_device; chosen_device('auto')",
    ],
    ids=["a worker", "a notebook"],
)
def test_neither_products_nor_convolutions_are_rounded(start, tmp_path):
    """torch rounds convolutions to TF32 unless it is told otherwise."""
    environment = {**os.environ, "HSAE_HOME": str(tmp_path), "HSAE_DEVICE": "auto"}
    ran = subprocess.run([sys.executable, "-c", f"{start}; {SHOWN}"], env=environment, capture_output=True, text=True)
    assert ran.stdout.split() == ["ieee"] * 3, ran.stderr


def test_tf32_holds_while_somebody_needs_it():
    prepare_device(torch.device("cpu"))
    with products("float32"):
        assert precisions() == {"ieee"}
    with products("tf32"):
        assert precisions() == {"tf32"}
        with products("tf32"):
            pass
        prepare_device(torch.device("cpu"))  # as another job of the process does
        assert precisions() == {"tf32"}
    assert precisions() == {"ieee"}


def test_determinism_is_asked_for_on_cuda_alone():
    with same_bits(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with same_bits(torch.device("cuda")), same_bits(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert not torch.are_deterministic_algorithms_enabled()


def test_cublas_gets_a_fixed_workspace_before_it_is_used(monkeypatch):
    monkeypatch.delenv(numerics._WORKSPACE, raising=False)
    prepare_device(torch.device("cpu"))
    assert numerics._WORKSPACE not in os.environ
    prepare_device(torch.device("cuda"))
    assert os.environ[numerics._WORKSPACE] == ":4096:8"
    monkeypatch.setenv(numerics._WORKSPACE, ":16:8")  # the user's own
    prepare_device(torch.device("cuda"))
    assert os.environ[numerics._WORKSPACE] == ":16:8"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
class TestWithoutADevice:
    def test_cuda_that_was_asked_for_is_never_the_cpu(self):
        with pytest.raises(Exception, match="torch sees no CUDA device"):
            pick_device(Settings(device="cuda"))

    def test_a_gpu_that_torch_cannot_use_is_said(self, monkeypatch, tmp_path):
        """After a loss of the driver the CPU would go on in its place, and nobody would know."""
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(shown, "_DRIVER", tmp_path)
        with pytest.raises(Exception, match="an NVIDIA GPU that torch cannot use"):
            pick_device(Settings(device="auto"))
        assert pick_device(Settings(device="cpu")).type == "cpu"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
        assert pick_device(Settings(device="auto")).type == "cpu"

    def test_a_device_that_is_listed_and_does_not_work(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        with pytest.raises(Exception, match="the GPU does not work|compiled with CUDA"):
            pick_device(Settings(device="cuda"))

    def test_a_worker_takes_no_more_than_its_share_of_the_memory(self, monkeypatch):
        shares: list[float] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(device, "_check", lambda found: None)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
        pick_device(Settings(device="cuda"))
        assert shares == []
        pick_device(Settings(device="cuda", gpu_memory_share=0.25))
        assert shares == [0.25]
        pick_device(Settings(device="cpu", gpu_memory_share=0.25))
        assert shares == [0.25]
        for wrong in (0, 1.5):
            with pytest.raises(ValueError, match="gpu_memory_share"):
                Settings(gpu_memory_share=wrong)
