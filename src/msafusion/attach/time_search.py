"""Find, by changing an example, which axis of a network's input is time and which axis of each stream follows it.

An axis whose size follows the number of steps is time's; where no size follows, the stream may still keep steps (a
network of fixed length), which shows when a single step of the input is changed. What shows neither way is in doubt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from msafusion.attach.containers import is_ragged, timed_tensor
from msafusion.attach.inputs import InputRule
from msafusion.attach.layout import LayoutTracer
from msafusion.attach.points import FusionLayer, FusionPoint, Tap
from msafusion.attach.search import TELL_POINT, Search, Sought, list_axes
from msafusion.attach.timing import Timing
from msafusion.attach.trials import Trials
from msafusion.streams import FusionError


def keep_time(
    network: nn.Module,
    rule: InputRule,
    tracer: LayoutTracer,
    given: Any,
    points: Sequence[FusionPoint],
    fusion_layers: Mapping[int, FusionLayer],
) -> None:
    """Give the streams of one network the timing found, or told by their point; set `rule.time_axis` if it is not told.

    Args:
        network: in eval mode.
        rule: how it takes its input.
        tracer: what its modules told in a dry run.
        given: its example.
        points: all of them.
        fusion_layers: index of a point -> the fusion_layer in place.

    Raises:
        FusionError: a time_axis that does not exist, or channels that turn out to be time.
    """
    places = [
        (index, tap)
        for index, fusion_layer in fusion_layers.items()
        for tap in fusion_layer.taps
        if tap.network == rule.network
    ]
    sought = []
    for index, tap in places:
        told = points[index].channel_axis
        told = told.get(tap.stream) if isinstance(told, Mapping) else told
        sought.append(Sought(tap, points[index].members[tap.network].submodule, told is not None))
    timings = find_timing(network, rule, tracer, given, sought)
    for (index, tap), timing in zip(places, timings, strict=True):
        timing = _as_told(points[index], tap, timing)
        layout = replace(tap.layout, time_axis=timing.axis)
        by_sample = tap.shape[layout.batch_axis] == rule.batch(given)
        found, fusion_layer = replace(tap, layout=layout, timing=timing, by_sample=by_sample), fusion_layers[index]
        fusion_layer.taps = [found if one is tap else one for one in fusion_layer.taps]
        rule.masks_matter |= timing.axis is not None or bool(timing.doubt)
        rule.others_matter |= tap.dims > 2 and timing == Timing()


def _as_told(point: FusionPoint, tap: Tap, found: Timing) -> Timing:
    told = point.time_axis
    if told is None or (isinstance(told, Mapping) and tap.stream not in told):
        return found
    axis = told[tap.stream] if isinstance(told, Mapping) else told
    if axis is None:
        return Timing()
    layout, axis = tap.layout, axis % tap.dims if -tap.dims <= axis < tap.dims else None
    if axis is None or axis in (layout.batch_axis, layout.channel_axis):
        raise FusionError(
            f"time_axis of stream '{tap.stream}' at {point.name} is {told}, expected an axis of its {tap.dims} beside "
            f"batch ({layout.batch_axis}) and channels ({layout.channel_axis}); correct it."
        )
    if found.disordered and found.axis == axis:
        return found
    return Timing(axis, found.rule if found.axis == axis else None)


def find_timing(
    network: nn.Module, rule: InputRule, tracer: LayoutTracer, given: Any, sought: Sequence[Sought]
) -> list[Timing]:
    """How each stream keeps the time of the network's input; sets `rule.time_axis` where it is not told.

    Raises:
        FusionError: the axis taken for a stream's channels is its time.
    """
    if isinstance(given, PackedSequence) or is_ragged(given):
        doubt = f"the steps of network '{rule.network}' come in a {type(given).__name__}; {TELL_POINT}"
        return [Timing(doubt=doubt) if one.tap.dims > 2 else Timing() for one in sought]
    shape, told, guess = tuple(timed_tensor(given).shape), rule.time_axis, tracer.time_axis(timed_tensor(given))
    rule.time_axis = guess if told is None else told
    if all(one.tap.dims < 3 for one in sought):
        return [Timing() for _ in sought]
    trials = Trials(network, rule, given, [(one.submodule, one.tap.path) for one in sought])
    base = trials.run(trials.unchanged())
    if base is None:
        doubt = f"network '{rule.network}' did not run a second time on its example; {TELL_POINT}"
        return [Timing(doubt=doubt) if one.tap.dims > 2 else Timing() for one in sought]
    search = Search(trials, base, sought)
    axes = [rule.time_axis] if told is not None else _candidates(trials, rule, given)
    responses = {axis: response for axis in axes if (response := search.response(axis)) is not None}
    if told is None:
        following = [axis for axis, response in responses.items() if response[1] != search.sizes]
        chosen = following or list(responses)
        if len(chosen) == 1:
            rule.time_axis = chosen[0]
        elif chosen or not tracer.tells_time_axis(timed_tensor(given)):
            doubt = (
                f"axes {list_axes(chosen or axes)} of the input of network '{rule.network}', shape {shape}, cannot be "
                "told apart: which is time? Set time_axis in fuse(), or give it an example of other sizes"
            )
            return [Timing(doubt=doubt) if one.tap.dims > 2 else Timing() for one in sought]
    axis = rule.time_axis
    return search.by_size(axis, *responses[axis]) if axis in responses else search.by_change(axis)


def _candidates(trials: Trials, rule: InputRule, given: Any) -> list[int]:
    """The axes of the main input that may be time."""
    assert rule.time_axis is not None
    dims = len(trials.shape)
    if rule.time_axis == 0 or dims < 3:
        return [rule.time_axis]
    axes = list(range(1, dims)) if dims < 5 else [1, 2]
    mask = given.get("attention_mask") if hasattr(given, "get") else None
    if isinstance(mask, Tensor) and mask.dim() == 2:
        return [axis for axis in axes if trials.shape[axis] == mask.shape[1]] or axes
    return axes
