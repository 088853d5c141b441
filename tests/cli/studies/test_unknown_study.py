"""A study that is not there: the same words, whichever command was asked for it."""

import pytest
from tests.cli.refusals import assert_one_line


@pytest.fixture(scope="module")
def empty(make_service):
    return make_service()


@pytest.mark.parametrize(
    "command",
    [
        "jobs list --study 99", "jobs watch 99", "jobs cancel --study 99", "jobs retry --study 99", "studies show 99",
        "studies remove 99", "results layers --study 99", "results latents --study 99", "results nodes --study 99",
        "results edges --study 99", "results levels --study 99", "results absorption --study 99", "results study 99",
        "results export --study 99 -o out", "results compare 99 98 --studies",
    ],
)  # fmt: skip
def test_an_unknown_study(admin, empty, command):
    result = admin(empty, *command.split())
    assert_one_line(result)
    assert result.stderr == "Error: there is no study 99: see `hsae-admin studies list`\n"
