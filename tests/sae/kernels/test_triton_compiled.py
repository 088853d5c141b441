"""The Triton kernels compiled for an H100, which needs no GPU: that they compile, and that they add nothing atomically.

That they run on one, and how fast, is not tested here.
"""

import re

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: its wheels are for Linux alone")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from hsae.sae.kernels import triton_products  # noqa: E402

_NUMBERS = {"d_model": "i32", "n_entries": "i32"}
_PLACES = ("sources", "first", "last", "left_rows", "right_rows")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", triton_products.KERNELS, ids=lambda kernel: kernel.__name__)
def test_compiles_for_an_h100_without_atomic_additions(kernel, dtype):
    jitted = triton.jit(kernel)
    signature = {name: _NUMBERS.get(name, "*i64" if name in _PLACES else f"*{dtype}") for name in jitted.arg_names}
    source = ASTSource(jitted, signature)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]
    assert ".target sm_90" in compiled.asm["ptx"]
    assert not re.search(r"\b(atom|red)\.", compiled.asm["ptx"])
