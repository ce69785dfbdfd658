"""Run several unmodified networks in lockstep: each stops at its fusion points until all have arrived.

Every network runs in a coroutine of its own (greenlet). A forward hook on a fusion point's submodule switches to the
scheduler with the submodule's output and returns, in its place, what the scheduler sends back after fusing.
"""

import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import nn

from msafusion.streams import FusionError

try:
    from jaxtyping._storage import _shape_storage  # private: it has no public way to keep coroutines apart
except ImportError:  # another version keeps its sizes elsewhere; only checked functions around a point suffer
    _shape_storage = threading.local()

AUTOCAST_DEVICES = ("cpu", "cuda")

FuseAt = Callable[[int, dict[str, Any]], dict[str, Any]]
"""(fusion point, {network: submodule output}) -> {network: output to go on with}."""

not_traced = torch.compiler.disable(recursive=False)
"""For every function here: torch.compile leaves its frame alone and goes on compiling the networks that it calls."""


class ThreadState(NamedTuple):
    """What torch keeps per thread and a network may have changed with a `with` block around a fusion point."""

    grad: bool
    autocast: tuple[tuple[bool, torch.dtype], ...]
    autocast_cache: bool
    shape_memos: tuple[Any, ...]  # of jaxtyping: the axis sizes bound in the checked functions that are under way

    @classmethod
    @not_traced
    def now(cls) -> "ThreadState":
        """As it is for the calling thread."""
        autocast = tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in AUTOCAST_DEVICES)
        memos = tuple(getattr(_shape_storage, "memo_stack", ()))
        return cls(torch.is_grad_enabled(), autocast, torch.is_autocast_cache_enabled(), memos)

    @not_traced
    def restore(self) -> None:
        """Set the calling thread's state to this."""
        torch.set_grad_enabled(self.grad)
        for device, (enabled, dtype) in zip(AUTOCAST_DEVICES, self.autocast, strict=True):
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(self.autocast_cache)
        _shape_storage.memo_stack = list(self.shape_memos)


class Surroundings(NamedTuple):
    """What tells that code runs inside an activation checkpoint: compared at a point with the network's entry."""

    grad: bool
    inference: bool
    saved_tensor_hooks: object
    backward_task: int

    @classmethod
    @not_traced
    def now(cls) -> "Surroundings":
        """Those of the calling code."""
        hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)  # pyright: ignore[reportAttributeAccessIssue]
        if hooks is not None and getattr(hooks[0], "__module__", "") == "torch.autograd.graph":
            hooks = None  # save_on_cpu moves activations but recomputes nothing
        return cls(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), hooks, torch._C._current_graph_task_id())


class Identity:
    """Tells the hooks of one fused network from another's; copied and pickled along with both."""


class PointHook:
    """Forward hook of one network's submodule at one fusion point; does nothing unless its fused network runs."""

    def __init__(self, owner: Identity, network: str, point: int) -> None:
        self.owner, self.network, self.point = owner, network, point

    @not_traced
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Stop here until all have arrived, and go on with the fused output."""
        run = NetworkRun.current()
        if run is not None and run.owner is self.owner and run.network == self.network:
            return run.arrive(self.point, output)
        return None


class NestedGuard:
    """Forward pre-hook of a TransformerEncoder's first layer: one line where the encoder packs its input."""

    def __init__(self, owner: Identity, network: str) -> None:
        self.owner, self.network = owner, network

    @not_traced
    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Refuse nested tensors, which layers with fusion points cannot take."""
        run = NetworkRun.current()
        if run is None or run.owner is not self.owner or run.network != self.network:
            return
        if args and isinstance(args[0], torch.Tensor) and args[0].is_nested:
            raise FusionError(
                f"network '{self.network}': its nn.TransformerEncoder packs padded input into nested tensors in eval "
                "mode, which cannot be fused; build it with enable_nested_tensor=False, or set "
                "encoder.use_nested_tensor = False."
            )


class Arrival(NamedTuple):
    """A network has reached a fusion point and waits there with its submodule's output."""

    point: int
    output: Any


