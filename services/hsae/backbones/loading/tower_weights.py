"""The vision tower's weights in the files of a language model that sees; the rest is never read."""

from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from hsae.backbones.architectures import LANGUAGE_MODELS
from hsae.backbones.sources import CONFIG_FILE, is_of_tower, read_json, tower_key


def tower_weights(folder: Path) -> dict[str, Tensor] | None:
    """The weights of the tower under the names that the tower has by itself; None: the model is no language model.

    Raises:
        SafetensorError: a file is damaged.
    """
    if read_json(folder / CONFIG_FILE).get("model_type") not in LANGUAGE_MODELS:
        return None
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 -- it is no mapping
                if is_of_tower(name):
                    found[tower_key(name)] = file.get_tensor(name)
    return found
