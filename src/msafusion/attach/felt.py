"""Where in a stream the steps of an input are felt, against what a length rule says of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msafusion.attach.timing import LengthRule

NOTHING = 1e-6
"""Changes below this part of the largest are rounding."""
TOLERATED = 1
"""Positions in all that may be felt otherwise: units that happen to be off hide a change."""
DOMINANT = 3.0
"""What changes a position so many times more than all else does tells where the position comes from."""
FEW = 0.25
"""A part of the positions that tells nothing of the others."""


def bounds_of(steps: int) -> list[int]:
    """Where to part the steps: at quarters, which show blocks out of order, and one step from the ends."""
    return sorted({0, 1, steps // 4, steps // 2, 3 * steps // 4, steps - 1, steps})


@dataclass(frozen=True)
class Felt:
    """How much each position (n,) of a stream changes with each part of its input's steps.

    Attributes:
        parts: one for each part.
        bounds: where the parts begin, and the number of steps.
    """

    parts: Sequence[Tensor]
    bounds: Sequence[int]

    def _halves(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(steps, change by these first steps, change by the rest) for each bound inside."""
        changes = torch.stack(list(self.parts))
        changes = changes.where(changes > NOTHING * changes.max(), 0)
        for i, bound in enumerate(self.bounds[1:-1], 1):
            yield bound, changes[:i].norm(dim=0), changes[i:].norm(dim=0)

    def _middle(self) -> tuple[int, Tensor, Tensor]:
        return min(self._halves(), key=lambda half: abs(2 * half[0] - self.bounds[-1]))

    def anything(self) -> bool:
        """Whether any position changes at all."""
        return any(bool(part.any()) for part in self.parts)

    def takes_turns(self) -> bool:
        """Whether some positions are of the first steps alone, or of the others alone."""
        return any(bool(((first > 0) != (rest > 0)).any()) for _, first, rest in self._halves())

    def leans(self) -> bool:
        """Whether some positions change far more with the first half of the steps, and others with the second."""
        _, first, rest = self._middle()
        of_first, of_rest = first > DOMINANT * rest, rest > DOMINANT * first
        return bool(of_first.any() and of_rest.any()) and int((of_first | of_rest).sum()) > FEW * len(first)

    def contradicts(self, rule: LengthRule) -> bool:
        """Whether samples that end at a bound have positions by the rule that come of their padding alone.

        Or padding by the rule that comes of their real steps alone. Where every step is felt everywhere, as in
        attention, nothing contradicts.
        """
        wrong = 0
        for bound, first, rest in self._halves():
            real = _first_of(len(first), rule.steps(bound))
            wrong += int((real & (rest > 0) & (first == 0)).sum() + (~real & (first > 0) & (rest == 0)).sum())
        return wrong > TOLERATED

    def hides(self, rule: LengthRule) -> bool:
        """Whether the sizes of the changes speak against the rule, where every step is felt everywhere.

        Or say nothing, so that layers that repeat steps may have put them in any order.
        """
        if self.takes_turns():
            return False
        bound, first, rest = self._middle()
        real = _first_of(len(first), rule.steps(bound))
        of_first, of_rest = first > DOMINANT * rest, rest > DOMINANT * first
        told, wrong = int((of_first | of_rest).sum()), int((real & of_rest).sum() + (~real & of_first).sum())
        if told <= FEW * len(first):
            return rule.factor > 1
        return wrong > max(TOLERATED, FEW * told)


def _first_of(length: int, real: int) -> Tensor:
    return torch.arange(length) < real
