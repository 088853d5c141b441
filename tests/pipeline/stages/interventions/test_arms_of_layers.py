"""The edits of several layers as those of one pass: what happens where one layer fails, and what memory holds."""

import gc
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hsae.errors import ServiceError, UserError
from hsae.pipeline.stages.interventions.arms import ArmMaker, arms_of
from hsae.store.faults import ObjectMissingError


def arms_where_the_last_layer_raises(error, layers=(0, 2)):
    def maker_of(edited):
        def arms(probe):
            if error is not None and edited.layer == layers[-1]:
                raise error
            return []

        return SimpleNamespace(arms=arms)

    scenes: list[Any] = [SimpleNamespace(layer=layer) for layer in layers]
    return arms_of(scenes, maker_of, None)


@pytest.mark.parametrize(
    "error", [ServiceError("the S3 server is away"), ObjectMissingError("activations/shard", "hsae")], ids=repr
)
def test_an_outage_or_a_lost_object_keeps_its_type(error):
    """A job that meets an outage is tried again, and one that lacks an object has it made anew."""
    with pytest.raises(type(error)) as caught:
        arms_where_the_last_layer_raises(error)
    assert caught.value is error


def test_a_wrong_setting_names_its_layer():
    with pytest.raises(UserError, match=r"^layer 2: no label$"):
        arms_where_the_last_layer_raises(UserError("no label"))
    with pytest.raises(UserError, match=r"^no label$"):
        arms_where_the_last_layer_raises(UserError("no label"), layers=(2,))


def test_memory_holds_the_latents_of_one_layer_at_a_time(monkeypatch):
    """Scenes hold none, and a layer's maker is gone before the next one reads."""
    alive, most = weakref.WeakSet(), []

    class Read:
        """A layer's activations; `z[...]` is a further object of their size."""

        def __getitem__(self, selected):
            return tracked()

    def tracked():
        found = Read()
        alive.add(found)
        return found

    def read_latents(context):
        gc.collect()
        most.append(len(alive))
        return SimpleNamespace(z=tracked())

    images = np.arange(3)
    layers: list[Any] = [
        SimpleNamespace(layer=layer, sae=None, images=images, read_latents=read_latents) for layer in range(4)
    ]
    parts = SimpleNamespace(select=images)
    scene: Any = SimpleNamespace(parts=parts, labels=np.zeros(3, np.int64), wanted=lambda chosen: np.ones(3, np.bool_))
    monkeypatch.setattr(ArmMaker, "arms", lambda self, probe: [])
    maker_of = partial(ArmMaker, None, None, scene, streams=None, places=None)
    arms, last = arms_of(layers, maker_of, None)
    gc.collect()
    assert (arms, last.layer, most) == ([], 3, [0] * 4)
    assert list(alive) == [last.z]