class NetworkRun(greenlet):
    """One network's forward call, suspended at fusion points."""

    @not_traced
    def __init__(self, owner: Identity, network: str, call: Callable[[], Any], where: list[str]) -> None:
        super().__init__(call)
        self.owner, self.network, self.where = owner, network, where
        self.passed: set[int] = set()
        self.entry, self.scheduler_state = Surroundings.now(), ThreadState.now()
        self.gr_context = contextvars.copy_context()

    @staticmethod
    @not_traced
    def current() -> "NetworkRun | None":
        """The run that the calling code is part of."""
        run = getcurrent()
        return run if isinstance(run, NetworkRun) else None

    @not_traced
    def arrive(self, point: int, output: Any) -> Any:
        """Wait at a fusion point; returns the fused output."""
        here = f"network '{self.network}' at fusion point {self.where[point]}"
        if point in self.passed:
            raise FusionError(
                f"{here}: the submodule ran twice in one forward call, expected once; fuse at a module that runs once "
                "(one that calls it for all its inputs and returns a dict or tuple of streams)."
            )
        self.passed.add(point)
        if Surroundings.now() != self.entry:
            raise FusionError(
                f"{here}: the submodule runs inside an activation-checkpointed region, or a no_grad or inference_mode "
                "block, where recomputation would skip the fusion; turn checkpointing off for this network, fuse "
                "outside that region, or checkpoint the whole fused network instead."
            )
        own_state = ThreadState.now()
        self.scheduler_state.restore()
        assert self.parent is not None
        try:
            return self.parent.switch(Arrival(point, output))
        finally:
            own_state.restore()


@not_traced
def run_in_lockstep(
    owner: Identity,
    calls: Mapping[str, Callable[[], Any]],
    points: list[frozenset[str]],
    where: list[str],
    fuse_at: FuseAt,
) -> dict[str, Any]:
    """Run networks until all have finished; return each one's output.

    Args:
        owner: of the hooks that take part.
        calls: network name -> its forward call, for the networks that run this time.
        points: for each fusion point the networks that meet there; those that do not run are not waited for.
        where: for each fusion point its name in error messages.
        fuse_at: called where networks meet.

    Raises:
        FusionError: a point is not reached, is reached twice or in different orders, or lies in a checkpointed region.
    """
    runs = {name: NetworkRun(owner, name, call, where) for name, call in calls.items()}
    state = ThreadState.now()
    outputs: dict[str, Any] = {}
    waiting: dict[str, Arrival] = {}
    resume: dict[str, tuple[Any, ...]] = dict.fromkeys(runs, ())
    fused: set[int] = set()
    try:
        while resume:
            for name, values in resume.items():
                message = _switch(runs[name], values)
                if isinstance(message, Arrival) and not runs[name].dead:
                    waiting[name] = message
                else:
                    outputs[name] = message
            resume = {}
            for index, members in enumerate(points):
                expected = [name for name in runs if name in members]
                if expected and all(name in waiting and waiting[name].point == index for name in expected):
                    results = fuse_at(index, {name: waiting.pop(name).output for name in expected})
                    fused.add(index)
                    resume.update({name: (results[name],) for name in expected})
        for index, members in enumerate(points):
            if index not in fused and members & runs.keys():
                raise _never_met(index, members, runs, waiting, where)
        return outputs
    finally:
        for run in runs.values():
            if run and not run.dead:
                run.throw(GreenletExit)
        state.restore()


@not_traced
def _switch(run: NetworkRun, values: tuple[Any, ...]) -> Any:
    try:
        return run.switch(*values)
    except FusionError:
        raise
    except Exception as error:
        error.add_note(f"raised by network '{run.network}' inside the fused network")
        raise


def _never_met(
    index: int,
    members: frozenset[str],
    runs: Mapping[str, NetworkRun],
    waiting: Mapping[str, Arrival],
    where: list[str],
) -> FusionError:
    for name in sorted(members & runs.keys()):
        if index in runs[name].passed:
            continue
        if name not in waiting:
            return FusionError(
                f"network '{name}' ended without running its submodule of fusion point {where[index]}; name a "
                "submodule that its forward calls every time (a layer dropped at random needs layerdrop = 0)."
            )
        elsewhere = where[waiting[name].point]
        return FusionError(
            f"network '{name}' reached fusion point {elsewhere} before {where[index]}, the others the other way round: "
            "all networks must reach their points in one order; reorder or remove one of the two points."
        )
    raise AssertionError(f"fusion point {where[index]} was reached by all and not fused")
