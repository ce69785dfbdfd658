"""Run several unmodified networks in lockstep: each stops at its fusion points until all have arrived.

Every network runs in a coroutine of its own (greenlet). A forward hook on a fusion point's submodule (`hooks`) switches
to the scheduler with the submodule's output and returns, in its place, what the scheduler sends back after fusing.
"""

import contextvars
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import Tensor
from torch.utils import _pytree as pytree

from msafusion.attach.state import ThreadState, not_traced
from msafusion.attach.surroundings import Surroundings
from msafusion.streams import FusionError

FuseAt = Callable[[int, dict[str, Any]], dict[str, Any]]
"""(fusion point, {network: submodule output}) -> {network: output to go on with}."""


class Arrival(NamedTuple):
    """A network has reached a fusion point and waits there with its submodule's output, gradients on or off."""

    point: int
    output: Any
    grad: bool


class NetworkRun(greenlet):
    """One network's forward call, suspended at fusion points."""

    @not_traced
    def __init__(
        self, owner: object, network: str, call: Callable[[], Any], where: Sequence[str], state: ThreadState
    ) -> None:
        super().__init__(call)
        self.owner, self.network, self.where = owner, network, where
        self.passed: set[int] = set()
        self.entry, self.scheduler_state = Surroundings.now(), state
        self.gr_context = contextvars.copy_context()
        self.recursion_limit = sys.getrecursionlimit()

    @staticmethod
    @not_traced
    def current() -> "NetworkRun | None":
        """The run that the calling code is part of."""
        run = getcurrent()
        return run if isinstance(run, NetworkRun) else None

    def belongs_to(self, owner: object, network: str) -> bool:
        """Whether this is the run of a network of the fused network with these hooks."""
        return self.owner is owner and self.network == network

    def around(self) -> "Iterator[NetworkRun]":
        """The runs that this one is part of, where fused networks are networks of others."""
        run = self.parent
        while run is not None:
            if isinstance(run, NetworkRun):
                yield run
            run = run.parent

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
        now = Surroundings.now()
        if (reason := now.refusal(self.entry)) is not None:
            raise FusionError(f"{here}: the submodule runs inside {reason}.")
        self.recursion_limit = sys.getrecursionlimit()
        own_state = ThreadState()
        self.scheduler_state.restore(own_state)
        assert self.parent is not None
        try:
            return self.parent.switch(Arrival(point, output, now.grad))
        finally:
            own_state.restore(self.scheduler_state)

    def make_room(self) -> None:
        """Raise the recursion limit to the one here: Python aborts where a run goes on deeper than the limit allows.

        So the limit is not exchanged, as other settings are, but only restored after the call.
        """
        sys.setrecursionlimit(max(self.recursion_limit, sys.getrecursionlimit()))


class Meeting:
    """Who meets at the fusion points of one call, as far as it has come.

    A network that may skip passes a point where it has ended, or waits at a later one of its order.

    Args:
        points: for each fusion point the networks that meet there.
        running: the networks that run this time.
        orders: network -> the points in the order in which it reaches them, for those that may skip.
    """

    def __init__(
        self, points: Sequence[Collection[str]], running: Collection[str], orders: Mapping[str, Sequence[int]]
    ) -> None:
        self.expected = [[name for name in running if name in members] for members in points]
        self.orders = orders
        self.waiting: dict[str, Arrival] = {}
        self.ended: set[str] = set()
        self.fused: set[int] = set()

    def skips(self, name: str, index: int) -> bool:
        """Whether a network has left out a point for sure."""
        if name not in self.orders:
            return False
        if name in self.ended:
            return True
        order = self.orders[name]
        return name in self.waiting and order.index(self.waiting[name].point) > order.index(index)

    def ready(self, index: int) -> list[str]:
        """The networks that wait at a point and for nobody else."""
        here = [n for n in self.expected[index] if n in self.waiting and self.waiting[n].point == index]
        return here if all(name in here or self.skips(name, index) for name in self.expected[index]) else []

    def unmet(self) -> int | None:
        """A point that some network had to reach, after all have stopped."""
        for index, expected in enumerate(self.expected):
            if index not in self.fused and not all(self.skips(name, index) for name in expected):
                return index
        return None


