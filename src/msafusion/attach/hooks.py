"""Where networks stop at fusion points: forward hooks that are there only while a fused network runs."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from msafusion.attach.lockstep import NetworkRun
from msafusion.attach.state import not_traced
from msafusion.attach.wrapped import unwrap_key
from msafusion.streams import FusionError


class Copied:
    """What hooks become where a network copies or pickles a part of itself in its forward: gone after a call."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
        """Take this hook off."""
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook is self]:
                del hooks[key]


class _Hook:
    def __reduce__(self) -> tuple[type[Copied], tuple[()]]:
        return Copied, ()


class PointHook(_Hook):
    """Forward hook of one network's submodule at one fusion point; does nothing in other runs than its owner's."""

    def __init__(self, owner: "PointHooks", network: str, point: int) -> None:
        self.owner, self.network, self.point = owner, network, point

    @not_traced
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Stop here until all have arrived, and go on with the fused output."""
        run = NetworkRun.current()
        if run is None:
            return None
        if run.belongs_to(self.owner, self.network):
            return run.arrive(self.point, output)
        if any(outer.belongs_to(self.owner, self.network) for outer in run.around()):
            raise FusionError(
                f"network '{self.network}' at fusion point {self.owner.where[self.point]}: the submodule runs inside "
                f"another fused network, in its '{run.network}', which cannot be stopped from outside; fuse at a "
                "module around it, or give all the networks to one fuse()."
            )
        return None


class NestedGuard(_Hook):
    """Forward pre-hook of a TransformerEncoder's first layer: one line where the encoder packs its input."""

    def __init__(self, owner: "PointHooks", network: str) -> None:
        self.owner, self.network = owner, network

    @not_traced
    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Refuse nested tensors, which layers with fusion points cannot take."""
        run = NetworkRun.current()
        if run is None or not run.belongs_to(self.owner, self.network):
            return
        if args and isinstance(args[0], torch.Tensor) and args[0].is_nested:
            raise FusionError(
                f"network '{self.network}': its nn.TransformerEncoder packs padded input into nested tensors in eval "
                "mode, which cannot be fused; build it with enable_nested_tensor=False, or set "
                "encoder.use_nested_tensor = False."
            )


class PointHooks:
    """The hooks of one fused network, which tell its runs from another's; copied and pickled along with it.

    They are on the submodules only while it runs, so a network used alone exports, compiles and scripts as ever.

    Args:
        points: for each fusion point network -> submodule.
        where: for each its name in error messages.
    """

    def __init__(self, points: Sequence[Mapping[str, str]], where: Sequence[str]) -> None:
        self.points, self.where = [dict(point) for point in points], list(where)
        self._prepare()

    def _prepare(self) -> None:
        # the same keys in every run: torch.compile would compile again for others
        self.hooks = [
            (RemovableHandle(OrderedDict()).id, PointHook(self, network, index), NestedGuard(self, network), submodule)
            for index, point in enumerate(self.points)
            for network, submodule in point.items()
        ]
        self.lock, self.running = threading.Lock(), 0

    def __getstate__(self) -> dict[str, Any]:
        return {"points": self.points, "where": self.where}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @contextmanager
    def attached(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Keep the hooks on the submodules; may be entered by several threads at once.

        Raises:
            FusionError: a network has no such submodule any more, or one that takes no hook.
        """
        places: list[tuple[dict[Any, Any], int, Any]] = []
        for key, hook, guard, path in self.hooks:
            network = networks[hook.network]
            module = self.submodule(network, hook.network, hook.point, path)
            places.append((module._forward_hooks, key, hook))  # what register_forward_hook does, under our own key
            places.extend((first._forward_pre_hooks, key, guard) for first in _first_layers(network, path))
        with self.lock:
            self.running += 1
            for hooks, key, hook in places:
                hooks[key] = hook
        try:
            yield
        finally:
            with self.lock:
                self.running -= 1
                if not self.running:
                    for hooks, key, _ in places:
                        hooks.pop(key, None)

    def submodule(self, network: nn.Module, name: str, point: int, path: str) -> nn.Module:
        """The submodule that a network stops at, also where the network or a part of it has been wrapped since.

        Raises:
            FusionError: there is none, or it takes no hook.
        """
        try:
            module = network.get_submodule(path)
        except AttributeError:
            found = [part for key, part in network.named_modules() if key and unwrap_key(key) == path]
            if not found:
                raise FusionError(
                    f"network '{name}' has no submodule '{path}' any more, where fusion point {self.where[point]} is; "
                    "call fuse() with the network as it is now."
                ) from None
            module = found[-1]
        if isinstance(module, torch.jit.ScriptModule):
            raise FusionError(
                f"submodule '{path}' of network '{name}' (fusion point {self.where[point]}) is TorchScript, which "
                "cannot be stopped; fuse at a module around it, or at one that is not scripted."
            )
        return module


def _first_layers(network: nn.Module, path: str) -> Iterator[nn.Module]:
    """The first layer of each nn.TransformerEncoder that has a submodule among its layers."""
    parts = path.split(".")
    for depth, part in enumerate(parts):
        try:
            encoder = network.get_submodule(".".join(parts[:depth])) if part == "layers" else None
        except AttributeError:  # wrapped since fuse()
            continue
        if isinstance(encoder, nn.TransformerEncoder):
            yield encoder.layers[0]
