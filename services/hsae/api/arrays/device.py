"""Where arrays are computed."""

import torch

from hsae.devices.numerics import prepare_device
from hsae.errors import UserError


def chosen_device(device: str) -> torch.device:
    """The device of a name, ready for use; `auto` takes cuda if there is one.

    Raises:
        UserError: it is no device of torch, or cuda is asked for and there is none.
    """
    found = _named(device)
    prepare_device(found)
    return found


def _named(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(str(device))
    except RuntimeError as error:
        raise UserError(f"{device!r} is no device: give auto, cpu, cuda or cuda:1") from error
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"device {device} is not supported: give auto, cpu, cuda or cuda:1")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device} was asked for, but torch sees no CUDA device: give cpu or auto")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"there is no device {device}: torch sees {torch.cuda.device_count()} CUDA devices, from cuda:0"
        )
    return found
