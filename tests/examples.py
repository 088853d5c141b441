"""How many random examples a property test draws: few and always the same in `make test`, all of them in the gate.

`pytest --hypothesis-profile NAME` picks the profile: `fast` (the default), `thorough`, or `random`, which draws new
examples in every run, to look for what nobody has seen yet.
"""

from typing import Any

from hypothesis import settings

_ALL = 100  # of hypothesis' own default: a test that asks for n examples gets n of them in a thorough run

DEFAULT_PROFILE = "fast"

settings.register_profile(DEFAULT_PROFILE, max_examples=_ALL // 4, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=_ALL, deadline=None, derandomize=True)
settings.register_profile("random", max_examples=_ALL, deadline=None, print_blob=True)


def examples(n: int, **further: Any) -> settings:
    """Settings of a property test that draws `n` examples in a thorough run, and a share of them in a fast one."""
    share = settings().max_examples / _ALL
    return settings(max_examples=max(1, round(n * share)), **further)
