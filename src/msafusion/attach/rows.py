"""Where the first sample of an example shows in what submodules give, found by changing it before anything is fused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from msafusion.attach.containers import is_ragged, timed_tensor
from msafusion.attach.inputs import InputRule
from msafusion.attach.layout import LayoutTracer
from msafusion.attach.sample_rows import Rows
from msafusion.attach.trials import Trials


def rows_of(network: nn.Module, rule: InputRule, given: Any, submodules: list[str]) -> dict[str, list[Rows]]:
    """Submodule -> where the first sample shows in its output; nothing where the network cannot be tried.

    Args:
        network: in eval mode.
        rule: how it takes its input.
        given: its example.
        submodules: of its fusion points.
    """
    submodules = [name for name in submodules if not isinstance(network.get_submodule(name), torch.jit.ScriptModule)]
    if isinstance(given, PackedSequence) or is_ragged(given) or not submodules or timed_tensor(given).is_meta:
        return {}
    trials = Trials(network, rule, given, [(submodule, ()) for submodule in submodules])
    tracer = LayoutTracer()
    with _recording(network, tracer):
        before = trials.run(trials.unchanged())
    if before is None or not trials.shape:
        return {}
    time = tracer.time_axis(trials.bearer_tensor) if rule.time_axis is None else rule.time_axis
    axis = 1 if time == 0 and len(trials.shape) > 1 else 0
    after = trials.run(trials.changed(axis, 0, 1)) if trials.shape[axis] else None
    if after is None:
        return {}
    found = {
        submodule: [Rows(trials.shape[axis], one, other)]
        for submodule, one, other in zip(submodules, before, after, strict=True)
    }
    if (uneven := trials.uneven(axis)) is not None:  # some networks sort their samples by length
        before, after = trials.run(uneven), trials.run(trials.changed(axis, 0, 1, uneven))
        for submodule, one, other in zip(submodules, before or [], after or [], strict=False):
            found[submodule].append(Rows(trials.shape[axis], one, other))
    return found


@contextmanager
def _recording(network: nn.Module, tracer: LayoutTracer) -> Iterator[None]:
    hooks = [
        module.register_forward_hook(lambda module, args, output: tracer.record(module, output), prepend=True)
        for module in network.modules()
        if not isinstance(module, torch.jit.ScriptModule)  # takes no hook
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
