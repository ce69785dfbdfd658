"""What touches parts of other libraries that they call private, each with the reason, and a test that says what breaks.

The tests are in tests/test_compat.py.
"""

import functools
import sys
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function")


def disabled_once_compiling(function: Function, *, recursive: bool) -> Function:
    """`torch.compiler.disable`, which imports `torch._dynamo` (as long as all of torch) where it decorates, made lazy.

    Nothing is traced before that module has been imported, so until then the function is called as it is. torch's own
    lazy decorator imports the module at the first call; here it finds a `_Deferred` in the function's place. The frame
    of its wrapper is one that torch.compile leaves alone.
    """
    wrapper = functools.update_wrapper(torch._disable_dynamo(_Deferred(function, recursive)), cast(Any, function))
    marks = {"disable": True, "disable_msg": None, "disable_recursive": recursive, "orig_callable": function}
    for name, value in (marks | {"wrapper_id": id(wrapper)}).items():  # as torch.compiler.disable has them
        setattr(wrapper, f"_torchdynamo_{name}", value)
    return wrapper  # pyright: ignore[reportReturnType]


class _Deferred:
    """What torch's lazy decorator asks, at every call, for the disabled form of a function."""

    __slots__ = ("__dict__", "_function", "_recursive")

    def __init__(self, function: Any, recursive: bool) -> None:
        self._function, self._recursive = function, recursive

    def __getattr__(self, name: str) -> Any:
        if name != "__dynamo_disable":
            raise AttributeError(name)
        if "torch._dynamo" not in sys.modules:
            return self._function
        from torch._dynamo import disable  # torch.compiler's own would be compiled itself

        self.__dict__[name] = made = disable(self._function, self._recursive, wrapping=False)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Were that attribute called otherwise: as torch's decorator has it, with the import at the first call."""
        return self._function(*args, **kwargs)


_functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]


def is_batched_by_vmap(tensor: torch.Tensor) -> bool:
    """Whether a tensor within `torch.func.vmap` stands for several, at any depth of torch.func's wrappers."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return False
