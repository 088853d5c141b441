"""Which device the computations run on."""

import torch

from hsae.devices.numerics import prepare_device
from hsae.devices.shown import shows_gpu
from hsae.errors import UserError
from hsae.settings import Settings


def pick_device(settings: Settings) -> torch.device:
    """The device of the settings, ready for use; `auto` takes cuda if there is one.

    Raises:
        UserError: cuda is required and there is none; `auto` finds a GPU that torch cannot use; or it cannot compute.
    """
    device = _wanted(settings)
    prepare_device(device)
    if device.type == "cuda":
        _check(device)
        if settings.gpu_memory_share < 1:
            torch.cuda.set_per_process_memory_fraction(settings.gpu_memory_share)
    return device


def device_line(settings: Settings) -> str:
    """The device that jobs would run on, in a line for people; errors are those of `pick_device`."""
    device = pick_device(settings)
    if device.type == "cuda":
        return f"cuda: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"cpu, {torch.get_num_threads()} threads"


def _wanted(settings: Settings) -> torch.device:
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if settings.device == "cuda":
        raise UserError(
            "HSAE_DEVICE is cuda (or --gpu was given), but torch sees no CUDA device: look at `nvidia-smi`; without a"
            " GPU set HSAE_DEVICE to auto and leave --gpu out"
        )
    if torch.version.cuda is not None and shows_gpu():
        raise UserError(
            "this machine has an NVIDIA GPU that torch cannot use: look at `nvidia-smi` (docs/gpu.md says which driver"
            " is needed), or set HSAE_DEVICE to cpu"
        )
    return torch.device("cpu")


def _check(device: torch.device) -> None:
    """Raise where the device is listed and does not work: a GPU may be lost, or in use by one process alone."""
    try:
        found = float(torch.ones(8, device=device).sum())
    except RuntimeError as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"the GPU does not work ({first}): look at `nvidia-smi` and `dmesg`") from error
    if found != 8.0:
        raise UserError(f"the GPU adds eight ones to {found:g}: replace it, or give the worker another one")
