"""All mistakes of an input are told at once."""

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from hsae.errors import UserError
from hsae.pydantic_errors import mistakes, one_line
from hsae.settings import load_settings


class Part(BaseModel):
    seed: int


class Whole(BaseModel, extra="forbid"):
    part: Part
    word: SecretStr


def test_every_mistake_has_its_place_reason_and_value():
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate({"part": {"seed": "x"}, "word": 3, "more": 1})
    found = mistakes(caught.value)
    assert [(mistake.place, mistake.kind, mistake.value) for mistake in found] == [
        ("part.seed", "int_parsing", "x"), ("word", "string_type", 3), ("more", "extra_forbidden", 1)
    ]  # fmt: skip
    assert one_line(caught.value, lambda mistake: mistake.place) == "part.seed; word; more"
    assert "value" not in repr(found[0])


def test_all_wrong_settings_are_named_and_no_value_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSAE_LEASE_SECONDS", "-317")
    monkeypatch.setenv("HSAE_DEVICE", "abacus")
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    line = str(caught.value)
    assert line.startswith("setting HSAE_DEVICE: ")
    assert "; HSAE_LEASE_SECONDS: Input should be greater than 0; correct the variable" in line
    assert "317" not in line
    assert "abacus" not in line
