"""State of the process and thread that a network may change with a `with` block around a fusion point.

Networks in lockstep stop in the middle of such blocks and go on in another order than they began. So what is in
`SETTINGS` is exchanged at every switch: each network sees its own, fusion and head that of the calling code, which is
also what is left after the call or an error. Contexts (`contextvars`) are exchanged by the coroutines themselves.
What would make the fusion wrong, or cannot be taken off and put back, is refused (`surroundings`).

Not seen, since nothing tells that it is in force: what is not torch's or Python's own, such as attributes that
`unittest.mock.patch` exchanges, and configurations of other libraries; and `torch.random.fork_rng` where the seed in it
is the one outside.
"""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from operator import attrgetter
from typing import Any

import torch
from torch._C import _len_torch_function_stack
from torch._tensor_str import PRINT_OPTS
from torch.fx import traceback
from torch.nn.utils import parametrize
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils import _device

from msafusion._compat import disabled_once_compiling

try:
    from jaxtyping._storage import _shape_storage  # private: it has no public way to keep coroutines apart
except ImportError:  # another version keeps its sizes elsewhere; only checked functions around a point suffer
    _shape_storage = threading.local()

not_traced = partial(disabled_once_compiling, recursive=False)
"""For what calls networks: torch.compile leaves its frame alone and goes on compiling the networks."""
untraced = partial(disabled_once_compiling, recursive=True)
"""For what calls none."""

_core, _autograd = torch._C, torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
Read = Callable[[], Any]
Write = Callable[[Any], object]


def _settings() -> list[tuple[Read, Write]]:
    """(read, write) of everything that is exchanged; what this version of torch does not have is left out."""
    pairs: list[tuple[Read, Write]] = [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.is_anomaly_enabled, lambda on: torch.set_anomaly_enabled(on, torch.is_anomaly_check_nan_enabled())),
        (torch.is_anomaly_check_nan_enabled, lambda on: torch.set_anomaly_enabled(torch.is_anomaly_enabled(), on)),
        (_deterministic, _set_deterministic),
        (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
        (  # axis sizes bound in the checked functions that are under way: a lambda is none, so adds no sizes
            lambda: tuple(getattr(_shape_storage, "memo_stack", ())),
            lambda value: setattr(_shape_storage, "memo_stack", list(value)),
        ),
        (_function_modes, _set_function_modes),
        (_saved_tensor_hooks, _set_saved_tensor_hooks),
        (_weight_cache, _set_weight_cache),
        (_warnings, _set_warnings),
        _attributes(sys, "stdout", "stderr"),
        _attributes(PRINT_OPTS, *vars(PRINT_OPTS)),
        _attributes(torch.serialization._serialization_tls, *vars(torch.serialization._serialization_tls)),
        (_stance, _set_stance),
        (_folder, lambda folder: folder and os.chdir(folder)),
        (_environment, _set_environment),
        (_node_meta, _set_node_meta),
        (_quiet_up_to, lambda level: logging.disable(int(level))),
        (_autograd._saved_tensors_hooks_get_disabled_error_message, _set_hooks_disabled),
        (_cuda_device, _set_cuda_device),
    ]
    for device in ("cpu", "cuda", "mps", "xpu"):
        pairs += [
            (partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)),
            (partial(torch.get_autocast_dtype, device), partial(torch.set_autocast_dtype, device)),
        ]
    named = [
        *((f"_get_{kind}_sdp_enabled", f"_set_sdp_use_{kind}") for kind in ("flash", "mem_efficient", "math", "cudnn")),
        ("_get_overrideable_sdp_enabled", "_set_sdp_use_overrideable"),
        ("_get_sdp_priority_order", "_set_sdp_priority_order"),
        ("_get_math_sdp_allow_fp16_bf16_reduction", "_set_math_sdp_allow_fp16_bf16_reduction"),
        ("_get_deterministic_fill_uninitialized_memory", "_set_deterministic_fill_uninitialized_memory"),
        ("_is_multithreading_enabled", "_set_multithreading_enabled"),
        ("_is_view_replay_enabled", "_set_view_replay_enabled"),
        *((f"_get_cudnn_{kind}", f"_set_cudnn_{kind}") for kind in ("enabled", "benchmark", "deterministic")),
        *((f"_get_mkldnn_{kind}", f"_set_mkldnn_{kind}") for kind in ("enabled", "deterministic")),
        ("_get_nnpack_enabled", "_set_nnpack_enabled"),
        ("_get_graph_executor_optimize", "_set_graph_executor_optimize"),
        ("_check_sparse_tensor_invariants", "_set_check_sparse_tensor_invariants"),
        ("_get_cublas_allow_fp16_accumulation", "_set_cublas_allow_fp16_accumulation"),
        ("_get_torch_function_state", "_set_torch_function_state"),
        *((f"_jit_can_fuse_on_{kind}", f"_jit_override_can_fuse_on_{kind}") for kind in ("cpu", "gpu")),
        *((f"_jit_{kind}_enabled", f"_jit_set_{kind}_enabled") for kind in ("texpr_fuser", "llga")),
    ]
    pairs += [(getattr(_core, read), getattr(_core, write)) for read, write in named if hasattr(_core, read)]
    for kind in ("float32_matmul_precision", "cudnn_allow_tf32", "onednn_allow_tf32"):
        pairs.append(_if_readable(getattr(_core, f"_get_{kind}"), getattr(_core, f"_set_{kind}")))
    for backend, operation in product(("generic", "cuda", "mkldnn"), ("all", "matmul", "conv", "rnn")):
        if backend != "generic" or operation == "all":
            names = backend, operation
            pairs.append((partial(_core._get_fp32_precision_getter, *names), partial(_set_precision, *names)))
    return pairs


