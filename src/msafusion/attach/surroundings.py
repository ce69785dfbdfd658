"""What a fusion point may not lie in: blocks that would make fusion wrong, or cannot be taken off and put back."""

from typing import NamedTuple

import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from msafusion.attach.state import untraced

_core, _autograd = torch._C, torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]


class Surroundings(NamedTuple):
    """What may not differ between a network's entry and a fusion point in it; the fields are those of `REFUSALS`.

    But gradients may be on at a point in a network that is called without (for forces, say): they are exchanged.
    """

    grad: bool
    inference: bool
    recomputed: object
    backward_pass: int
    transforms: int | None
    forward_mode: int
    dispatch_modes: tuple[int, ...]
    cuda_stream: object
    seed: int

    @classmethod
    @untraced
    def now(cls) -> "Surroundings":
        """Those of the calling code."""
        hooks = _autograd._top_saved_tensors_default_hooks(True)
        if hooks is not None and getattr(hooks[0], "__module__", "") == "torch.autograd.graph":
            hooks = None  # save_on_cpu moves activations but recomputes nothing
        return cls(
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            hooks,
            _core._current_graph_task_id(),
            _core._functorch.maybe_current_level(),  # pyright: ignore[reportAttributeAccessIssue]
            forward_ad._current_level,
            tuple(id(mode) for mode in _get_current_dispatch_mode_stack()),
            torch.cuda.current_stream() if torch.cuda.is_initialized() else None,
            torch.initial_seed(),
        )

    def refusal(self, entry: "Surroundings") -> str | None:
        """What is wrong with a fusion point here, in a network entered with `entry`; None: nothing."""
        for field, reason in REFUSALS.items():
            turned_on = field == "grad" and self.grad
            if getattr(self, field) != getattr(entry, field) and not turned_on:
                return _NO_INFERENCE if field == "inference" and entry.inference else reason
        return None


_RECOMPUTED = (
    "an activation-checkpointed region, or a no_grad or inference_mode block, where recomputation would skip the "
    "fusion; turn checkpointing off for this network, fuse outside that region, or checkpoint the whole fused network "
    "instead"
)
_OUTSIDE = "fuse at a module outside it"
_NO_INFERENCE = (
    "an inference_mode(False) block, which cannot take what the other networks bring from inference mode; call the "
    "fused network under torch.no_grad() instead"
)
_RESEEDED = (
    "a block with a random state of its own (torch.random.fork_rng), whose end takes back what the other networks and "
    "the fusion have drawn, or after it has set the seed; seed outside its forward, or fuse outside that block"
)
REFUSALS = {
    "grad": _RECOMPUTED,
    "inference": _RECOMPUTED,
    "recomputed": _RECOMPUTED,
    "backward_pass": _RECOMPUTED,
    "transforms": f"a transform of torch.func (vmap, grad, ...), whose tensors mean nothing outside it; {_OUTSIDE}",
    "forward_mode": f"a forward_ad.dual_level block, whose tangents end with it; {_OUTSIDE}",
    "dispatch_modes": f"the `with` block of a TorchDispatchMode, which would see the other networks too; {_OUTSIDE}",
    "seed": _RESEEDED,
    "cuda_stream": f"a torch.cuda.stream block, beside which the other networks would run unordered; {_OUTSIDE}",
}
"""Field of `Surroundings` -> what the point lies in, why it cannot, and what to do."""
