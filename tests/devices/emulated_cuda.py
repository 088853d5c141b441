"""A CUDA device that is none: tensors that say they are on cuda:0, and whose numbers are made on the CPU.

What holds of CUDA holds of them: a tensor of the CPU beside one of the device is an error (unless it has no dimension,
or is an index), only a copy brings numbers to the other side, and the host waits for copies and for operations whose
result it must know. `EmulatedCuda.waits` counts these. Shapes may depend on data, which fake tensors do not allow.

Nothing here says that CUDA's kernels work; no line of them runs.
"""

from collections import Counter
from typing import Any
from unittest.mock import patch

import torch
from tests.devices.sync_counter import wait_of
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda", 0)
COPY = "copy between cpu and cuda"
UNPINNED = "copy from memory that is not pinned"
_waits: Counter[str] = Counter()
# CUDA copies indices to the device by itself; _to_copy and copy_ are what brings numbers there.
_TAKES_BOTH = {"aten::copy_", "aten::_to_copy"}
# What torch refuses on CUDA where deterministic algorithms are asked for (its documentation has the list), as far as it
# does not depend on arguments; cumsum and bincount are looked at below.
_NOT_DETERMINISTIC = {
    "aten::_adaptive_avg_pool2d_backward", "aten::adaptive_max_pool2d_backward", "aten::fractional_max_pool2d_backward",
    "aten::avg_pool3d_backward", "aten::max_pool3d_with_indices_backward", "aten::_adaptive_avg_pool3d_backward",
    "aten::upsample_linear1d_backward", "aten::upsample_bilinear2d_backward", "aten::upsample_bicubic2d_backward",
    "aten::upsample_trilinear3d_backward", "aten::grid_sampler_2d_backward", "aten::grid_sampler_3d_backward",
    "aten::nll_loss2d_forward", "aten::_ctc_loss_backward", "aten::histc", "aten::kthvalue", "aten::put_",
    "aten::reflection_pad1d_backward", "aten::reflection_pad2d_backward", "aten::replication_pad1d_backward",
    "aten::replication_pad2d_backward", "aten::replication_pad3d_backward", "aten::max_unpool2d",
}  # fmt: skip
_TAKES_INDICES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class EmulatedTensor(torch.Tensor):
    """A tensor on the emulated device; `elem` has its numbers."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> "EmulatedTensor":
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            device=elem.device,
            requires_grad=False,
        )
        # It has no memory of its own. Code that reads memory by its address would read from address 0 and end the
        # process; now it gets an error.
        torch._C._set_throw_on_mutable_data_ptr(wrapper)
        return wrapper

    def __init__(self, elem: torch.Tensor) -> None:
        self.elem = elem

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"EmulatedTensor({self.elem})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        waits = wait_of(func, args, kwargs)
        if waits is not None:
            _waits[waits] += 1
        _check_devices(func, args, kwargs)
        _check_determinism(func, args, kwargs)
        found = func(*tree_map(_elem, args), **tree_map(_elem, kwargs))
        if kwargs.get("out") is not None:
            return kwargs["out"]
        first = func._schema.arguments[0].alias_info if func._schema.arguments else None
        if func._schema.returns and first is not None and first.is_write:
            return args[0]
        return tree_map(_on_device, found)


def _elem(value: Any) -> Any:
    return value.elem if isinstance(value, EmulatedTensor) else value


def _on_device(value: Any) -> Any:
    is_plain = isinstance(value, torch.Tensor) and not isinstance(value, EmulatedTensor)
    return EmulatedTensor(value) if is_plain else value


def _check_devices(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    name = func._schema.name
    found: list[torch.Tensor] = []
    tree_map(lambda value: found.append(value) if isinstance(value, torch.Tensor) else None, (args, kwargs))
    on_cpu = [tensor for tensor in found if not isinstance(tensor, EmulatedTensor)]
    if not on_cpu:
        return
    if name in _TAKES_BOTH:
        return
    if name in _TAKES_INDICES:
        _waits[COPY] += len(on_cpu)
        return
    if any(tensor.dim() > 0 for tensor in on_cpu):
        shapes = [list(tensor.shape) for tensor in on_cpu]
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} got {shapes} on the CPU")


def _check_determinism(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not torch.are_deterministic_algorithms_enabled():
        return
    name = func._schema.name
    first = args[0] if args else None
    adds_floats = isinstance(first, torch.Tensor) and first.is_floating_point() and name.startswith("aten::cumsum")
    weighs = name == "aten::bincount" and (len(args) > 1 or kwargs.get("weights") is not None)
    median = name == "aten::median" and "dim" in func._overloadname  # the indices, not the value alone
    if name in _NOT_DETERMINISTIC or adds_floats or weighs or median:
        raise RuntimeError(f"{name} does not have a deterministic implementation, but you set deterministic algorithms")


class EmulatedCuda(TorchFunctionMode):
    """Inside, `cuda` is the emulated device; `waits` counts what the host waits for, by name.

    Where deterministic algorithms are asked for, what has none on CUDA is an error, as there.
    """

    @property
    def waits(self) -> Counter[str]:
        """What was counted since `reset`."""
        return _waits

    def reset(self) -> None:
        """Count anew."""
        _waits.clear()

    def __enter__(self) -> "EmulatedCuda":
        self.reset()
        # A module that moves gets new parameters, whose type is the emulated one.
        self._overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        # Written in C++, it asks the tensors in a way that cannot be answered here.
        self._grouping = patch.object(clip_grad, "_group_tensors_by_device_and_dtype", _grouped)
        self._grouping.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._grouping.stop()
        torch.__future__.set_overwrite_module_params_on_conversion(self._overwrites)

    def _backward(self, output: torch.Tensor, gradient: torch.Tensor | None) -> None:
        """The backward pass of one tensor, with the mode on: our own gradients name the device, too."""
        given = torch.ones_like(output) if gradient is None else gradient
        super().__enter__()
        try:
            torch.autograd.Variable._execution_engine.run_backward(
                (output,), (given,), False, False, (), allow_unreachable=True, accumulate_grad=True
            )
        finally:
            super().__exit__(None, None, None)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensor = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if func is torch.autograd.backward:
            (output,) = args[0] if isinstance(args[0], tuple | list) else (args[0],)
            given = kwargs.get("grad_tensors")
            (gradient,) = given if isinstance(given, tuple | list) else (given,)
            return self._backward(output, gradient)
        if func is torch.Tensor.to and tensor is not None:
            return _moved(tensor, args[1:], kwargs)
        if func is torch.Tensor.pin_memory and tensor is not None:
            pinned = tensor.clone()
            pinned.is_pinned_here = True  # type: ignore[attr-defined]
            return pinned
        if func in (torch.Tensor.cpu, torch.Tensor.cuda) and tensor is not None:
            return _moved(tensor, ("cpu" if func is torch.Tensor.cpu else CUDA,), {})
        if isinstance(tensor, EmulatedTensor):
            if func is torch.Tensor.tolist:
                _waits["tolist"] += 1
                return tensor.elem.tolist()
            if func is torch.Tensor.numpy:
                raise TypeError("can't convert cuda:0 device type tensor to numpy: copy it to the host first")
        if _is_cuda(kwargs.get("device")):
            if func in (torch.tensor, torch.as_tensor):
                _waits[COPY] += 1
            return _on_device(func(*args, **(kwargs | {"device": "cpu"})))
        return func(*args, **kwargs)


def _grouped(tensors: Any, *_: Any) -> Any:
    """All tensors as one group, on the device of the first one."""
    first = tensors[0][0]
    return {(first.device, first.dtype): (tensors, [])}


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _moved(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """`tensor.to(...)`: by a device, a type, both, or like another tensor."""
    non_blocking = bool(kwargs.pop("non_blocking", False))
    device: Any = kwargs.pop("device", None)
    rest: list[Any] = []
    for place, value in enumerate(args):
        if isinstance(value, torch.Tensor):
            device, kwargs = value.device, kwargs | {"dtype": value.dtype}
        elif isinstance(value, str | torch.device):
            device = value
        elif isinstance(value, bool):
            non_blocking |= value and place == len(args) - 1
        elif value is not None:
            rest.append(value)
    is_on_device = isinstance(tensor, EmulatedTensor)
    goes_to_device = is_on_device if device is None else _is_cuda(device)
    if is_on_device == goes_to_device:
        return torch.Tensor.to(tensor, *rest, **kwargs) if rest or kwargs else tensor
    if not non_blocking:
        _waits[COPY] += 1
    elif goes_to_device and not hasattr(tensor, "is_pinned_here"):
        _waits[UNPINNED] += 1
    elem = _elem(tensor).detach()
    copied = torch.Tensor.to(elem, *rest, **({"copy": True} | kwargs)) if rest or kwargs else elem.clone()
    return EmulatedTensor(copied) if goes_to_device else copied
