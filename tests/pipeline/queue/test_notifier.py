"""The broker's URL: what is wrong with it is told before anything connects."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from hsae.errors import UserError
from hsae.pipeline.queue.notifier import make_app
from hsae.settings import Settings


def _app(url: str):
    return make_app(Settings(home=Path("/nowhere"), broker_url=SecretStr(url)))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p#zz@h:1/0", "redis://:p/zz@h:1/0", "redis://:p?zz@h:1/0", "redis://:p[zz@h:1/0",
        "redis://u:12#zz@h:1/0",  # taken as host u, port 12
    ],
)  # fmt: skip
def test_a_password_with_reserved_characters_is_told_how_to_be_written(url):
    with pytest.raises(UserError, match="HSAE_BROKER_URL is no Redis URL.*# as %23, / as %2F, [?] as %3F") as caught:
        _app(url)
    assert "zz" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://h:x/0", "redis://:secret@h:1/0?db=2", "amqp://h"])
def test_another_mistake_has_no_such_hint(url):
    with pytest.raises(UserError, match="is no Redis URL") as caught:
        _app(url)
    assert "%23" not in str(caught.value)


def test_an_encoded_password_arrives():
    with _app("redis://:p%23%2F%3F%40ss@h:1/0").connection_for_write() as connection:
        assert (connection.password, connection.hostname, connection.port) == ("p#/?@ss", "h", 1)
