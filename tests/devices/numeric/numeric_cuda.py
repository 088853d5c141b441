"""A CUDA device without a GPU: tensors that say `cuda:0`, hold their values in CPU memory, and compute as CUDA does.

    with NumericCuda() as gpu:
        found = score(device="cuda:0")

torch asks the driver which device a bare `cuda` is, so name the first one. Unlike torch's fake tensors these have
values, so that whole analyses run, whatever their shapes depend on. It shows what differs between the devices in
meaning; it shows nothing of speed.
"""

import weakref
from contextlib import ExitStack
from typing import Any

import torch
from tests.devices.numeric.cuda_names import cuda_may_be_named
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_ROUNDED_OTHERWISE = frozenset(
    {"digamma", "erf", "erfc", "erfcx", "exp", "expm1", "lgamma", "log", "log1p", "log2", "ndtri", "special_ndtr"}
    | {"special_erfcx", "special_log_ndtr", "tanh"}
)
"""Functions without a correctly rounded result: CUDA's and the CPU's differ in last digits."""

_PRODUCTS = frozenset({"addmm", "mm"})
_MAKES_GARBAGE = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})
_TAKES_INDICES_FROM_THE_HOST = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})


class NumericTensor(Tensor):
    """A tensor of the emulated device.

    Attributes:
        held: its values.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "NumericTensor":
        """Same shape and strides as `held`."""
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("cuda:0"),
        )
        # It has no memory of its own: whoever asks for its address gets an error, and not 0.
        torch._C._set_throw_on_mutable_data_ptr(wrapper)
        return wrapper

    def __init__(self, held: Tensor) -> None:
        """Hold the values."""
        self.held = held

    def tolist(self) -> Any:
        """As of any tensor; torch refuses it for subclasses."""
        return self.cpu().tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Reached in a thread in which the mode is not on, or after it."""
        raise RuntimeError(f"{func} on a tensor of an emulated GPU outside of its NumericCuda")