@not_traced
def run_in_lockstep(
    owner: object,
    calls: Mapping[str, Callable[[], Any]],
    points: Sequence[Collection[str]],
    where: Sequence[str],
    fuse_at: FuseAt,
    orders: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Run networks until all have finished; return each one's output.

    Args:
        owner: of the hooks that take part.
        calls: network name -> its forward call, for the networks that run this time.
        points: for each fusion point the networks that meet there; those that do not run are not waited for.
        where: for each fusion point its name in error messages.
        fuse_at: called where networks meet, with those that have come.
        orders: network name -> the points in its usual order, for networks that may skip some (layers dropped at
            random).

    Raises:
        FusionError: a point is not reached, is reached twice or in different orders, or lies in a block that
            `surroundings` refuses.
    """
    state, recursion_limit = ThreadState(), sys.getrecursionlimit()
    runs = {name: NetworkRun(owner, name, call, where, state) for name, call in calls.items()}
    meeting = Meeting(points, runs, orders or {})
    outputs: dict[str, Any] = {}
    resume: dict[str, tuple[Any, ...]] = dict.fromkeys(runs, ())
    try:
        while resume:
            for name, values in resume.items():
                message = _switch(runs[name], values)
                if isinstance(message, Arrival) and not runs[name].dead:
                    meeting.waiting[name] = message
                else:
                    outputs[name] = message
                    meeting.ended.add(name)
                    state.restore()  # a network may end in another state than it began in
            resume = {}
            for index in range(len(points)):
                if here := meeting.ready(index):
                    arrivals = {name: meeting.waiting.pop(name) for name in here}
                    results = _fused(fuse_at, index, arrivals)
                    meeting.fused.add(index)
                    resume.update({name: (results[name],) for name in here})
        if (index := meeting.unmet()) is not None:
            raise _never_met(index, runs, meeting, where)
        return outputs
    finally:
        state.restore()
        for run in runs.values():
            if run and not run.dead:
                run.make_room()
                run.throw(GreenletExit)
                state.restore()
        sys.setrecursionlimit(recursion_limit)


@not_traced
def _fused(fuse_at: FuseAt, index: int, arrivals: Mapping[str, Arrival]) -> dict[str, Any]:
    """What the networks go on with: as if each had fused by itself, with gradients on or off as it has them.

    A network may take gradients in an enable_grad block of its own, where the caller has none (forces, energies).
    """
    outputs = {name: arrival.output for name, arrival in arrivals.items()}
    wanted = any(arrival.grad for arrival in arrivals.values())
    if wanted == torch.is_grad_enabled():
        return fuse_at(index, outputs)
    with torch.set_grad_enabled(wanted):
        results = fuse_at(index, outputs)
    return {
        name: result if arrivals[name].grad else pytree.tree_map_only(Tensor, Tensor.detach, result)
        for name, result in results.items()
    }


@not_traced
def _switch(run: NetworkRun, values: tuple[Any, ...]) -> Any:
    run.make_room()
    try:
        return run.switch(*values)
    except FusionError:
        raise
    except Exception as error:
        error.add_note(f"raised by network '{run.network}' inside the fused network")
        raise


def _never_met(index: int, runs: Mapping[str, NetworkRun], meeting: Meeting, where: Sequence[str]) -> FusionError:
    waiting = meeting.waiting
    for name in sorted(meeting.expected[index]):
        if index in runs[name].passed or meeting.skips(name, index):
            continue
        if name not in waiting:
            return FusionError(
                f"network '{name}' ended without running its submodule of fusion point {where[index]}; name a "
                "submodule that its forward calls every time (layers may be dropped at random in training only)."
            )
        elsewhere = where[waiting[name].point]
        return FusionError(
            f"network '{name}' reached fusion point {elsewhere} before {where[index]}, the others the other way round: "
            "all networks must reach their points in one order; reorder or remove one of the two points."
        )
    raise AssertionError(f"fusion point {where[index]} was reached by all and not fused")
