"""Where in a stream the steps of an input are felt, against what a length rule says of them."""

from dataclasses import dataclass

from torch import Tensor

from msafusion.attach.timing import LengthRule, TimeMask

NOTHING = 1e-6
"""Changes below this part of the largest are rounding."""
TOLERATED = 1
"""Positions that may be felt otherwise: units that happen to be off hide a change."""


@dataclass(frozen=True)
class Felt:
    """How much each position (n,) of a stream changes with the first steps of its input, and with the rest.

    Attributes:
        first: with the first `middle` of `steps` steps.
        rest: with the others.
    """

    first: Tensor
    rest: Tensor
    middle: int
    steps: int

    @property
    def _by(self) -> tuple[Tensor, Tensor]:
        least = NOTHING * max(float(self.first.max()), float(self.rest.max()))
        return self.first > least, self.rest > least

    def anything(self) -> bool:
        """Whether any position changes at all."""
        first, rest = self._by
        return bool((first | rest).any())

    def takes_turns(self) -> bool:
        """Whether some positions are of the first steps alone, or of the others alone."""
        first, rest = self._by
        return bool((first != rest).any())

    def contradicts(self, rule: LengthRule) -> bool:
        """Whether a sample that ends in the middle has positions by the rule that come of its padding alone.

        Or padding by the rule that comes of its real steps alone. Where every step is felt everywhere, as in attention,
        nothing contradicts.
        """
        first, rest = self._by
        mask = TimeMask.from_lengths(self.first.new_full((1,), self.middle).long(), self.steps)
        real = mask.at(len(first), rule)[0]
        return int((real & rest & ~first).sum() + (~real & first & ~rest).sum()) > TOLERATED
