"""A trained network made ready to run fast: batch norms folded, convolutions channels last, bf16 if wanted."""

import copy
import ctypes
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from msafusion.attach.network import FusedNetwork
from msafusion.attach.tracing import evaluating

__all__ = ["InferenceNetwork", "for_inference", "keep_freed_memory"]

Precision = Literal["float32", "bfloat16"]
MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Rank -> layout with the channels last, which convolutions prefer."""
TOLERANCE = 1e-3
FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class InferenceNetwork(nn.Module):
    """What `for_inference` makes: called as the network it was made of, it gives float32 outputs without gradients.

    Attributes:
        network: the changed copy.
        folded: names of the batch norms that became part of the convolution before them.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import CNN1d
        >>> from msafusion.inference import for_inference
        >>> fast = for_inference(CNN1d(3, 7).eval(), torch.randn(2, 3, 100))
        >>> type(fast).__name__, fast.precision
        ('InferenceNetwork', 'float32')
        >>> fast(torch.randn(8, 3, 200)).requires_grad
        False
    """

    def __init__(self, network: nn.Module, folded: list[str], precision: Precision) -> None:
        super().__init__()
        self.network, self.folded, self.precision = network.eval(), folded, precision

    @torch.inference_mode()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output for the same arguments."""
        args, kwargs = pytree.tree_map(_channels_last, args), pytree.tree_map(_channels_last, kwargs)
        with self._autocast():
            return pytree.tree_map(_float, self.network(*args, **kwargs))

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        device = next(self.network.parameters()).device
        return torch.autocast(device.type, torch.bfloat16)

    def train(self, mode: bool = True) -> "InferenceNetwork":
        """Stay in eval mode: without its batch norms the network cannot train."""
        return super().train(False)


def for_inference(
    network: nn.Module, *example: Any, precision: Precision = "float32", keep_memory: bool = False
) -> InferenceNetwork:
    """A copy of a trained network that runs faster and gives the same outputs.

    Batch norms that directly follow a convolution (as a run on `example` shows) become part of its weights, exactly but
    for rounding; convolutions work with the channels last. What is more than its type says stays as it is: layers where
    streams are fused, those with hooks or parametrizations (pruned, weight_norm, spectral_norm), and subclasses.
    Meant for CPUs, where it matters most; works on GPUs.

    Args:
        network: any module, such as a fused network; it is left as it is.
        example: arguments of its forward, of any size: the fused network's {network: input}.
        precision: "float32", or "bfloat16" for convolutions and matrix products, at an error of some tenths of a
            percent; fast where the processor has it (avx512_bf16, amx, GPUs).
        keep_memory: make this process keep freed memory for the next forward instead of returning it to the system
            (glibc's malloc only, for the whole process): large maps then cost no page faults.

    Raises:
        ValueError: the changed network's outputs differ from the network's by more than 1e-3 of the largest (only what
            `example` makes the network run is seen: not for networks whose path depends on their input); it needs
            another memory layout (`view()` after a convolution); an unknown precision.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import CNN2d
        >>> from msafusion.inference import for_inference
        >>> net, images = CNN2d(3, 7).eval(), torch.randn(2, 3, 32, 32)
        >>> fast = for_inference(net, images)
        >>> len(fast.folded)
        3
        >>> torch.allclose(fast(images), net(images), atol=1e-4)
        True
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision is {precision!r}, expected 'float32' or 'bfloat16'; set it to one of them.")
    changed = _copy(network).requires_grad_(False).eval()
    folded = _fold_batch_norms(changed, example)
    for module in changed.modules():
        if _is_plain(module, FOLDABLE[1:]):
            module.to(memory_format=MEMORY_FORMATS[module.weight.dim()])  # pyright: ignore[reportCallIssue, reportArgumentType]
    with evaluating(network):
        expected = network(*example)
    try:
        got = InferenceNetwork(changed, folded, "float32")(*example)
    except RuntimeError as error:
        raise ValueError(
            f"the network does not run with its channels last: {str(error).splitlines()[0]} Use flatten() or reshape() "
            "instead of view() in its forward, or run it as it is."
        ) from error
    _check_same(got, expected)
    if precision == "bfloat16":  # the weights once and for all; autocast would convert them in every forward
        for module in changed.modules():
            if _is_plain(module, (*FOLDABLE, nn.Linear)):
                module.to(torch.bfloat16)
    if keep_memory:
        keep_freed_memory()
    return InferenceNetwork(changed, folded, precision)


def _copy(network: nn.Module) -> nn.Module:
    """A deep copy, also where layers keep a weight worked out from other parameters (pruned ones, weight_norm)."""
    memo: dict[int, Any] = {}
    for module in network.modules():
        for value in pytree.tree_leaves(list(vars(module).values())):
            if isinstance(value, Tensor) and not value.is_leaf:  # copy.deepcopy refuses these
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(network, memo)


def _is_plain(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether a module does what its class in torch does, and nothing else."""
    own = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    return type(module) in kinds and not is_parametrized(module) and not own


