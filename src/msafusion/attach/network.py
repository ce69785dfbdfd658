"""`fuse()`: one network out of several, fused at named submodules."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msafusion.attach.layout import Trail
from msafusion.attach.lockstep import Identity, PointHook, not_traced, run_in_lockstep
from msafusion.attach.points import FusionPoint, Joint, TimeMask, join
from msafusion.attach.tracing import export
from msafusion.heads import HEADS, ConcatHead, Head
from msafusion.streams import FusionError, nearest, values_are_known

Inputs = Mapping[str, Any]
"""Network name -> its input: a tensor, a tuple of arguments or a dict of keyword arguments."""


class FusedNetwork(nn.Module):
    """Networks that run side by side and are fused at points inside; made by `fuse()`.

    The networks stay the modules they were: used alone they behave as before, and `networks[name]` has its own keys.

    Attributes:
        networks: ModuleDict, in the order given.
        joints: the fusion modules in place, one for each FusionPoint; `joints[0].fusion` is the first one's method.
        head: the module that makes one prediction of the networks' outputs.
    """

    def __init__(self, networks: Mapping[str, nn.Module], points: Sequence[FusionPoint], time_axis: Mapping[str, int]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.joints = nn.ModuleList()
        self.head: nn.Module = nn.Identity()
        self._identity = Identity()
        self._members = [frozenset(point.members) for point in points]
        self._where = [point.name for point in points]
        self._time_axis = dict(time_axis)
        self._takes_lengths = {name: _lengths_parameter(network) for name, network in networks.items()}
        self._frozen: dict[str, list[str]] = {}

    @not_traced
    def forward(
        self, inputs: Inputs, lengths: Mapping[str, Tensor] | None = None, present: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """One prediction: the head's, of what the networks say after fusion.

        Args:
            inputs: network name -> its input. A network left out is not run, and its streams are missing everywhere.
            lengths: network name -> (batch,) real time steps of its input, right-padded. A dict input's
                `attention_mask` serves without them. A network whose forward has a parameter `lengths` gets them.
            present: network name -> bool (batch,), False where a sample lacks that network's input (its values are
                replaced by zeros).

        Raises:
            ValueError: an unknown network, lengths beyond the input, a wrong shape; FusionError where networks do
                not meet at their points.
        """
        return self.combine(self.stream_outputs(inputs, lengths, present), present)

    @not_traced
    def stream_outputs(
        self, inputs: Inputs, lengths: Mapping[str, Tensor] | None = None, present: Mapping[str, Tensor] | None = None
    ) -> dict[str, Any]:
        """Each network's own output after fusion, before the head; arguments as of `forward`."""
        self._check_inputs(inputs, lengths, present)
        present = dict(present or {})
        masks = {name: mask for name in self._order(inputs) if (mask := self._mask(name, inputs[name], lengths)) is not None}

        def fuse_at(point: int, outputs: dict[str, Any]) -> dict[str, Any]:
            return self.joints[point](outputs, masks, present)

        return self._run(inputs, lengths, present, fuse_at)

    def combine(self, outputs: Mapping[str, Any], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """The head's prediction from what `stream_outputs` gave.

        Raises:
            FusionError: a network's output is not a tensor (nor holds `logits`), or the shapes do not go together.
        """
        tensors = {name: prediction_in(output, name) for name, output in outputs.items()}
        here = {name: mask for name, mask in (present or {}).items() if name in tensors}
        for name, mask in here.items():
            tensors[name] = tensors[name].masked_fill(~mask.reshape(-1, *[1] * (tensors[name].dim() - 1)), 0)
        if not isinstance(self.head, Head):
            return self.head(tensors)
        free_axis = 2 if isinstance(self.head, ConcatHead) else 1
        first = next(iter(tensors.values()))
        if any(t.dim() != first.dim() or t.shape[free_axis:] != first.shape[free_axis:] for t in tensors.values()):
            raise FusionError(
                f"the networks' outputs have shapes { {name: tuple(t.shape) for name, t in tensors.items()} }, expected "
                'equal ones for this head; use head="concat" with num_outputs, or a module of your own.'
            )
        return self.head(tensors, here)

    def export(self, example: Inputs, *, dynamic_time: bool = False) -> torch.export.ExportedProgram:
        """One flat graph of the whole network in eval mode, with a dynamic batch; see `torch.onnx.export(program=...)`.

        Args:
            example: inputs as for `forward`; at least two samples.
            dynamic_time: also free axis 2 of the inputs where they have one (not for recurrent networks).

        Returns:
            A program called as `program.module()(inputs)`.

        Raises:
            ValueError: the example has a batch of one, or its inputs are not tensors (or dicts or tuples of them).
        """
        self._check_inputs(example, None, None)
        return export(self, {name: example[name] for name in self._order(example)}, dynamic_time)

    def freeze(self, *names: str) -> "FusedNetwork":
        """Stop training networks (or "fusion", "head"): no gradients, and eval mode whatever `train()` says."""
        for name in names:
            part = self._part(name)
            parameters = [key for key, parameter in part.named_parameters() if parameter.requires_grad]
            self._frozen[name] = [*self._frozen.get(name, []), *parameters]
            part.requires_grad_(False).eval()
        return self

    def unfreeze(self, *names: str) -> "FusedNetwork":
        """Undo `freeze` for parts, or for all of them: exactly the parameters that it froze train again."""
        for name in names or tuple(self._frozen):
            part, keys = self._part(name), set(self._frozen.pop(name, []))
            for key, parameter in part.named_parameters():
                parameter.requires_grad_(parameter.requires_grad or key in keys)
            part.train(self.training)
        return self

    def train(self, mode: bool = True) -> "FusedNetwork":
        super().train(mode)
        for name in self._frozen:
            self._part(name).eval()
        return self

    def parameter_groups(self, rates: Mapping[str, float], default: float) -> list[dict[str, Any]]:
        """Groups for an optimizer, one for each part that trains, with learning rates by part.

        Args:
            rates: learning rate of a network's name, "fusion" or "head".
            default: learning rate of the parts not named.

        Raises:
            ValueError: `rates` names an unknown part.
        """
        for name in rates:
            self._part(name)
        groups, seen = [], set()
        for name in (*self.networks, "fusion", "head"):
            parameters = [p for p in self._part(name).parameters() if p.requires_grad and id(p) not in seen]
            seen.update(map(id, parameters))
            if parameters:
                groups.append({"params": parameters, "lr": rates.get(name, default), "name": name})
        return groups

    def _part(self, name: str) -> nn.Module:
        parts = {**dict(self.networks.items()), "fusion": self.joints, "head": self.head}
        if name not in parts:
            raise ValueError(f"unknown part '{name}' of the fused network; {nearest(name, parts)}")
        return parts[name]

    def _order(self, inputs: Inputs) -> list[str]:
        return [name for name in self.networks if name in inputs]

    @not_traced
    def _run(self, inputs: Inputs, lengths: Any, present: Mapping[str, Tensor], fuse_at: Any) -> dict[str, Any]:
        @not_traced
        def call(name: str) -> Any:
            given = _zero_missing(inputs[name], present.get(name))
            extra = self._lengths_argument(name, given, lengths)
            if isinstance(given, Mapping):
                return self.networks[name](**given, **extra)
            return self.networks[name](*given, **extra) if isinstance(given, tuple) else self.networks[name](given, **extra)

        calls = {name: (lambda name=name: call(name)) for name in self._order(inputs)}
        outputs = run_in_lockstep(self._identity, calls, self._members, self._where, fuse_at)
        return {name: outputs[name] for name in calls}

    def _lengths_argument(self, name: str, given: Any, lengths: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        if self._takes_lengths[name] is None:
            return {}
        if lengths and name in lengths:
            return {"lengths": lengths[name]}
        if self._takes_lengths[name] == "optional":
            return {}
        tensor = _main_tensor(given)
        return {"lengths": torch.full((tensor.shape[0],), tensor.shape[self._time_axis.get(name, 1)], device=tensor.device)}

    def _mask(self, name: str, given: Any, lengths: Mapping[str, Tensor] | None) -> TimeMask | None:
        if lengths and name in lengths:
            steps, got = _main_tensor(given).shape[self._time_axis.get(name, 1)], lengths[name]
            if got.dim() != 1 or got.is_floating_point() or got.dtype == torch.bool:
                raise ValueError(f"lengths of '{name}' have shape {tuple(got.shape)} and type {got.dtype}, expected integers (batch,).")
            if values_are_known(got) and got.numel() and (got.max() > steps or got.min() < 0):
                raise ValueError(
                    f"lengths of '{name}' reach from {int(got.min())} to {int(got.max())}, expected 0 to the input's {steps} "
                    f"steps (axis {self._time_axis.get(name, 1)}); correct them, or set time_axis in fuse()."
                )
            return TimeMask.from_lengths(got, steps)
        if isinstance(given, Mapping) and isinstance(mask := given.get("attention_mask"), Tensor) and mask.dim() == 2:
            return TimeMask(mask.bool())
        return None

    def _check_inputs(self, inputs: Inputs, lengths: Mapping[str, Tensor] | None, present: Mapping[str, Tensor] | None) -> None:
        if not isinstance(inputs, Mapping) or not inputs:
            raise ValueError(f"got {type(inputs).__name__} as inputs, expected {{network: input}} with at least one of them.")
        for what, given in (("inputs", inputs), ("lengths", lengths or {}), ("present", present or {})):
            for name in given:
                if name not in self.networks:
                    raise ValueError(f"{what} for the unknown network '{name}'; {nearest(name, self.networks)}")
        batches = {name: _main_tensor(inputs[name]).shape[0] for name in inputs}
        for name, here in (present or {}).items():
            if here.dtype != torch.bool or here.dim() != 1 or (name in batches and len(here) != batches[name]):
                raise ValueError(
                    f"present of '{name}' has shape {tuple(here.shape)} and type {here.dtype}, expected bool "
                    f"({batches.get(name, 'batch')},); give True where the sample has that input."
                )


def fuse(
    networks: Mapping[str, nn.Module],
    at: Iterable[FusionPoint] = (),
    *,
    head: str | nn.Module = "sum",
    num_outputs: int | None = None,
    example: Inputs | None = None,
    time_axis: Mapping[str, int] | None = None,
) -> FusedNetwork:
    """Fuse networks at named submodules, without touching their `forward`.

    Channels and their axes are found by running the networks once on `example`, in eval mode and without gradients.

    Args:
        networks: name -> network; any modules, pretrained or not.
        at: the fusion points, in the order in which the networks reach them; none: late fusion by the head alone.
        head: "sum", "mean", "product", "concat" or a module that maps {network: output} to the prediction.
        num_outputs: for head="concat".
        example: network name -> an input for each network, at least two samples for norm="batch" modules' sake not
            needed; any values of the right shapes. Only needed with fusion points or head="concat".
        time_axis: network name -> the axis of its input that `lengths` count, where it is not found by itself.

    Raises:
        FusionError: an unknown network or submodule (the nearest names are listed), a submodule that is never or twice
            run, in conflicting orders, inside a checkpointed region, or whose output holds no features.
        ValueError: an unknown head or fusion method, or options that the method refuses.
    """
    points = list(at)
    for name, network in networks.items():
        if not isinstance(network, nn.Module):
            raise TypeError(f"network '{name}' is a {type(network).__name__}, expected a torch.nn.Module; pass the module itself.")
        if not name or "." in name or name in ("fusion", "head") or hasattr(nn.ModuleDict, name):
            raise FusionError(f"a network cannot be called '{name}'; choose a name without dots that is not 'fusion' or 'head'.")
    if not networks:
        raise FusionError("got no network, expected {name: module} with at least one; pass the networks to fuse.")
    _check_names(networks, points)
    if isinstance(head, str) and head not in HEADS:
        raise ValueError(f"unknown head {head!r}; {nearest(head, HEADS)}")
    net = FusedNetwork(networks, points, time_axis or {})
    needs_example = bool(points) or head == "concat"
    if needs_example and example is None:
        raise ValueError("fuse() got no example, expected one input for each network to find the channels; pass example={...}.")
    hooks = [
        networks[name].get_submodule(member.submodule).register_forward_hook(PointHook(net._identity, name, index))
        for index, point in enumerate(points)
        for name, member in point.members.items()
    ]
    try:
        outputs = _dry_run(net, points, example) if example is not None else {}
        if isinstance(head, nn.Module):
            net.head = head
        else:
            features = {name: prediction_in(output, name) for name, output in outputs.items()}
            net.head = HEADS[head]({name: tensor.shape[-1] for name, tensor in features.items()}, num_outputs)
        if outputs:
            net.eval()
            with torch.no_grad():
                net.combine(outputs)
    except BaseException:
        for hook in hooks:
            hook.remove()
        raise
    return net.train()


def _check_names(networks: Mapping[str, nn.Module], points: Sequence[FusionPoint]) -> None:
    for point in points:
        for name, member in point.members.items():
            if name not in networks:
                raise FusionError(f"fusion point {point.name} names the unknown network '{name}'; {nearest(name, networks)}")
            known = [key for key, _ in networks[name].named_modules() if key]
            if member.submodule not in known:
                raise FusionError(
                    f"fusion point {point.name}: network '{name}' ({type(networks[name]).__name__}) has no submodule "
                    f"'{member.submodule}'; {nearest(member.submodule, known)}"
                )


def _dry_run(net: FusedNetwork, points: Sequence[FusionPoint], example: Inputs) -> dict[str, Any]:
    """Run the networks once, make the joints from what they give, and return their outputs."""
    missing = [name for name in net.networks if name not in example]
    if missing:
        raise FusionError(f"the example has no input for the networks {', '.join(missing)}; give one for each network.")
    net._check_inputs(example, None, None)
    trails = {name: Trail() for name in net.networks}
    probes = []
    joints: dict[int, Joint] = {}
    for name, network in net.networks.items():
        for module in network.modules():

            def probe(module: nn.Module, _: Any, output: Any, trail: Trail = trails[name]) -> None:
                trail.record(module, output)

            probes.append(module.register_forward_hook(probe, prepend=True))
    modes = {module: module.training for module in net.modules()}

    def fuse_at(index: int, outputs: dict[str, Any]) -> dict[str, Any]:
        for name in outputs:
            net._time_axis.setdefault(name, trails[name].time_axis(_main_tensor(example[name])))
        joints[index] = join(points[index], dict(net.networks.items()), outputs, trails)
        device = _main_tensor(next(iter(example.values()))).device
        return joints[index].to(device).eval()(outputs, {}, {})

    try:
        with torch.no_grad():
            outputs = net.eval()._run(example, None, {}, fuse_at)
    finally:
        for handle in probes:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    for name in net.networks:
        net._time_axis.setdefault(name, trails[name].time_axis(_main_tensor(example[name])))
    net.joints.extend(joints[index] for index in range(len(points)))
    return outputs


def prediction_in(output: Any, network: str) -> Tensor:
    """The tensor of a network's output that a head reads: itself, `logits`, or the only tensor of a tuple or dict.

    Raises:
        FusionError: there is no such tensor.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    items = list(output.values()) if isinstance(output, Mapping) else output
    tensors = [item for item in items if isinstance(item, Tensor)] if isinstance(items, tuple | list) else []
    if len(tensors) == 1:
        return tensors[0]
    keys = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
    raise FusionError(
        f"network '{network}' gives a {type(output).__name__} ({keys}), expected a tensor or `logits` for the head; give "
        "fuse() a head of your own, or wrap the network in a module that returns its prediction."
    )


def _main_tensor(given: Any) -> Tensor:
    """The tensor of a network's input that has the batch and time axes: the first with two axes at least."""
    values = given.values() if isinstance(given, Mapping) else given if isinstance(given, tuple) else (given,)
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        raise ValueError(f"a network's input is a {type(given).__name__}, expected a tensor, or a tuple or dict with one.")
    return next((tensor for tensor in tensors if tensor.dim() > 1), tensors[0])


def _zero_missing(given: Any, here: Tensor | None) -> Any:
    """The input with zeros for the samples that lack it, so that no NaN of theirs reaches batch statistics."""
    if here is None:
        return given
    if isinstance(given, Mapping):
        return {key: _zero_missing(value, here) for key, value in given.items()}
    if isinstance(given, tuple):
        return tuple(_zero_missing(value, here) for value in given)
    if not isinstance(given, Tensor) or not given.is_floating_point() or given.shape[:1] != here.shape:
        return given
    return given.masked_fill(~here.reshape(-1, *[1] * (given.dim() - 1)), 0)


def _lengths_parameter(network: nn.Module) -> str | None:
    """Whether a network's forward takes `lengths`: None, "optional" or "required"."""
    parameter = inspect.signature(network.forward).parameters.get("lengths")
    if parameter is None:
        return None
    return "required" if parameter.default is inspect.Parameter.empty else "optional"
