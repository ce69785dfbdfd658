"""What trials of one network say of its streams: which axis keeps the input's steps, and by which rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, pairwise

from torch import Tensor

from msafusion.attach.felt import DOMINANT, Felt, bounds_of
from msafusion.attach.length_rules import find_rules
from msafusion.attach.points import Tap
from msafusion.attach.timing import LengthRule, Timing
from msafusion.attach.trials import Trials
from msafusion.streams import FusionError

MIN_STEPS = 4
"""Of an example whose halves tell something."""
MAX_SUBSETS = 32
"""Of the further inputs that may have to be resized along."""
TELL_POINT = "tell the FusionPoint by time_axis={stream: axis of the submodule's output, or None for no mask}"

Sizes = list[tuple[int, ...]]


def list_axes(axes: Sequence[int]) -> str:
    """Axes, in words."""
    return " and ".join(map(str, axes))


@dataclass(frozen=True)
class Sought:
    """One stream whose time is sought."""

    tap: Tap
    submodule: str
    told_channels: bool


class Search:
    """Trials of one network, and what they say of its streams."""

    def __init__(self, trials: Trials, base: list[Tensor], sought: Sequence[Sought]) -> None:
        self.trials, self.base, self.sought = trials, base, sought
        self.sizes: Sizes = [tuple(tensor.shape) for tensor in base]
        self.followers: dict[int, list[tuple[int, int]]] = {}
        self.doubtful: dict[int, bool] = {}
        self._runs: dict[tuple[int, int, int], list[Tensor] | None] = {}

    def measure(self, axis: int, steps: int) -> Sizes | None:
        """The streams' sizes for another number of steps."""
        found = self.trials.run(self.trials.resized(axis, steps, self.followers.get(axis, ())))
        return None if found is None else [tuple(tensor.shape) for tensor in found]

    def response(self, axis: int) -> tuple[int, Sizes] | None:
        """(steps, sizes) of the first other number of steps that the network takes; None: it takes no other."""
        steps = self.trials.shape[axis]
        all_followers = self.trials.followers(axis)
        for other in dict.fromkeys((max(steps // 2, 1), 2 * steps, steps - 1, steps + 1)):
            if other < 1 or other == steps:
                continue
            for followers in dict.fromkeys((tuple(all_followers), ())):
                self.followers[axis] = list(followers)
                sizes = self.measure(axis, other)
                if sizes is not None:
                    return self._least(axis, other, sizes)
        return None

    def _least(self, axis: int, other: int, sizes: Sizes) -> tuple[int, Sizes]:
        """The same with only those further inputs resized that have to be, be it several together."""
        followers = self.followers[axis]
        fewer_of = (list(some) for count in range(len(followers)) for some in combinations(followers, count))
        for some in islice(fewer_of, MAX_SUBSETS):
            self.followers[axis] = some
            fewer = self.measure(axis, other)
            if fewer is not None:
                for i, (before, after) in enumerate(zip(sizes, fewer, strict=True)):
                    self.doubtful[i] = before != after
                return other, fewer
        self.followers[axis] = followers
        return other, sizes

    def by_size(self, axis: int, other: int, sizes: Sizes) -> list[Timing]:
        """Timing by the sizes that follow the number of steps."""
        steps = self.trials.shape[axis]
        known = {steps: self.sizes, other: sizes}
        if not all(self._clear(i, known) for i in range(len(self.base))):
            for longer in (4 * steps, 2 * steps) if len(self.trials.shape) < 4 else (2 * steps,):
                if longer not in known and (found := self.measure(axis, longer)) is not None:
                    known[longer] = found
                    break
        axes = [self._axes(i, known) for i in range(len(self.base))]
        nearly_fixed = all(abs(size - steps) <= 1 for size in known)  # which strides may hide
        timings = [self._timing(i, along, axis, nearly_fixed) for i, along in enumerate(axes)]
        open_ones = [i for i, timing in enumerate(timings) if timing.axis is not None]
        if not open_ones:
            return timings

        def counts(at: Sizes) -> list[int]:
            return [at[i][timings[i].axis or 0] for i in open_ones]

        def measured(size: int) -> list[int] | None:
            at = self.measure(axis, size)
            return None if at is None else counts(at)

        pairs = [
            list(column) for column in zip(*[[(n, c) for c in counts(at)] for n, at in known.items()], strict=True)
        ]
        rules = find_rules(pairs, measured, min(known), max(known), steps)
        for i, found_rule in zip(open_ones, rules, strict=True):
            timings[i] = self._with_rule(i, timings[i], found_rule, axis)
        return timings

    def _clear(self, i: int, known: dict[int, Sizes]) -> bool:
        """A stream has no positions, or follows the two numbers of steps known one by one or far enough."""
        (one, first), (other, second) = known.items()
        apart = [abs(a - b) for a, b in zip(first[i], second[i], strict=False) if a != b]
        return self.base[i].dim() < 3 or max(apart, default=0) >= min(4, abs(one - other))

    def _axes(self, i: int, known: dict[int, Sizes]) -> list[int]:
        shapes = [sizes[i] for sizes in known.values()]
        if len({len(shape) for shape in shapes}) > 1:
            return list(range(self.base[i].dim()))
        return [axis for axis in range(self.base[i].dim()) if len({shape[axis] for shape in shapes}) > 1]

    def _timing(self, i: int, along: list[int], axis: int, nearly_fixed: bool) -> Timing:
        """By the axes of a stream whose size follows."""
        one, layout = self.sought[i], self.sought[i].tap.layout
        if layout.channel_axis in along and not one.told_channels and self.base[i].dim() > 2:
            raise FusionError(
                f"submodule '{one.submodule}': channels and time of its output of shape {self.sizes[i]} cannot be told "
                f"apart, axis {layout.channel_axis} follows the number of steps; pass channel_axis to the FusionPoint, "
                "or give fuse() an example of another length."
            )
        if self.base[i].dim() < 3:
            return Timing()
        if self.doubtful.get(i):
            return self._doubt(i, f"follows another input that has as many steps as axis {axis} of the main one")
        if len(along) == 1 and along[0] not in (layout.batch_axis, layout.channel_axis):
            return Timing(along[0])
        if along:
            return self._doubt(i, f"follows the number of steps on axes {list_axes(along)}")
        return self._by_change(i, axis) if nearly_fixed else self._without_response(i, axis)

    def _without_response(self, i: int, axis: int) -> Timing:
        """No size follows: no time at all, or a fixed number of positions, each of other steps of the input."""
        for along in self._position_axes(i):
            felt = self._felt(i, along, axis, [0, self.trials.shape[axis] // 2, self.trials.shape[axis]])
            if felt is not None and (felt.takes_turns() or felt.leans()):
                return self._doubt(i, "has a fixed number of positions that take turns with the steps of the input")
        return Timing()

    def _with_rule(self, i: int, timing: Timing, rule: LengthRule | None, axis: int) -> Timing:
        if rule is None:
            return self._doubt(i, "has a number of steps that follows from the input's by no known rule", timing.axis)
        if rule.factor == rule.stride == 1 and rule.offset > 0:  # further tokens, before or after?
            offset = self._offset(i, timing.axis or 0, axis)
            if offset != rule.offset:
                return self._doubt(i, f"has {rule.offset} further steps, not surely before the others", timing.axis)
        felt = self._felt(i, timing.axis or 0, axis, bounds_of(self.trials.shape[axis]))
        if felt is not None and not felt.anything():
            return self._doubt(i, "follows the number of steps of the main input, but not its values", timing.axis)
        if felt is not None and felt.contradicts(rule):
            doubt = self._doubt(
                i, "does not keep the steps of the input in their order, as a mask needs them", timing.axis
            )
            return replace(doubt, disordered=True)
        if felt is not None and felt.hides(rule):
            return self._doubt(
                i, "mixes all steps of the input and does not show that it keeps them in their order", timing.axis
            )
        return Timing(timing.axis, rule)

    def _felt(self, i: int, along: int, axis: int, bounds: Sequence[int]) -> Felt | None:
        """What parts of the steps change at the positions of a stream; None: unknown."""
        if self.trials.shape[axis] < MIN_STEPS or self.base[i].is_meta:
            return None
        changes = [self._change(i, axis, *part) for part in pairwise(bounds)]
        if any(change is None for change in changes):
            return None
        return Felt([_along(change, along).cpu() for change in changes if change is not None], bounds)

    def by_change(self, axis: int) -> list[Timing]:
        """Timing of a network of fixed length, by the positions that change along with one step of its input."""
        return [self._by_change(i, axis) for i in range(len(self.base))]

    def _by_change(self, i: int, axis: int) -> Timing:
        if self.base[i].dim() < 3:
            return Timing()
        profiles = self._profiles(i, axis)
        if profiles and all(not profile.any() for at_step in profiles.values() for profile in at_step.values()):
            return Timing()
        offsets = {along: self._offset(i, along, axis) for along in self._position_axes(i)}
        kept = {along: offset for along, offset in offsets.items() if offset is not None}
        fits = [a for a, offset in kept.items() if self.sizes[i][a] == self.trials.shape[axis] + offset]
        if len(fits) == 1:
            return Timing(fits[0], LengthRule(offset=kept[fits[0]] or 0))
        return self._doubt(i, "does not show where the steps of the input are")

    def _position_axes(self, i: int) -> list[int]:
        layout = self.sought[i].tap.layout
        return [axis for axis in range(self.base[i].dim()) if axis not in (layout.batch_axis, layout.channel_axis)]

    def _change(self, i: int, axis: int, first: int, last: int) -> Tensor | None:
        """How much a stream changes with some steps of the input; None: it does not come in its shape."""
        if (axis, first, last) not in self._runs:
            self._runs[axis, first, last] = self.trials.run(self.trials.changed(axis, first, last))
        changed = self._runs[axis, first, last]
        if changed is None or changed[i].shape != self.base[i].shape:
            return None
        return (changed[i] - self.base[i]).abs().double().nan_to_num()

    def _profiles(self, i: int, axis: int) -> dict[int, dict[int, Tensor]]:
        """Changed step of the input -> {axis of the stream: how much its positions change}."""
        steps, result = self.trials.shape[axis], {}
        for step in dict.fromkeys((0, steps // 2, steps - 1)):
            change = self._change(i, axis, step, step + 1)
            if change is None:
                return {}
            result[step] = {along: _along(change, along) for along in self._position_axes(i)}
        return result

    def _offset(self, i: int, along: int, axis: int) -> int | None:
        """How many positions later than in the input its steps lie on an axis of the stream, if they do."""
        offsets = set()
        for step, profiles in self._profiles(i, axis).items():
            place = _stands_out(profiles[along])
            offsets.add(None if place is None else place - step)
        return offsets.pop() if len(offsets) == 1 else None

    def _doubt(self, i: int, what: str, axis: int | None = None) -> Timing:
        one = self.sought[i]
        return Timing(
            axis, None, f"stream '{one.tap.stream}' ('{one.submodule}', shape {self.sizes[i]}) {what}; {TELL_POINT}"
        )


def _stands_out(profile: Tensor) -> int | None:
    """The position that changes far more than any other."""
    if len(profile) < 2:
        return None
    largest, second = profile.topk(2).values.tolist()
    return int(profile.argmax()) if largest > DOMINANT * second else None


def _along(change: Tensor, along: int) -> Tensor:
    """Of each position on an axis."""
    return change.sum(dim=[dim for dim in range(change.dim()) if dim != along])
