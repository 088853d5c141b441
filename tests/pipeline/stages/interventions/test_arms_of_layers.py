"""The edits of several layers as those of one pass: what happens where one layer fails."""

from types import SimpleNamespace

import pytest

from hsae.errors import ServiceError, UserError
from hsae.pipeline.stages.interventions.arms import arms_of
from hsae.store.faults import ObjectMissingError


def maker(layer, error=None):
    def arms(probe):
        if error is not None:
            raise error
        return []

    return SimpleNamespace(layer=layer, arms=arms)


@pytest.mark.parametrize(
    "error", [ServiceError("the S3 server is away"), ObjectMissingError("activations/shard", "hsae")], ids=repr
)
def test_an_outage_or_a_lost_object_keeps_its_type(error):
    """A job that meets an outage is tried again, and one that lacks an object has it made anew."""
    with pytest.raises(type(error)) as caught:
        arms_of([maker(0), maker(2, error)], None)
    assert caught.value is error


def test_a_wrong_setting_names_its_layer():
    with pytest.raises(UserError, match=r"^layer 2: no label$"):
        arms_of([maker(0), maker(2, UserError("no label"))], None)
    with pytest.raises(UserError, match=r"^no label$"):
        arms_of([maker(2, UserError("no label"))], None)
