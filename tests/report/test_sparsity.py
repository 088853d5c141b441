"""The warning where the sparsity of compared SAEs differs."""

import pytest

from hsae.report.sparsity import unequal_l0


@pytest.mark.parametrize("l0s", [[], [None], [16.0], [16.0, None], [16.0, 17.5], [0.0, 0.0]])
def test_nothing_is_said_where_they_are_alike_or_unknown(l0s):
    assert unequal_l0(l0s, "the SAEs'") is None


def test_the_line_names_the_least_and_the_greatest():
    line = unequal_l0([23.95, None, 20.7, 22.0], "relu SAE x8: its")
    assert line is not None
    assert line.startswith("Warning: relu SAE x8: its held-out L0 goes from 20.7 to 23.9, so a difference may be one")
