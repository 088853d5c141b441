"""What a request says of a data set that selects and scores, where another one trains."""

from typing import Any

from hsae.frozen_model import FrozenModel
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.split_config import ScoreSplit


class ScoredApart(FrozenModel):
    """The scored data set of a request, and where its training images come from.

    Attributes:
        train_dataset: the labelled images that train.
        activation_key: the activations of the scored images.
        split: which of the scored images select and which are scored.
    """

    train_dataset: DatasetRef
    activation_key: str
    split: ScoreSplit


def apart_content(apart: ScoredApart | None) -> dict[str, Any]:
    """The part of an artifact's content; nothing without another data set, so that the keys of all others stay.

    The images that train are in the keys of what they trained; their labels are part of their data set's fingerprint.
    """
    if apart is None:
        return {}
    return {"scored": {"activations": apart.activation_key, "split": apart.split.model_dump(mode="json")}}