def _attributes(owner: Any, *names: str) -> tuple[Read, Write]:
    """Two attributes and more of an object, such as what `contextlib.redirect_stdout` changes."""

    def write(values: tuple[Any, ...]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(owner, name, value)

    return partial(attrgetter(*names), owner), write


def _if_readable(read: Read, write: Write) -> tuple[Read, Write]:
    """A setting that torch refuses to read at times: two ways to set precision exclude each other."""

    def value() -> Any:
        try:
            return read()
        except RuntimeError:
            return None

    return value, lambda new: None if new is None else write(new)


def _set_precision(backend: str, operation: str, value: str) -> None:
    _core._set_fp32_precision_setter(backend, operation, value)


def _deterministic() -> tuple[bool, bool]:
    return _core._get_deterministic_algorithms(), _core._get_deterministic_algorithms_warn_only()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    _core._set_deterministic_algorithms(value[0], warn_only=value[1])


def _function_modes() -> tuple[Any, ...]:
    """Modes that torch functions go through, such as `with torch.device(...)`; the default device is one of them."""
    modes = _get_current_function_mode_stack() if _len_torch_function_stack() else ()
    return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None), _device.CURRENT_DEVICE, *modes


def _set_function_modes(value: tuple[Any, ...]) -> None:
    for _ in range(_len_torch_function_stack()):
        _pop_mode()
    torch._GLOBAL_DEVICE_CONTEXT.device_context, _device.CURRENT_DEVICE, *modes = value
    for mode in modes:
        _push_mode(mode)


def _saved_tensor_hooks() -> tuple[Any, ...]:
    """The pairs of hooks in force, the outermost first."""
    found = []
    while (hooks := _autograd._top_saved_tensors_default_hooks(True)) is not None:
        found.append(hooks)
        _autograd._pop_saved_tensors_default_hooks()
    for hooks in reversed(found):
        _autograd._push_saved_tensors_default_hooks(*hooks)
    return tuple(reversed(found))


def _set_saved_tensor_hooks(value: tuple[Any, ...]) -> None:
    for _ in _saved_tensor_hooks():
        _autograd._pop_saved_tensors_default_hooks()
    for hooks in value:
        _autograd._push_saved_tensors_default_hooks(*hooks)


def _weight_cache() -> tuple[Any, ...]:
    """What `parametrize.cached` changes: the dict itself, not an equal one."""
    cache = parametrize._cache
    return parametrize._cache_enabled, id(cache), cache


def _set_weight_cache(value: tuple[Any, ...]) -> None:
    parametrize._cache_enabled, _, parametrize._cache = value


def _warnings() -> tuple[Any, ...]:
    """What `warnings.catch_warnings` changes: the list itself, not an equal one."""
    filters = warnings.filters
    return id(filters), filters, warnings.showwarning, getattr(warnings, "_showwarnmsg_impl", None)


def _set_warnings(value: tuple[Any, ...]) -> None:
    _, warnings.filters, warnings.showwarning, show = value
    if show is not None:
        warnings._showwarnmsg_impl = show  # pyright: ignore[reportAttributeAccessIssue]
    getattr(warnings, "_filters_mutated", lambda: None)()


def _stance() -> Any:
    """What `torch.compiler.set_stance` changes; None: the compiler has not been loaded, which takes seconds."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    return getattr(compiler, "_stance", None)


def _set_stance(value: Any) -> None:
    compiler: Any = sys.modules.get("torch._dynamo.eval_frame")
    if hasattr(compiler, "_stance"):
        compiler._stance = compiler.DynamoStance() if value is None else value  # loaded since: it had the default


def _folder() -> str | None:
    """The current one; None: it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _environment() -> dict[Any, Any]:
    """As the process has it; os.environ would decode every entry at every switch."""
    return getattr(os.environ, "_data", os.environ).copy()


def _set_environment(wanted: dict[Any, Any]) -> None:
    current, decode = _environment(), getattr(os.environ, "decodevalue", str)
    for key in current.keys() | wanted.keys():
        if key not in wanted:
            del os.environ[decode(key)]
        elif current.get(key) != wanted[key]:
            os.environ[decode(key)] = decode(wanted[key])


def _node_meta() -> tuple[Any, ...]:
    """What `torch.fx.traceback.preserve_node_meta` and `annotate` change."""
    return traceback.should_preserve_node_meta, traceback.current_meta.copy()


def _set_node_meta(value: tuple[Any, ...]) -> None:
    traceback.should_preserve_node_meta, meta = value
    traceback.current_meta = meta.copy()


def _quiet_up_to() -> int:
    """The level that `logging.disable` has set."""
    return logging.root.manager.disable


def _set_hooks_disabled(value: str | None) -> None:
    """Of `disable_saved_tensors_hooks`: the error that such hooks raise, or None."""
    if value is None:
        _autograd._saved_tensors_hooks_enable()
    else:
        _autograd._saved_tensors_hooks_disable(value)


def _cuda_device() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None


def _set_cuda_device(value: int | None) -> None:
    if value is not None:
        torch.cuda.set_device(value)


SETTINGS = _settings()
"""(read, write) of what each network keeps for itself."""


class ThreadState:
    """The settings of a thread at a moment."""

    __slots__ = ("values",)

    @untraced
    def __init__(self) -> None:
        self.values = [read() for read, _ in SETTINGS]

    @untraced
    def restore(self, current: "ThreadState | None" = None) -> None:
        """Make this the state of the calling thread, whose state is `current` (None: look)."""
        given = (ThreadState() if current is None else current).values
        if self.values == given:
            return
        for (_, write), wanted, other in zip(SETTINGS, self.values, given, strict=True):
            if wanted != other:
                write(wanted)
