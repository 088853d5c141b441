"""Items are taken one ahead where that is asked for, and never twice; numbers that are there already stay there."""

import pytest
import torch

from hsae.devices.uploads import OneAhead, uploaded


@pytest.mark.parametrize("n_items", [0, 1, 3])
@pytest.mark.parametrize("looks_ahead", [False, True])
def test_every_item_comes_once_in_order(n_items, looks_ahead):
    taken, given = [], []
    items = OneAhead(iter(range(n_items)), lambda item: taken.append(item) or item)
    for item in items:
        assert taken == [*given, item]
        given.append(item)
        if looks_ahead:
            assert items.look_ahead() == items.look_ahead() == (item < n_items - 1)
            assert taken == list(range(min(n_items, item + 2)))
    assert given == taken == list(range(n_items))
    assert not items.look_ahead()


def test_an_error_of_the_next_item_comes_when_it_is_taken():
    def some():
        yield 1
        raise OSError("the file is gone")

    items = OneAhead(some(), lambda item: item)
    assert next(iter(items)) == 1
    with pytest.raises(OSError, match="gone"):
        items.look_ahead()


def test_on_the_cpu_nothing_is_copied():
    values = torch.ones(3)
    assert uploaded(values, torch.device("cpu")) is values
