"""No more bytes are lent than there are, and who asks for much is not passed over."""

import threading

from tests.waiting import wait_for

from hsae.datasets import MemoryBudget


class Holder:
    """A thread that holds some bytes until it is told to give them back."""

    def __init__(self, budget: MemoryBudget, n_bytes: int) -> None:
        self.has = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(budget, n_bytes), daemon=True)
        self._thread.start()

    def _hold(self, budget: MemoryBudget, n_bytes: int) -> None:
        with budget.lent(n_bytes):
            self.has.set()
            self._done.wait(240)

    def give_back(self) -> None:
        self._done.set()
        self._thread.join(60)


def waiting(budget: MemoryBudget, n_threads: int) -> None:
    wait_for(lambda: len(budget._waiting) == n_threads)


def test_requests_that_fit_are_served_at_once_and_others_wait():
    budget = MemoryBudget(100)
    first, second = Holder(budget, 60), Holder(budget, 40)
    assert first.has.wait(240)
    assert second.has.wait(240)
    third = Holder(budget, 50)
    waiting(budget, 1)
    second.give_back()
    waiting(budget, 1)
    assert not third.has.is_set(), "40 of 100 are free, and it wants 50"
    first.give_back()
    assert third.has.wait(240)
    third.give_back()


def test_more_than_the_budget_is_lent_alone_and_before_what_came_later():
    budget = MemoryBudget(100)
    first = Holder(budget, 10)
    assert first.has.wait(240)
    giant = Holder(budget, 10**9)
    waiting(budget, 1)
    small = Holder(budget, 1)
    waiting(budget, 2)
    assert not giant.has.is_set()
    assert not small.has.is_set(), "it would fit, but it came later"
    first.give_back()
    assert giant.has.wait(240)
    waiting(budget, 1)
    assert not small.has.is_set()
    giant.give_back()
    assert small.has.wait(240)
    small.give_back()


def test_what_was_lent_comes_back_after_an_error():
    budget = MemoryBudget(100)
    for _ in range(3):
        try:
            with budget.lent(100):
                raise MemoryError
        except MemoryError:
            pass
    with budget.lent(100):
        assert budget._free == 0
    assert budget._free == 100
