"""The processor's instructions for bfloat16, by what the kernel lists."""

import pytest

from hsae.devices.bfloat16 import processor_has_bfloat16


@pytest.mark.parametrize(
    ("content", "has_them"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 sha_ni\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("model name\t: bf16\nflags\t\t: fpu avx512f avx512_vnni\n", False),
        ("", False),
    ],
)
def test_flags(tmp_path, content, has_them):
    (tmp_path / "cpuinfo").write_text(content)
    assert processor_has_bfloat16(tmp_path / "cpuinfo") is has_them


def test_where_the_kernel_lists_nothing(tmp_path):
    assert not processor_has_bfloat16(tmp_path / "absent")
