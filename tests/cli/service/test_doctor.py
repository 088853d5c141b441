"""`doctor` says what computes, and asks torch only where torch alone can know."""

import ctypes

import pytest

from hsae.cli.service import doctor
from hsae.pipeline.connections import Connections
from hsae.settings import Settings


@pytest.mark.parametrize(
    ("build", "has_driver", "possible"),
    [
        ("2.13.0+cpu", True, False),
        ("2.13.0+cu130", True, True),
        ("2.13.0", True, True),
        ("2.13.0+cu130", False, False),
        ("2.13.0+rocm6.4", False, True),
    ],
)
def test_whether_cuda_is_possible(monkeypatch, build, has_driver, possible):
    def load(name):
        if not has_driver:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(doctor, "version", lambda name: build)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert doctor._cuda_is_possible() is possible


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_without_cuda_it_counts_the_cores(device, monkeypatch):
    monkeypatch.setattr(doctor, "_cuda_is_possible", lambda: False)
    connections = Connections()
    connections.use(Settings(device=device))
    assert doctor._device(connections).startswith("cpu, ")
