"""A feature map pooled over all positions and later reweighted: what MSAF does where time is not cut into segments.

Gradients are plain autograd everywhere but for large maps on the CPU. There memory traffic is all that costs, so two
autograd functions share the work to avoid full-size temporaries: sum(gradient * map) runs through a small scratch
buffer, and the pooled gradient is added in the same pass that multiplies by the gate.

That pass is right because _Reweight's is the only gradient that reaches _Pool's map: within one backward pass
_Reweight leaves its gate for _Pool and hands on the gradient unmultiplied. A backward pass that is differentiated
itself gives the map further users; from then on both functions differentiate plainly.
"""

import contextlib
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from msafusion.streams import values_are_known

LARGE_MAP = 2**20
"""Elements above which the hand-written gradients pay on the CPU (benchmarks/module.py); also the scratch buffer's."""


class PooledMap:
    """A feature map (batch, channels, *positions) with its mean over positions, (batch, 1, channels).

    The mean is accumulated in float32 or better. A vector is its own mean.
    """

    def __init__(self, feature: Float[Tensor, "batch channels *positions"]) -> None:
        self._handover = Handover() if _by_hand(feature) else None
        if self._handover is None:
            self.feature, mean = feature, position_mean(feature)
        else:
            self.feature, mean = _Pool.apply(feature, self._handover)
        self.mean = mean.unsqueeze(1)

    def reweight(self, gate: Float[Tensor, "batch 1 channels"]) -> Float[Tensor, "batch channels *positions"]:
        """Each channel of each sample times its gate, in the map's own type."""
        gate = gate[:, 0].to(self.feature.dtype)
        if self.feature.dim() > 2:
            gate = _over_positions(gate, self.feature)
        if self._handover is None:
            return self.feature * gate
        return _Reweight.apply(self.feature, gate, self._handover)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    """Leave autocast where it is on: attention is computed in float32 (entering the context costs 10 microseconds)."""
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def position_mean(feature: Float[Tensor, "batch channels *positions"]) -> Float[Tensor, "batch channels"]:
    """Mean over all positions, accumulated in float32 or better; a vector is its own mean."""
    dtype = torch.promote_types(feature.dtype, torch.float32)
    if feature.dim() == 2:
        return feature.to(dtype)
    # sum and scale: the backward of `mean` divides a full-size expanded gradient
    return feature.sum(dim=tuple(range(2, feature.dim())), dtype=dtype) * (1.0 / math.prod(feature.shape[2:]))


def _over_positions(per_channel: Tensor, feature: Tensor) -> Tensor:
    return per_channel.reshape(*per_channel.shape, *[1] * (feature.dim() - 2))


def _by_hand(feature: Tensor) -> bool:
    return (
        feature.requires_grad
        and torch.is_grad_enabled()
        and values_are_known(feature)
        and feature.numel() >= LARGE_MAP
        and feature.dim() > 2
        and feature.device.type == "cpu"
        and feature.is_contiguous()
        and not _is_transformed(feature)
    )


def _is_transformed(tensor: Tensor) -> bool:
    """Inside vmap (also of a backward pass), other transforms of torch.func, or forward-mode differentiation.

    Or of a class of its own, whose operations may be anything.
    """
    return (
        type(tensor) not in (Tensor, nn.Parameter)
        or torch._C._functorch.is_legacy_batchedtensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


class Handover:
    """What the two functions of one map tell each other.

    Attributes:
        gates: backward pass -> the gate that _Pool is to multiply by. Of its own pass only: one may end before the map,
            or run at the same time as another.
        plain: a backward pass was differentiated, so the map has further users in the graph.
    """

    def __init__(self) -> None:
        self.gates: dict[int, Tensor] = {}
        self.plain = False


class _Pool(torch.autograd.Function):
    """(the map itself, for _Reweight alone; its mean over positions)."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, handover: Handover) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.handover, ctx.shape = handover, feature.shape
        return feature.view_as(feature), position_mean(feature)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # one gradient an output
        ctx: Any, grad: Tensor | None, grad_mean: Tensor | None
    ) -> tuple[Tensor | None, None]:
        gate = ctx.handover.gates.pop(torch._C._current_graph_task_id(), None)
        if grad_mean is None:
            return (grad if gate is None or grad is None else grad * gate), None
        share = grad_mean * (1.0 / math.prod(ctx.shape[2:]))
        if grad is None:  # only the attention was used
            return share.reshape(*ctx.shape[:2], *[1] * (len(ctx.shape) - 2)).expand(ctx.shape), None
        share = _over_positions(share.to(grad.dtype), grad)
        return (grad + share if gate is None else torch.addcmul(share, grad, gate)), None


class _Reweight(torch.autograd.Function):
    """map * gate; its backward hands the gate over to _Pool's, which multiplies by it and adds in one pass."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, gate: Tensor, handover: Handover) -> Tensor:
        ctx.save_for_backward(feature, gate)
        ctx.handover = handover
        return feature * gate

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # one gradient an output
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        feature, gate = ctx.saved_tensors
        if torch.is_grad_enabled():
            ctx.handover.plain = True
        if ctx.handover.plain or _is_transformed(grad):
            return grad * gate, (grad * feature).sum(dim=tuple(range(2, grad.dim())), keepdim=True), None
        ctx.handover.gates[torch._C._current_graph_task_id()] = gate.detach()
        return grad, _sum_of_products(grad.contiguous(), feature).view_as(gate), None


def _sum_of_products(one: Tensor, other: Tensor) -> Tensor:
    """Sum over positions of one * other, (batch, channels), without a full-size product."""
    rows, positions = one.shape[0] * one.shape[1], math.prod(one.shape[2:])
    one, other = one.view(rows, positions), other.view(rows, positions)
    at_once = min(max(1, LARGE_MAP // positions), rows)
    scratch, total = one.new_empty(at_once, positions), one.new_empty(rows)
    for start in range(0, rows, at_once):
        chunk = one[start : start + at_once]
        product = torch.mul(chunk, other[start : start + at_once], out=scratch[: len(chunk)])
        torch.sum(product, dim=1, out=total[start : start + at_once])
    return total