def _at_points(network: nn.Module) -> set[nn.Module]:
    """The submodules whose output is fused."""
    return {
        part.hooks.submodule(part.networks[name], name, index, path)
        for part in network.modules()
        if isinstance(part, FusedNetwork)
        for index, point in enumerate(part.hooks.points)
        for name, path in point.items()
    }


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep the memory that this process frees, for its next request; False without glibc.

    Examples:
        >>> from msafusion.inference import keep_freed_memory
        >>> kept = keep_freed_memory()  # False without glibc: nothing has changed
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(trim_threshold, 2**31 - 1)) and bool(libc.mallopt(mmap_max, 0))


def _fold_batch_norms(network: nn.Module, example: tuple[Any, ...]) -> list[str]:
    """Fold each batch norm into the convolution whose output it gets; names of the batch norms."""
    gave: dict[int, tuple[nn.Module, Tensor, int]] = {}  # outputs are held, so that no id is given out twice
    calls: dict[nn.Module, int] = {}
    pairs: dict[nn.Module, nn.Module] = {}

    def note_convolution(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        gave[id(output)] = module, output, output._version

    def note_batch_norm(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[module] = calls.get(module, 0) + 1
        given = (*args, *kwargs.values())[0]
        convolution, _, version = gave.get(id(given), (None, None, -1))
        if convolution is not None and given._version == version:  # not changed in place, as by a ReLU
            pairs[module] = convolution

    fused = _at_points(network)
    hooks = []
    for module in network.modules():
        if module in fused:
            continue
        if _is_plain(module, FOLDABLE):
            hooks.append(module.register_forward_hook(note_convolution))
        elif _is_plain(module, NORMS):
            hooks.append(module.register_forward_pre_hook(note_batch_norm, with_kwargs=True))
    try:
        with torch.no_grad():
            network(*example)
    finally:
        for hook in hooks:
            hook.remove()
    names: dict[nn.Module, list[str]] = {}  # a module may have several
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    folded = []
    for norm, convolution in pairs.items():
        if not calls[norm] == calls[convolution] == 1 or norm.running_mean is None:
            continue
        merged = fuse_conv_bn_eval(convolution, norm)  # pyright: ignore[reportArgumentType]
        for name in names[convolution]:
            network.set_submodule(name, merged)
        norm.forward = _as_it_came  # its weights and statistics stay: a network may read them
        folded.append(names[norm][0])
    return folded


def _as_it_came(input: Tensor) -> Tensor:
    """The forward of a folded batch norm."""
    return input


def _check_same(got: Any, expected: Any) -> None:
    for one, other in zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True):
        if isinstance(one, Tensor) and one.is_floating_point():
            finite = torch.isfinite(other)
            largest = other[finite].abs().max() if finite.any() else 1.0
            both = torch.nan_to_num(one.float()), torch.nan_to_num(other.float())
            error = float(((both[0] - both[1]).abs() / largest).max()) if one.numel() else 0.0
            if not error <= TOLERANCE:
                raise ValueError(
                    f"folding its batch norms changes the network's output by {error:.1e} of the largest value, "
                    f"expected {TOLERANCE:.0e} at most: a convolution's output is used beside its batch norm; run it "
                    "as it is."
                )


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() in MEMORY_FORMATS:
        return value.contiguous(memory_format=MEMORY_FORMATS[value.dim()])
    return value


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
