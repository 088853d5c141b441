"""Blocks for which a device has no memory are cut, and so are those that follow."""

import pytest
import torch
from tests.devices.test_errors import BROKEN, NEITHER, NO_MEMORY

from hsae.hierarchy.kernels import back_off
from hsae.hierarchy.kernels.back_off import forget_parts, in_parts
from hsae.hierarchy.kernels.parallel_blocks import map_blocks

pytestmark = pytest.mark.slow  # the work is done again for every error

BLOCKS = [slice(0, 10), slice(10, 13), slice(13, 40)]


@pytest.fixture(autouse=True)
def whole_blocks():
    forget_parts()
    yield
    forget_parts()


def _work(fails):
    """Returns what a block holds; `fails(number of the call, block)` says whether there is no memory for it."""
    seen = []

    def work(block):
        seen.append(block)
        if fails(len(seen), block):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(block.start, block.stop))

    return work, seen


def test_without_an_error_every_block_is_one_call():
    work, seen = _work(lambda number, block: False)
    assert list(in_parts(work, BLOCKS, "cuda")) == [list(range(block.start, block.stop)) for block in BLOCKS]
    assert seen == BLOCKS
    assert list(in_parts(work, [slice(3, 3)], "cuda")) == [[]]


@pytest.mark.parametrize("number", range(1, 4))
def test_an_error_at_any_call_changes_no_result(number):
    work, seen = _work(lambda call, block: call == number)
    found = [item for part in in_parts(work, BLOCKS, "cuda") for item in part]
    assert found == list(range(40))
    assert len(seen) > len(BLOCKS)


def test_a_block_is_halved_until_it_fits_and_this_is_remembered():
    work, seen = _work(lambda call, block: block.stop - block.start > 3)
    assert [item for part in in_parts(work, BLOCKS, "cuda") for item in part] == list(range(40))
    assert [block.stop - block.start for block in seen[:3]] == [10, 5, 3]
    n_failed = sum(block.stop - block.start > 3 for block in seen)
    again, seen_again = _work(lambda call, block: block.stop - block.start > 3)
    assert [item for part in in_parts(again, BLOCKS, "cuda") for item in part] == list(range(40))
    assert sum(block.stop - block.start > 3 for block in seen_again) < n_failed


def test_one_item_that_does_not_fit_is_an_error():
    work, seen = _work(lambda call, block: block.start <= 7 < block.stop)
    with pytest.raises(torch.OutOfMemoryError):
        list(in_parts(work, BLOCKS, "cuda"))
    assert seen[-2:] == [slice(7, 8)] * 2


def test_one_item_is_tried_once_more(monkeypatch):
    """After what nobody needs was given back: it may have lain in pieces, or been held by others on the card."""
    released = []
    monkeypatch.setattr(back_off, "release_memory", released.append)
    work, seen = _work(lambda call, block: call in (1, 3))
    assert list(in_parts(work, [slice(5, 6), slice(6, 7)], "cuda")) == [[5], [6]]
    assert seen == [slice(5, 6)] * 2 + [slice(6, 7)] * 2
    assert len(released) == 2


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_every_error_that_means_it_is_known(error):
    is_first = iter([True])

    def work(block):
        if next(is_first, False):
            raise error
        return block

    assert list(map_blocks(work, [slice(0, 4)], "cuda")) == [slice(0, 2), slice(2, 4)]


@pytest.mark.parametrize("error", [error for error in [*BROKEN, *NEITHER] if isinstance(error, Exception)], ids=repr)
def test_other_errors_pass(error):
    def work(block):
        raise error

    with pytest.raises(type(error)):
        list(in_parts(work, [slice(0, 4)], "cuda"))


def test_memory_is_given_back_when_the_failed_tensors_are_gone(monkeypatch):
    """The traceback of an error holds the frames of the failed part, and these its tensors."""
    alive = []

    class Held:
        def __init__(self):
            alive.append(self)

        def __del__(self):
            events.append("freed")

    events = []
    monkeypatch.setattr(back_off, "release_memory", lambda device: events.append("released"))

    def work(block):
        held = Held()
        alive.clear()
        if block.stop - block.start > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return held is not None

    assert list(in_parts(work, [slice(0, 4)], "cuda")) == [True, True]
    assert events[:2] == ["freed", "released"]
