"""The device on which tensors are computed."""

import torch

from hsae.errors import UserError
from hsae.settings import Settings


def pick_device(settings: Settings) -> torch.device:
    """The device of the settings; `auto` takes cuda if there is one.

    Raises:
        UserError: cuda is required and there is none.
    """
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if settings.device == "cuda":
        raise UserError("HSAE_DEVICE is cuda, but torch sees no CUDA device: install a CUDA build or set it to auto")
    return torch.device("cpu")
