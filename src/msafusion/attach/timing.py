"""How the time steps of a network's input come out at a fusion point: on which axis, how many, which of them real."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from msafusion.streams import values_are_known

StreamMask = Bool[Tensor, "batch _time"]


@dataclass(frozen=True)
class LengthRule:
    """How many steps a layer gives: (factor * steps + offset) // stride, which any stack of strided layers obeys.

    Args:
        factor: of layers that repeat steps.
        offset: what padding, kernels and further tokens make of it.
        stride: of all layers together.
        keeps_order: a step of the input is one step here, `offset` later; where it is, any pattern of padding is known.
    """

    factor: int = 1
    offset: int = 0
    stride: int = 1
    keeps_order: bool = True

    def steps(self, before: int) -> int:
        """The steps that come out of so many."""
        return (self.factor * before + self.offset) // self.stride

    def lengths(self, before: Tensor) -> Tensor:
        """Real steps (batch,) of so many real ones of the input; what is not missing has one at least."""
        after = (self.factor * before + self.offset) // self.stride
        return torch.where(before > 0, after.clamp(min=1), 0)


@dataclass(frozen=True)
class Timing:
    """Where the time of a network's input lies in one stream.

    Args:
        axis: of the submodule's output; None: no axis of it follows the input's time, so no mask belongs to it.
        rule: how many steps; None: in proportion.
        doubt: why a mask cannot be given, and what decides it; empty: nothing stands against it.
        disordered: trials have shown that steps do not keep their order on that axis: no mask fits it, told or not.
    """

    axis: int | None = None
    rule: LengthRule | None = None
    doubt: str = ""
    disordered: bool = False


@dataclass(frozen=True)
class TimeMask:
    """Real time steps of a network's input.

    Args:
        mask: bool (batch, steps), True where a step is real.
        may_be_cut: the network knows the lengths and may cut its steps to the longest (as pad_packed_sequence does).
        padded_right: the real steps are known to come first.
    """

    mask: StreamMask
    may_be_cut: bool = False
    padded_right: bool = False

    @classmethod
    def from_lengths(cls, lengths: Tensor, num_steps: int, may_be_cut: bool = False) -> "TimeMask":
        """True for the first `lengths` (batch,) of `num_steps` steps."""
        mask = torch.arange(num_steps, device=lengths.device) < lengths.unsqueeze(1)
        return cls(mask, may_be_cut, padded_right=True)

    def at(self, num_steps: int, rule: LengthRule | None = None) -> StreamMask:
        """The real steps of a stream; without a rule ceil(length * num_steps / input steps) of them.

        Raises:
            ValueError: padding that is not on the right, and that the rule cannot follow; other steps than by the rule.
        """
        before, lengths = self.mask.shape[1], self.mask.sum(dim=1)
        cut = rule is not None and num_steps != rule.steps(before)
        if rule is not None and cut and not self.may_be_cut:
            raise ValueError(
                f"has {num_steps} steps for {before} of its input, expected {rule.steps(before)} as with fuse()'s "
                "example; tell its time_axis to the FusionPoint."
            )
        offset = num_steps - before
        if offset == 0 and not cut and (rule is None or rule.keeps_order):
            return self.mask
        if offset > 0 and rule == LengthRule(offset=offset):
            further = self.mask.any(dim=1, keepdim=True).expand(-1, offset)
            return torch.cat([further, self.mask], dim=1)
        late = self.mask[:, 1:] & ~self.mask[:, :-1]
        if not self.padded_right and values_are_known(late) and late.any():
            raise ValueError(
                f"makes {num_steps} steps of {before}, and its attention_mask has padding before real steps, expected "
                "it after them; pad on the right."
            )
        if rule is None:
            lengths = (lengths * num_steps + before - 1) // before
        else:
            lengths = rule.lengths(lengths).clamp(max=num_steps)
        return TimeMask.from_lengths(lengths, num_steps).mask