class NumericCuda(TorchDispatchMode):
    """While it is on, `cuda` is a device of CPU memory that computes as CUDA does.

    - a floating-point tensor divided by a number is multiplied by the reciprocal
    - transcendental functions differ from the CPU's in the last digit
    - floats that are added into one cell are added in any order (atomic additions)
    - memory that nobody has written holds NaN, or great negative integers
    - tensors of two devices do not mix
    - memory is limited, and `torch.OutOfMemoryError` says so; or a product of matrices finds none, whichever one wants
    - if one wants, how a product of matrices is added up depends on its size, as where cuBLAS chooses

    Attributes:
        n_products: products of matrices so far.
        n_accumulations: calls of `index_put_` with `accumulate=True`, which CUDA adds one by one for equal indices;
            `index_add_` is one of them where operations must be deterministic.
        n_bytes: of the live tensors on the device.
        n_bytes_peak: the greatest value of `n_bytes`; may be set.
        n_bytes_to_host: what was copied from the device so far.
    """

    def __init__(
        self, *, memory: int | None = None, products_by_size: bool = False, no_memory_for: int | None = None
    ) -> None:
        """Have so many bytes of memory (None: without limit), and none for the product with this number (from 1)."""
        super().__init__()
        self.n_products = 0
        self._products_by_size = products_by_size
        self._no_memory_for = no_memory_for
        self.n_accumulations = 0
        self.n_bytes = self.n_bytes_peak = self.n_bytes_to_host = 0
        self.memory = memory
        self._storages: dict[int, list[int]] = {}  # users and bytes of every storage
        self._pinned: set[StorageWeakRef] = set()  # while it is referred to, no other storage has its address
        self._order = torch.Generator().manual_seed(0)
        self._without_driver = ExitStack()

    def __enter__(self) -> "NumericCuda":
        """Take all operations of this thread."""
        self._without_driver.enter_context(cuda_may_be_named())
        # Under this mode torch looks for no driver when it sees the device's name. It computes nothing, because this
        # one takes all operations first.
        self._without_driver.enter_context(FakeTensorMode())
        # Else `module.to` would put the device's name on a parameter, and leave its values behind.
        flags = torch.__future__
        self._without_driver.callback(
            flags.set_overwrite_module_params_on_conversion, flags.get_overwrite_module_params_on_conversion()
        )
        flags.set_overwrite_module_params_on_conversion(True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Be gone; tensors of the device can be freed, and nothing else."""
        super().__exit__(*error)
        self._without_driver.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on CPU memory, by CUDA's rules if a tensor or an argument is on the device."""
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # there, operations made of others come as a whole: `to` has copies in it
            super().__enter__()  # it is off while it takes an operation
            try:
                found = func.decompose(*args, **kwargs)
            finally:
                super().__exit__(None, None, None)
            if found is not NotImplemented:
                return found
        with unset_fake_temporarily():
            return self._run(func, args, kwargs)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_pin_memory", "pin_memory"):
            pinned = args[0].clone()
            self._pinned.add(StorageWeakRef(pinned.untyped_storage()))
            return pinned
        if name == "is_pinned":
            return StorageWeakRef(args[0].untyped_storage()) in self._pinned
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = [leaf for leaf in leaves if isinstance(leaf, NumericTensor)]
        target = kwargs.get("device")
        is_there = bool(on_device) if target is None else torch.device(target).type == "cuda"
        if not on_device and not is_there:
            return func(*args, **kwargs)
        if name not in ("_to_copy", "copy_"):
            _check_devices(name, func, args, leaves)
        wrappers = {id(leaf.held): leaf for leaf in on_device}
        args, kwargs = tree_map(_held, (args, kwargs))
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        result = self._compute(name, func, args, kwargs, is_ours=bool(on_device))
        if name == "_to_copy" and on_device and not is_there:
            self.n_bytes_to_host += result.numel() * result.element_size()
            return result.clone() if result is args[0] else result
        if name == "copy_" and not any(args[0] is leaf.held for leaf in on_device):
            self.n_bytes_to_host += result.numel() * result.element_size()
            return result
        if not is_there:
            return result
        return tree_map(lambda part: self._wrapped(part, wrappers), result)

    def _compute(self, name: str, func: Any, args: Any, kwargs: Any, *, is_ours: bool) -> Any:
        if name in ("div", "div_", "true_divide", "divide") and _divides_by_number(args, kwargs):
            by = torch.ones((), dtype=args[0].dtype) / args[1]
            product = torch.ops.aten.mul if not name.endswith("_") else torch.ops.aten.mul_
            return product(args[0], by)
        if name in ("index_put", "index_put_", "_index_put_impl_"):
            accumulate = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
            self.n_accumulations += bool(accumulate)
        if name in ("scatter_add", "scatter_add_") and args[3].is_floating_point() and args[3].dim() == 1:
            order = torch.randperm(len(args[2]), generator=self._order)
            return func(args[0], args[1], args[2][order], args[3][: len(order)][order])
        if name in ("index_add", "index_add_"):
            self.n_accumulations += torch.are_deterministic_algorithms_enabled()
        if name in ("index_add", "index_add_") and args[3].is_floating_point() and args[1] == 0:
            order = torch.randperm(len(args[2]), generator=self._order)
            return func(args[0], args[1], args[2][order], args[3][order], **kwargs)
        if name in _PRODUCTS and is_ours:
            self.n_products += 1
            if self.n_products == self._no_memory_for:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            if self._products_by_size:
                return _product_by_size(*args)
        result = func(*args, **kwargs)
        if name in _ROUNDED_OTHERWISE and is_ours:
            return torch.nextafter(result, torch.full_like(result, torch.inf))
        if name in _MAKES_GARBAGE:
            return _garbage(result)
        return result

    def _wrapped(self, part: Any, wrappers: dict[int, NumericTensor]) -> Any:
        """A result as a tensor of the device; one that was changed in place is the tensor that it was."""
        if not isinstance(part, Tensor):
            return part
        if id(part) in wrappers:
            return wrappers[id(part)]
        storage = part.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        if key not in self._storages:
            if self.memory is not None and self.n_bytes + n_bytes > self.memory:
                free = self.memory - self.n_bytes
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {n_bytes} bytes, {free} are free.")
            self._storages[key] = [0, n_bytes]
            self.n_bytes += n_bytes
            self.n_bytes_peak = max(self.n_bytes_peak, self.n_bytes)
        self._storages[key][0] += 1
        wrapper = NumericTensor(part)
        weakref.finalize(wrapper, self._dropped, key)
        return wrapper

    def _dropped(self, key: int) -> None:
        users = self._storages[key]
        users[0] -= 1
        if users[0] == 0:
            self.n_bytes -= users[1]
            del self._storages[key]


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, NumericTensor) else leaf


def _check_devices(name: str, func: Any, args: Any, leaves: list[Tensor]) -> None:
    """Raise as torch does if tensors of the CPU and of the device are given to one operation."""
    devices = {leaf.device.type for leaf in leaves}
    if len(devices) < 2:
        return
    strangers = [leaf for leaf in leaves if leaf.device.type == "cpu"]
    if name in _TAKES_INDICES_FROM_THE_HOST:
        indices = {id(index) for index in args[1]}
        strangers = [leaf for leaf in strangers if id(leaf) not in indices]
    if any(leaf.dim() > 0 for leaf in strangers) or (torch.Tag.pointwise not in func.tags and strangers):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )


def _divides_by_number(args: Any, kwargs: Any) -> bool:
    """CUDA takes a scalar that is not in its memory as a number, and multiplies by the reciprocal of it."""
    dividend, divisor = args[:2]
    is_number = not isinstance(divisor, Tensor)
    return is_number and isinstance(dividend, Tensor) and dividend.is_floating_point() and "rounding_mode" not in kwargs


def _product_by_size(*factors: Tensor) -> Tensor:
    """A sum of one to three products, each over a part of the common dimension; before them what they are added to."""
    *added, left, right = factors
    n_parts = 1 + (left.shape[0] * right.shape[1]).bit_length() % 3
    parts = [one @ other for one, other in zip(left.chunk(n_parts, dim=1), right.chunk(n_parts), strict=True)]
    return sum([*added, *parts[1:]], start=parts[0])


def _garbage(memory: Tensor) -> Tensor:
    if memory.is_floating_point():
        return memory.fill_(torch.nan)
    return memory.fill_(True) if memory.dtype == torch.bool else memory.fill_(torch.iinfo(memory.dtype).min // 2)
