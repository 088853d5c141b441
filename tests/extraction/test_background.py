"""Work behind the forward pass: one task at a time, its errors, and that nothing goes on after the block."""

from collections.abc import Callable
from threading import Event

import pytest

from hsae.extraction.background import OneBehind


def test_the_next_task_waits_for_the_one_before() -> None:
    order: list[str] = []
    may_end, began = Event(), Event()

    def first() -> None:
        began.set()
        may_end.wait()
        order.append("first")

    with OneBehind() as behind:
        behind.begin(first)
        began.wait()
        behind.check()  # it runs, and nothing is wrong
        order.append("computed meanwhile")
        may_end.set()
        behind.begin(lambda: order.append("second"))
    assert order == ["computed meanwhile", "first", "second"]


def _look(behind: OneBehind) -> None:
    behind.finish()


def _bring_another(behind: OneBehind) -> None:
    behind.begin(lambda: None)


def _go_on(behind: OneBehind) -> None:
    """The end of the block finds it."""


@pytest.mark.parametrize("then", [_look, _bring_another, _go_on])
def test_an_error_of_a_task_is_raised_where_the_work_looks_next(then: Callable[[OneBehind], None]) -> None:
    ended = Event()

    def fail() -> None:
        ended.set()
        raise OSError("no store")

    def work() -> None:
        with OneBehind() as behind:
            behind.begin(fail)
            ended.wait()
            then(behind)

    with pytest.raises(OSError, match="no store"):
        work()


def test_an_error_of_the_work_waits_for_the_task_and_stays_the_error() -> None:
    ended: list[bool] = []

    def fail() -> None:
        ended.append(True)
        raise OSError("the task's")

    def work() -> None:
        with OneBehind() as behind:
            behind.begin(fail)
            raise KeyError("the work's")

    with pytest.raises(KeyError, match="the work's"):
        work()
    assert ended == [True]
