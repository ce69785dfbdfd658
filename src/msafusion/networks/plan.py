"""What a whole fused network is described by: options, and how to build it for the streams of a data set."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from msafusion.attach import FusedNetwork, fuse

Init = Literal["identity", "paper"]


class NetworkPlan(ABC):
    """A network described by options (the arguments of its constructor, all kept as attributes of the same name).

    Attributes:
        typical_channels: stream -> channels of the data it was made for.
        typical_outputs: number of outputs for that data.

    Examples:
        >>> from msafusion import fuse
        >>> from msafusion.backbones import CNN1d
        >>> from msafusion.networks import NetworkPlan
        >>> class Late(NetworkPlan):
        ...     typical_channels, typical_outputs = {"accelerometer": 3, "gyroscope": 3}, 7
        ...     def build(self, channels, num_outputs):
        ...         return fuse({stream: CNN1d(count, num_outputs) for stream, count in channels.items()}, head="mean")
        ...     def typical_shapes(self):
        ...         return {stream: (count, 200) for stream, count in self.typical_channels.items()}
        >>> Late().as_dict()
        {'name': 'Late', 'options': {}}
    """

    typical_channels: ClassVar[Mapping[str, int]]
    typical_outputs: ClassVar[int]

    @property
    def cpu_threads(self) -> int | None:
        """Threads that its operations are worth on a CPU; None: all."""
        return None

    @abstractmethod
    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """The network, with new weights, for streams of so many channels and a prediction of `num_outputs`."""

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], channels: Mapping[str, int]) -> "NetworkPlan":
        """This plan with what it leaves open decided by the data; it is what is saved with a model.

        Args:
            shapes: of one sample's inputs, without the batch axis.
            channels: stream -> channels.
        """
        return self

    def with_fusion(self, fusion: str, options: Mapping[str, Any]) -> "NetworkPlan":
        """The same networks with another fusion method, of `FUSIONS` or `HEADS`.

        Raises:
            ValueError: the plan's fusion is its own.
        """
        raise ValueError(
            f"the fusion of network {type(self).__name__} is its own, expected one whose method can be chosen; use "
            "--network SmallCNN."
        )

    @abstractmethod
    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample of each stream (without the batch axis), as large as in the data it was made for."""

    def unimodal(self, net: FusedNetwork, stream: str, num_outputs: int) -> FusedNetwork:
        """One network of `net`, sharing its weights, as it is trained by itself in the first stage."""
        axis = net.input_rules[stream].time_axis
        return fuse({stream: net.networks[stream]}, time_axis=None if axis is None else {stream: axis})

    def as_dict(self) -> dict[str, Any]:
        """Name and options, from which `plan_from` makes the plan again."""
        return {"name": type(self).__name__, "options": dict(vars(self))}

    def check_streams(self, channels: Mapping[str, int], expected: Mapping[str, int | None]) -> None:
        """Refuse a data set whose streams are not those that the network is made for.

        Args:
            channels: the data set's.
            expected: stream -> channels, None for any number.

        Raises:
            ValueError: they are not.
        """
        fits = channels.keys() == expected.keys() and all(
            count in (None, channels[stream]) for stream, count in expected.items()
        )
        if not fits:
            wanted = ", ".join(stream if n is None else f"{stream} ({n})" for stream, n in expected.items())
            raise ValueError(
                f"network {type(self).__name__} got the streams {dict(channels)}, expected {wanted}; choose another "
                "--network (SmallCNN takes any streams) or another --data."
            )
